"""Watching over processes: what is started again, what ends all, and how they stop; first tiny ones, then workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream_detector.cli.worker import environments
from stream_detector.errors import ConfigError
from stream_detector.settings import DetectorSettings, HttpSettings, Settings, WorkerSettings
from stream_detector.streaming import processes
from stream_detector.streaming.processes import Child, Processes
from stream_detector.streaming.telemetry import Telemetry

WAITS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(60)"
DEAF = "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path({!r}).touch(); "
LIMIT_S = 30.0


def child(name: str, program: str) -> Child:
    """A process that runs a line of Python."""
    return Child(name, [sys.executable, "-c", program], os.environ)


def until(true: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def watched(*children: Child, stop_limit_s: float = 10.0) -> Iterator[tuple[Processes, Telemetry]]:
    """Children that are watched over while the block lasts."""
    telemetry = Telemetry()
    running = Processes(children, telemetry, stop_limit_s)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running, telemetry
    finally:
        running.stop()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def restarts(telemetry: Telemetry, name: str) -> float:
    """How often a process was started again."""
    return telemetry.registry.get_sample_value("stream_detector_process_restarts_total", {"process": name}) or 0.0


def test_one_that_is_killed_is_started_again_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """What ended it is told; at the end none is left."""
    first, second = child("0", WAITS), child("1", WAITS)
    with watched(first, second) as (_, telemetry):
        until(lambda: first.process and second.process)
        assert first.process is not None
        assert second.process is not None
        former, other = first.process, second.process
        former.send_signal(signal.SIGKILL)
        until(lambda: first.process is not None and first.process is not former)
        assert second.process is other
        assert (restarts(telemetry, "0"), restarts(telemetry, "1")) == (1, 0)
        assert "process 0 ended with SIGKILL; it is started again in 0.5 s" in caplog.text
        last = first.process
    assert last.poll() is not None
    assert other.poll() is not None


def test_the_pause_grows_while_it_dies_and_dies(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as long each time, up to a limit."""
    monkeypatch.setattr(processes, "PAUSE_S", (0.05, 0.2))
    dying = child("0", "raise SystemExit(1)")
    with watched(dying):
        until(lambda: dying.failures >= 4)
    said = [record.args[-1] for record in caplog.records if isinstance(record.args, tuple) and len(record.args) == 3]
    assert said[:4] == [0.05, 0.1, 0.2, 0.2]


def test_one_that_ran_for_long_begins_with_a_short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has got over what ended the ones before."""
    monkeypatch.setattr(processes, "PAUSE_S", (0.05, 0.2))
    monkeypatch.setattr(processes, "STEADY_S", 0.0)
    dying = child("0", "raise SystemExit(1)")
    with watched(dying) as (_, telemetry):
        until(lambda: restarts(telemetry, "0") >= 3)
    assert dying.failures == 0


def test_wrong_settings_end_all() -> None:
    """To start again would not help: exit code 2 is for the user."""
    good, bad = child("0", WAITS), child("1", "raise SystemExit(2)")
    with pytest.raises(ConfigError, match="process 1 cannot be run"):
        Processes([good, bad], Telemetry(), 10.0).run()
    assert good.process is not None
    assert good.process.poll() == 0


def test_one_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When its time is up."""
    monkeypatch.setattr(processes, "KILL_AFTER_S", 0.1)
    is_deaf = tmp_path / "deaf"
    deaf = child("0", DEAF.format(str(is_deaf)) + "time.sleep(60)")
    with watched(deaf, stop_limit_s=1.0):
        until(is_deaf.exists)
    assert deaf.process is not None
    assert deaf.process.poll() == -signal.SIGKILL


def test_all_are_ready_or_it_is_not() -> None:
    """Without a port nothing can be asked, and one that runs counts as ready."""
    first, second = child("0", WAITS), child("1", WAITS)
    with watched(first, second) as (_, telemetry):
        until(telemetry.ready)
        first.ready = False
        assert not telemetry.ready()
    assert telemetry.alive


def test_each_process_has_a_slot_and_a_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot is stable, so that a process that is started again ends what the one before left open."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    settings = Settings(
        worker=WorkerSettings(slot="here"), http=HttpSettings(port=9000), detector=DetectorSettings(device="cpu")
    )
    found = environments(settings, 3)
    assert [one["STREAM_DETECTOR_WORKER__SLOT"] for one in found] == ["here-0", "here-1", "here-2"]
    assert [one["STREAM_DETECTOR_HTTP__PORT"] for one in found] == ["9001", "9002", "9003"]
    assert all(int(one["OMP_NUM_THREADS"]) >= 1 for one in found)
    assert not any("STREAM_DETECTOR_DETECTOR__DEVICE" in one for one in found)
    silent = environments(settings.model_copy(update={"http": HttpSettings(port=0)}), 2)
    assert {one["STREAM_DETECTOR_HTTP__PORT"] for one in silent} == {"0"}


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are several, in turns."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    found = environments(Settings(worker=WorkerSettings(slot="here")), 3)
    assert [one["STREAM_DETECTOR_DETECTOR__DEVICE"] for one in found] == ["cuda:0", "cuda:1", "cuda:0"]


def test_ports_that_do_not_exist_are_refused() -> None:
    """Before anything is started."""
    with pytest.raises(ConfigError, match=r"http\.port 65530 leaves no room"):
        environments(Settings(http=HttpSettings(port=65530)), 6)
