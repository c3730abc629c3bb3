"""The worker against a real broker and store: the same alerts as on a file, through stops, takeovers and losses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream_detector.records import Alert
from stream_detector.settings import Settings
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.store import Store
from stream_detector.streaming.telemetry import Telemetry
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from tests.integration.crashing import PLACES
from tests.integration.streams import (
    Stream,
    alerts_of,
    by_incident,
    drain,
    make_topics,
    outcome,
    plant,
    send,
    settings_for,
    undisturbed,
)

Made = dict[tuple[str, ...], Path]
SENSORS, STEPS, PARTITIONS = 20, 420, 3
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def stream() -> Stream:
    """Some 8,000 readings."""
    return plant(SENSORS, STEPS, PARTITIONS)


def test_the_worker_tells_what_the_detector_tells(
    kafka: str, redis_url: str, topic: str, made: Made, stream: Stream
) -> None:
    """Through Kafka, Redis, batches and two lives of the worker: the same incidents, step by step, byte for byte."""
    settings = settings_for(kafka, redis_url, topic, made)
    make_topics(settings, PARTITIONS)
    half = len(stream.messages) // 2
    send(settings, stream.messages[:half])
    drain(settings, PARTITIONS)
    send(settings, stream.messages[half:])
    drain(settings, PARTITIONS)
    told = by_incident(alerts_of(settings))
    assert told == undisturbed(settings, stream.messages).lives
    alerts = [msgspec.json.decode(step, type=Alert) for life in told.values() for step in life]
    assert {alert.kind for alert in alerts} >= {"anomaly", "sensor_silent", "value_stuck"}
    assert any(len(alert.members) > 1 for alert in alerts)


def crash(settings: Settings, topic: str, made: Made, place: str, count: int) -> int:
    """Run a worker that kills itself at a place; how many messages it had saved and not told, as far as is known."""
    kafka, redis_url = settings.kafka.bootstrap_servers, settings.redis.url.get_secret_value()
    directory = made["value",].parent
    command = [sys.executable, "-m", "tests.integration.crashing", kafka, redis_url, topic, "killed", directory, place]
    done = subprocess.run([*map(str, command), str(count)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    with Store(settings.redis, settings.kafka.group_id) as store:
        claims = [store.claim(settings.kafka.readings_topic, partition) for partition in range(PARTITIONS)]
    return sum(len(entry.messages) for claim in claims for entry in claim.outbox)


def test_killed_at_every_step(kafka: str, redis_url: str, topic: str, made: Made, stream: Stream) -> None:
    """SIGKILL at each place of the protocol: the committed alerts and the states are those of a run without."""
    calm = settings_for(kafka, redis_url, topic, made, group="calm")
    killed = settings_for(kafka, redis_url, topic, made, group="killed")
    for settings in (calm, killed):
        make_topics(settings, PARTITIONS)
    # The faults lie in the second half: there the workers die, in portions, so that each has something to lose.
    half = len(stream.messages) // 2
    send(killed, stream.messages[:half])
    drain(killed, PARTITIONS)
    portions = np.array_split(np.arange(half, len(stream.messages)), len(PLACES) + 1)
    at_stake = {}
    for place, portion in zip((*PLACES, ""), portions, strict=True):
        send(killed, [stream.messages[i] for i in portion])
        if place:
            at_stake[place] = crash(killed, topic, made, place, 2)
    assert any(at_stake.values()), at_stake
    drain(killed, PARTITIONS)
    drain(calm, PARTITIONS)
    assert not outcome(killed, PARTITIONS).differences(outcome(calm, PARTITIONS))
    assert not outcome(killed, PARTITIONS).differences(undisturbed(calm, stream.messages))


def test_the_demo_tells_what_the_file_tells(tmp_path: Path) -> None:
    """As a user types it, with servers of its own: alerts come, faults are found, and they are those of the file."""
    command = [Path(sys.executable).with_name("stream-detector"), "demo", "--sensors", "2", "--rows", "2400"]
    environment = {**os.environ, "STREAM_DETECTOR_DETECTOR__MODEL": "moving-z"}
    outputs = {}
    for how in ((), ("--files",)):
        output = tmp_path / ("files" if how else "kafka")
        done = subprocess.run(
            [*map(str, command), *how, "--output", str(output)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "Injected faults" in done.stdout
        assert how or "opened" in done.stdout
        lines = (output / "alerts.jsonl").read_bytes().splitlines()
        alerts = [msgspec.json.decode(line, type=Alert) for line in lines]
        outputs[how] = by_incident([msgspec.structs.replace(alert, detected_at=None) for alert in alerts])
    assert outputs[()] == outputs[("--files",)]
    assert outputs[()]


def test_the_numbers_are_the_truth(kafka: str, redis_url: str, topic: str, made: Made, stream: Stream) -> None:
    """What is counted is what was sent and told."""
    settings = settings_for(kafka, redis_url, topic, made)
    make_topics(settings, PARTITIONS)
    send(settings, [*stream.messages, (0, b"x", b"no reading")])
    telemetry = Telemetry()
    profiles = Profiles(settings, Weights(settings.detector.window).artifact)
    worker = Worker(settings, profiles, telemetry=telemetry)
    try:
        while worker.counts.readings < len(stream.messages) or worker.counts.dead_letters < 1:
            worker.step()
        worker._looked_s = 0.0
        worker._look()
    finally:
        worker.close()
    value = telemetry.registry.get_sample_value
    assert value("stream_detector_readings_total") == len(stream.messages)
    assert value("stream_detector_dead_letters_total", {"reason": "invalid-json"}) == 1
    alerts = alerts_of(settings)
    told = [one for one in alerts if (one.kind, one.event, one.severity) == ("value_stuck", "opened", "warning")]
    labels = {"kind": "value_stuck", "event": "opened", "severity": "warning"}
    assert value("stream_detector_alerts_total", labels) == len(told) > 0
    assert value("stream_detector_sensors") == SENSORS
    for stage in ("fetch", "decode", "detect", "save", "publish"):
        assert (value("stream_detector_stage_seconds_count", {"stage": stage}) or 0) > 0
