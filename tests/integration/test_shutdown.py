"""The command `worker` as a user types it: how it starts, how it ends, and what the next one finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from stream_detector import settings as all_settings
from stream_detector.local import LocalRedis
from stream_detector.local.server import free_ports
from stream_detector.settings import Settings
from tests.integration.streams import (
    Message,
    Running,
    drain,
    make_topics,
    outcome,
    plant,
    send,
    settings_for,
    told_twice,
    undisturbed,
)
from tests.integration.test_health import ask, totals
from tests.integration.workers import Feeder, progress, wait_for_progress, wait_until, wait_until_answered

COMMAND = Path(sys.executable).with_name("stream-detector")
PARTITIONS = 3
START_S = 30.0


@pytest.fixture
def pumps() -> list[Message]:
    """Readings of sensors with one channel."""
    return [one for one in plant(16, 420, PARTITIONS).messages if one[1].startswith(b"pump")]


@pytest.fixture
def environment(
    kafka: str,
    redis_url: str,
    topic: str,
    made: dict[tuple[str, ...], Path],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> dict[str, str]:
    """All that the command is told."""
    # Long, so that nobody can take over just because it is over.
    session_timeout_ms = getattr(request, "param", "40000")
    given = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka,
        "KAFKA__GROUP_ID": topic,
        "KAFKA__READINGS_TOPIC": f"{topic}-readings",
        "KAFKA__ALERTS_TOPIC": f"{topic}-alerts",
        "KAFKA__DEAD_LETTERS_TOPIC": f"{topic}-dead",
        "KAFKA__FEEDBACK_TOPIC": f"{topic}-feedback",
        "KAFKA__EVENTS_TOPIC": f"{topic}-events",
        "REDIS__URL": redis_url,
        "DETECTOR__MODEL": str(made["value",]),
        "DETECTOR__WINDOW": "24",
        "DETECTOR__BUDGET": "1 per 400 readings",
        "WORKER__SLOT": "typed",
        "WORKER__SESSION_TIMEOUT_MS": session_timeout_ms,
    }
    for name in [name for name in os.environ if name.startswith("STREAM_DETECTOR_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(f"STREAM_DETECTOR_{name}", value)
    return dict(os.environ)


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings that the command makes of its environment, the topics made."""
    found = all_settings.load(None)
    make_topics(found, PARTITIONS)
    return found


