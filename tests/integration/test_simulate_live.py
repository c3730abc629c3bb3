"""`simulate --kafka`: a fleet onto a real topic, moment by moment, and what every wrong option says."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time

import pytest

from stream_detector.records import parse_time
from stream_detector.simulate import live
from stream_detector.streaming.topics import read_topic
from tests.integration.commands import fresh, run, start

BEGIN_MS = 1_767_571_200_000


def test_a_fleet_is_sent_to_its_last_row(kafka: str, topic: str) -> None:
    """Every reading once, dated from now on at the squeezed pace; faults are printed as they begin."""
    settings = fresh(kafka, topic)
    began_ms = time.time() * 1000
    done = run(
        settings, "simulate", "--kafka", "--sensors", 3, "--rows", 400, "--faults", 2, "--pace", 60000, "--seed", 3
    )
    assert done.returncode == 0, done.stderr
    records = list(read_topic(settings, settings.readings_topic))
    readings = [json.loads(record.value or b"") for record in records]
    assert {record.key.decode() for record in records if record.key} == {one["sensor_id"] for one in readings}
    assert len(readings) == len({(one["sensor_id"], one["timestamp"]) for one in readings}) == 3 * 400
    times = sorted({one["timestamp"] for one in readings})
    assert began_ms - 1 <= times[0] <= began_ms + 20_000
    assert {b - a for a, b in itertools.pairwise(times)} == {5}
    assert "1200 readings with 6 faults" in done.stderr
    faults = [line for line in done.stdout.splitlines() if "  fault  simulated-machine-" in line]
    assert len(faults) == 6
    assert all(times[0] <= parse_time(line.split()[0]) <= times[-1] for line in faults)


def test_an_endless_one_ends_when_it_is_told_to(kafka: str, topic: str) -> None:
    """It goes beyond the last row; SIGTERM ends it with 0."""
    settings = fresh(kafka, topic)
    process = start(
        settings, "simulate", "--kafka", "--endless", "--sensors", 1, "--rows", 40, "--faults", 0, "--pace", 30000
    )
    ended = threading.Timer(60, process.kill)
    ended.start()
    while sum(1 for _ in read_topic(settings, settings.readings_topic)) <= 100:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    ended.cancel()
    assert process.returncode == 0, said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--output FILE or --kafka"),
        (["--kafka", "--output", "x.csv"], "one of the two"),
        (["--output", "x.csv", "--pace", "2"], "are for --kafka"),
        (["--kafka", "--pace", "0"], "the pace of plant must be above 0"),
        (["--kafka", "--field", "garden"], "garden"),
    ],
)
def test_what_it_cannot_do_is_said(kafka: str, topic: str, arguments: list[str], said: str) -> None:
    """With exit code 2."""
    done = run(fresh(kafka, topic), "simulate", *arguments)
    assert (done.returncode, said in " ".join(done.stderr.split())) == (2, True), done.stderr


def test_the_same_machines_go_on_without_end() -> None:
    """Times rise evenly over the seam, and the days of the machines go on."""
    moments = live("plant", 2, 50, 1, 0, BEGIN_MS, pace=300, endless=True)
    some = [next(moments) for _ in range(120)]
    assert [one.time_ms - BEGIN_MS for one in some] == [1000 * i for i in range(120)]
    assert {one.sensor_ids for one in some} == {("simulated-machine-001", "simulated-machine-002")}
