"""Health and numbers over HTTP of a worker and a trainer at work: alive, ready, and neither when that is so."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream_detector.detect.scoring import Scorer
from stream_detector.local import LocalKafka, LocalRedis
from stream_detector.local.server import free_ports
from stream_detector.models.interface import Scores
from stream_detector.records import Floats32
from stream_detector.settings import (
    DetectorSettings,
    HttpSettings,
    QualitySettings,
    RedisSettings,
    Settings,
    TrainerSettings,
)
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import open_registry
from stream_detector.streaming.telemetry import Telemetry, serving
from stream_detector.streaming.trainer import Trainer
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from stream_detector.training.fit import Progress
from tests.integration.streams import alerts_of, make_topics, own_topics, plant, send, settings_for
from tests.integration.workers import wait_until

COMMAND = Path(sys.executable).with_name("stream-detector")
PARTITIONS, SENSORS = 3, 16
Made = dict[tuple[str, ...], Path]


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer; status 0 where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def totals(port: int) -> dict[str, float]:
    """The numbers of a scrape, by name, added up over their labels."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", ask(port, "/metrics")[1], re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def long_steps(port: int) -> int:
    """How many batches took more than 5 s to be judged."""
    found = re.findall(
        r'seconds_bucket{le="(?:5\.0|\+Inf)",stage="detect"} (\S+)$', ask(port, "/metrics")[1], re.MULTILINE
    )
    quick, every = map(float, found)
    return int(every - quick)


class AtWork(threading.Thread):
    """A worker with its own port; `hang` makes its loop stand still before the next save."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        super().__init__(daemon=True)
        self.going = threading.Event()
        self.going.set()
        profiles = Profiles(settings, Weights(settings.detector.window).artifact)
        self.worker = Worker(settings, profiles, lambda place: self._pass(place), telemetry=telemetry)

    def _pass(self, place: str) -> None:
        if place == "before save":
            self.going.wait(60)

    def run(self) -> None:
        """Let it work."""
        self.worker.run()

    def stop(self) -> None:
        """End it cleanly."""
        self.going.set()
        self.worker.stopping = True
        self.join(30)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalRedis]:
    """A store of the test's own, which it may stop."""
    with LocalRedis(tmp_path / "redis", keep=True) as found:
        yield found


def test_a_scrape_under_load_is_the_truth(kafka: str, redis_url: str, topic: str, made: Made) -> None:
    """What /metrics says at the end is what was sent and told; while it works numbers only grow."""
    settings = settings_for(kafka, redis_url, topic, made)
    make_topics(settings, PARTITIONS)
    stream, telemetry = plant(SENSORS, 420, PARTITIONS), Telemetry()
    with serving(telemetry, HttpSettings(port=free_ports(1)[0])) as port:
        running = AtWork(settings, telemetry)
        running.start()
        scrapes = []
        for begin in range(0, len(stream.messages), 1500):
            send(settings, stream.messages[begin : begin + 1500])
            scrapes.append(totals(port).get("stream_detector_readings_total", 0.0))
        send(settings, [(0, b"x", b"no reading")])
        wait_until(lambda: totals(port).get("stream_detector_dead_letters_total") == 1, "the bad message is counted")
        wait_until(lambda: totals(port).get("stream_detector_sensors") == SENSORS, "the sensors are counted", 15)
        found = totals(port)
        running.stop()
    assert scrapes == sorted(scrapes)
    assert found["stream_detector_readings_total"] == len(stream.messages)
    assert found["stream_detector_alerts_total"] == len(alerts_of(settings)) > 0
    assert found["stream_detector_windows_total"] == running.worker.counts.windows > 0
    assert found["stream_detector_duplicate_readings_total"] > 0
    steps = found["stream_detector_steps_total"]
    assert found["stream_detector_delay_seconds_count"] == found["stream_detector_batch_fill_count"] == steps
    assert found["stream_detector_transactions_total"] >= steps > 0
    assert 0 < found["stream_detector_delay_seconds_sum"] / steps < 60