@pytest.fixture
def typed(environment: dict[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Commands that a test starts; those that are left are killed."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(typed: list[subprocess.Popen[str]], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Type the command."""
    typed.append(
        subprocess.Popen(
            [COMMAND, "worker"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    )
    return typed[-1]


def ended(process: subprocess.Popen[str], number: int, limit_s: float) -> tuple[int, str]:
    """The exit code, and what was said, after a signal; TimeoutExpired where it takes longer."""
    process.send_signal(number)
    _, said = process.communicate(timeout=limit_s)
    return process.returncode, said


def test_a_worker_that_is_told_to_stop_loses_nothing(
    settings: Settings, environment: dict[str, str], typed: list[subprocess.Popen[str]], pumps: list[Message]
) -> None:
    """SIGTERM ends it with 0 amid its work; SIGINT with 130; the next begins at once where the last one left off."""
    feeder = Feeder(settings, pumps, 14)
    feeder.start()
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        before = progress(settings)
        process = start(typed, environment)
        wait_for_progress(settings, before)
        returned, said = ended(process, number, 10)
        assert (returned, "Traceback" in said) == (code, False), said
    last = start(typed, environment)
    feeder.finish()
    wait_until_answered(settings, 25)
    assert ended(last, signal.SIGTERM, 10)[0] == 0
    found, wanted = outcome(settings, PARTITIONS), undisturbed(settings, pumps)
    assert len(wanted.lives) > 3
    assert found.differences(wanted) == []


def test_another_worker_takes_over_at_once(
    kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path]
) -> None:
    """A worker that stops leaves the group: nobody waits for the session time-out."""
    settings = settings_for(kafka, redis_url, topic, made)
    patient = settings.worker.model_copy(update={"session_timeout_ms": 40_000})
    make_topics(settings, PARTITIONS)
    first, second = (
        Running(settings.model_copy(update={"worker": patient.model_copy(update={"slot": slot})})) for slot in "ab"
    )
    first.start()
    wait_until(lambda: len(first.worker.holdings.held) == PARTITIONS, "the first holds all")
    second.start()
    wait_until(lambda: second.worker.holdings.held, "the second holds some")
    send(settings, plant(16, 120, PARTITIONS).messages)
    first.stop()
    began = time.monotonic()
    wait_until(lambda: len(second.worker.holdings.held) == PARTITIONS, "the second holds all", 20)
    wait_until_answered(settings, 10)
    assert time.monotonic() - began < 10
    second.stop()
    assert first.error is second.error is None


def children(process: subprocess.Popen[str]) -> set[int]:
    """The processes that a process has started and that run."""
    return set(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


@pytest.mark.parametrize("environment", ["6000"], indirect=True)
def test_a_worker_of_several_processes_loses_nothing_with_one_of_them(
    settings: Settings, environment: dict[str, str], typed: list[subprocess.Popen[str]], pumps: list[Message]
) -> None:
    """One is killed amid its work: it comes back by itself, no alert is lost or doubled, and all stop together."""
    port = free_ports(1)[0]
    environment |= {"STREAM_DETECTOR_HTTP__PORT": str(port), "STREAM_DETECTOR_WORKER__PROCESSES": "2"}
    process = start(typed, environment)
    wait_until(lambda: ask(port, "/readyz")[0] == 200, "both are ready", 90)
    before = children(process)
    assert len(before) == 2
    feeder = Feeder(settings, pumps, 20)
    feeder.start()
    wait_for_progress(settings, 200)
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(children(process) - before) == 1, "another is started", 30)
    assert children(process) & before == {max(before)}
    wait_until(lambda: ask(port, "/readyz")[0] == 200, "both are ready again", 90)
    assert totals(port)["stream_detector_process_restarts_total"] == 1
    feeder.finish()
    wait_until_answered(settings)
    assert all(ask(port + 1 + number, "/livez")[0] == 200 for number in range(2))
    last = children(process)
    returned, said = ended(process, signal.SIGTERM, 60)
    assert (returned, "Traceback" in said) == (0, False), said
    assert "ended with SIGKILL; it is started again" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in last)
    found, wanted = outcome(settings, PARTITIONS), undisturbed(settings, pumps)
    assert len(wanted.lives) > 3
    assert found.differences(wanted) == []
    assert told_twice(settings) == []


def test_processes_do_not_outlive_the_one_that_watches_over_them(
    settings: Settings, environment: dict[str, str], typed: list[subprocess.Popen[str]]
) -> None:
    """It is killed at once, and cannot tell them: they end by themselves."""
    environment |= {"STREAM_DETECTOR_HTTP__PORT": "0", "STREAM_DETECTOR_WORKER__PROCESSES": "2"}
    process = start(typed, environment)
    wait_until(lambda: len(children(process)) == 2, "both run")
    left = children(process)
    process.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), "both have ended", 90)


@pytest.mark.parametrize(
    ("name", "scheme", "server"), [("KAFKA__BOOTSTRAP_SERVERS", "", "Kafka"), ("REDIS__URL", "redis://", "Redis")]
)
def test_a_wrong_address_is_said_in_one_sentence(
    settings: Settings, environment: dict[str, str], name: str, scheme: str, server: str
) -> None:
    """Exit code 1, what was tried and what to do; no traceback."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    done = subprocess.run(
        [COMMAND, "worker"],
        env={**environment, f"STREAM_DETECTOR_{name}": scheme + address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said.startswith(f"error: {server} at {address} cannot be reached")
    assert name.split("__")[0].lower() in said
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["6000"], indirect=True)
def test_a_store_that_hangs_does_not_hold_a_stop_up(
    settings: Settings,
    environment: dict[str, str],
    typed: list[subprocess.Popen[str]],
    pumps: list[Message],
    tmp_path: Path,
) -> None:
    """SIGTERM while the store does not answer: it ends within worker.shutdown_timeout_ms, and nothing is lost."""
    half = len(pumps) // 2
    with LocalRedis(tmp_path / "redis", keep=True) as store:
        environment |= {"STREAM_DETECTOR_REDIS__URL": store.url, "STREAM_DETECTOR_WORKER__SHUTDOWN_TIMEOUT_MS": "3000"}
        process = start(typed, environment)
        send(settings, pumps[:half])
        wait_until_answered(settings)
        store.pause()
        send(settings, pumps[half:])
        time.sleep(1)
        began = time.monotonic()
        returned, said = ended(process, signal.SIGTERM, 60)
        assert time.monotonic() - began < 6
        assert returned == 1
        assert "the stop took longer than worker.shutdown_timeout_ms (3000 ms)" in said
        store.resume()
        url = {"redis": settings.redis.model_copy(update={"url": SecretStr(store.url)})}
        found = settings.model_copy(update=url)
        drain(found, PARTITIONS)
        assert outcome(found, PARTITIONS).differences(undisturbed(found, pumps)) == []