def test_a_loop_that_hangs_is_not_alive(kafka: str, redis_url: str, topic: str, made: Made) -> None:
    """Until it comes round again."""
    settings = settings_for(kafka, redis_url, topic, made)
    make_topics(settings, PARTITIONS)
    telemetry = Telemetry(hangs_after_s=2.0)
    with serving(telemetry, HttpSettings(port=free_ports(1)[0])) as port:
        running = AtWork(settings, telemetry)
        running.start()
        wait_until(lambda: ask(port, "/readyz")[0] == 200, "it is ready")
        assert ask(port, "/livez") == (200, "alive\n")
        running.going.clear()
        send(settings, plant(SENSORS, 100, PARTITIONS).messages)
        wait_until(lambda: ask(port, "/livez") == (503, "the loop hangs\n"), "it is known to hang", 15)
        running.going.set()
        wait_until(lambda: ask(port, "/livez")[0] == 200, "it is alive again", 15)
        running.stop()


def test_a_long_step_is_not_a_hang(
    kafka: str, redis_url: str, topic: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a batch takes longer than a hang, its windows that are scored one bucket after another show the life."""
    settings = settings_for(kafka, redis_url, topic, made)
    make_topics(settings, PARTITIONS)
    monkeypatch.setattr("stream_detector.detect.scoring.BUCKET", 8)
    call = Scorer._call

    def slow(self: Scorer, part: Floats32, steps: int) -> Scores:
        time.sleep(0.4)
        return call(self, part, steps)

    monkeypatch.setattr(Scorer, "_call", slow)
    telemetry = Telemetry(hangs_after_s=4.0)
    with serving(telemetry, HttpSettings(port=free_ports(1)[0])) as port:
        running = AtWork(settings, telemetry)
        running.start()
        wait_until(lambda: ask(port, "/readyz")[0] == 200, "it is ready")
        send(settings, plant(SENSORS, 100, PARTITIONS).messages)
        said, deadline = set(), time.monotonic() + 60
        while not (long := long_steps(port)) and time.monotonic() < deadline:
            said.add(ask(port, "/livez"))
            time.sleep(0.05)
        running.stop()
    assert long, "no step was long enough to be taken for a hang"
    assert said == {(200, "alive\n")}


def test_a_worker_without_its_store_is_not_ready(kafka: str, store: LocalRedis, topic: str, made: Made) -> None:
    """Also when there is nothing to read; it is again when the store is back."""
    settings = settings_for(kafka, store.url, topic, made)
    make_topics(settings, PARTITIONS)
    telemetry = Telemetry()
    with serving(telemetry, HttpSettings(port=free_ports(1)[0])) as port:
        running = AtWork(settings, telemetry)
        running.start()
        wait_until(lambda: ask(port, "/readyz")[0] == 200, "it is ready")
        store.kill()
        wait_until(lambda: ask(port, "/readyz")[0] == 503, "it misses the store", 30)
        store.start()
        wait_until(lambda: ask(port, "/readyz")[0] == 200, "it has found the store again", 40)
        assert ask(port, "/livez")[0] == 200
        running.stop()


class Training(threading.Thread):
    """A trainer in this process; it stands still in a round until `going` is set."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        super().__init__(daemon=True)
        self.going, self.reached = threading.Event(), threading.Event()
        self.registry = open_registry(settings)
        self.trainer = Trainer(settings, self.registry, self._bars, telemetry=telemetry)

    @contextmanager
    def _bars(self) -> Iterator[Callable[[str], Progress]]:
        self.reached.set()
        self.going.wait(60)
        yield lambda name: lambda done, total, loss: None

    def run(self) -> None:
        """Let it work."""
        self.trainer.run()

    def stop(self) -> None:
        """End it cleanly."""
        self.going.set()
        self.trainer.stop()
        self.join(60)
        self.registry.close()


def trainer_settings(kafka: str, redis_url: str, topic: str, directory: Path) -> Settings:
    """Settings of a trainer with topics, a registry and a directory of its own."""
    return Settings(
        detector=DetectorSettings(model="moving-z", window=24),
        quality=QualitySettings(clock_ahead="36500d"),
        kafka=own_topics(kafka, topic),
        redis=RedisSettings.model_validate({"url": redis_url, "prefix": topic}),
        trainer=TrainerSettings(directory=directory),
    )


def test_a_trainer_that_hangs_is_not_alive(kafka: str, redis_url: str, topic: str, tmp_path: Path) -> None:
    """Until it goes on."""
    settings = trainer_settings(kafka, redis_url, topic, tmp_path)
    make_topics(settings, PARTITIONS)
    send(settings, [one for one in plant(SENSORS, 420, PARTITIONS).messages if one[1].startswith(b"pump")])
    telemetry = Telemetry(hangs_after_s=2.0)
    with serving(telemetry, HttpSettings(port=free_ports(1)[0])) as port:
        running = Training(settings, telemetry)
        running.start()
        assert running.reached.wait(60)
        wait_until(lambda: ask(port, "/livez") == (503, "the loop hangs\n"), "it is known to hang", 15)
        running.going.set()
        name = "stream_detector_trainer_training_seconds_count"
        wait_until(lambda: totals(port).get(name) == 1, "the line is trained")
        wait_until(lambda: ask(port, "/livez")[0] == 200, "it is alive again", 15)
        running.stop()
    assert not running.is_alive()


def test_a_trainer_without_its_broker_is_not_ready(
    redis_url: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between rounds, when it would read nothing for hours; it is again when the broker is back."""
    monkeypatch.setattr("stream_detector.streaming.trainer.BROKER_EVERY_S", 0.5)
    with LocalKafka(tmp_path / "kafka") as broker:
        settings = trainer_settings(broker.address, redis_url, topic, tmp_path / "kept")
        make_topics(settings, PARTITIONS)
        send(settings, [one for one in plant(SENSORS, 420, PARTITIONS).messages if one[1].startswith(b"pump")])
        telemetry = Telemetry()
        with serving(telemetry, HttpSettings(port=free_ports(1)[0])) as port:
            running = Training(settings, telemetry)
            running.going.set()
            running.start()
            name = "stream_detector_trainer_last_success_timestamp_seconds"
            wait_until(lambda: totals(port).get(name, 0) > 0, "a round is done", 120)
            wait_until(lambda: ask(port, "/readyz")[0] == 200, "it is ready", 120)
            broker.pause()
            wait_until(lambda: ask(port, "/readyz")[0] == 503, "it misses the broker", 120)
            broker.resume()
            wait_until(lambda: ask(port, "/readyz")[0] == 200, "it has found the broker again", 120)
            assert ask(port, "/livez")[0] == 200
            running.stop()


def test_a_trainer_is_alive_ready_and_counts(kafka: str, store: LocalRedis, topic: str, tmp_path: Path) -> None:
    """On the same three paths, with JSON lines for a log; without its store it is not ready, and then again."""
    port = free_ports(1)[0]
    given = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka,
        "KAFKA__GROUP_ID": topic,
        **{f"KAFKA__{name.upper()}_TOPIC": f"{topic}-{name}" for name in ("readings", "alerts", "feedback", "events")},
        "REDIS__URL": store.url,
        "DETECTOR__MODEL": "moving-z",
        "DETECTOR__WINDOW": "24",
        "QUALITY__CLOCK_AHEAD": "36500d",
        "HTTP__PORT": str(port),
        "TRAINER__DIRECTORY": str(tmp_path / "kept"),
    }
    environment = {**os.environ, **{f"STREAM_DETECTOR_{name}": value for name, value in given.items()}}
    settings = Settings().model_copy(
        update={
            "kafka": Settings().kafka.model_copy(
                update={"bootstrap_servers": kafka, "readings_topic": f"{topic}-readings"}
            )
        }
    )
    make_topics(settings, PARTITIONS)
    pumps = [one for one in plant(SENSORS, 420, PARTITIONS).messages if one[1].startswith(b"pump")]
    send(settings, pumps)
    process = subprocess.Popen(
        [COMMAND, "trainer", "--log-format", "json"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: ask(port, "/readyz")[0] == 200, "it is ready")
        name = "stream_detector_trainer_last_success_timestamp_seconds"
        wait_until(lambda: totals(port).get(name, 0) > time.time() - 60, "a round is done")
        found = totals(port)
        assert found["stream_detector_trainer_refreshes_total"] == 1
        assert found["stream_detector_trainer_readings_total"] == len(pumps)
        assert found["stream_detector_trainer_lease"] == 1
        assert found["stream_detector_trainer_round_seconds_count"] == 1
        assert found["stream_detector_trainer_training_seconds_count"] == 1
        assert ask(port, "/livez")[0] == 200
        store.kill()
        wait_until(lambda: ask(port, "/readyz")[0] == 503, "it misses the store", 40)
        store.start()
        wait_until(lambda: ask(port, "/readyz")[0] == 200, "it has found the store again", 40)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"time", "level", "logger", "message", "thread"} <= lines[0].keys()
    assert any("promoted" in line["message"] for line in lines)
    assert any(line["level"] == "WARNING" for line in lines)
