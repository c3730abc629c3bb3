"""A restart that does not wait for all sensors: state comes when it is asked for, and what is told is the same."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stream_detector.errors import StoreError
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings
from stream_detector.streaming import stored_rows
from stream_detector.streaming.store import PartitionSave, Rows
from stream_detector.streaming.topics import read_topic
from stream_detector.streaming.worker import Worker
from tests.integration.streams import (
    Message,
    kinds,
    lag,
    make_topics,
    new_worker,
    outcome,
    plant,
    send,
    settings_for,
    told_twice,
    undisturbed,
)
from tests.integration.test_store import store_at

SENSORS, STEPS, PARTITIONS = 30, 200, 3
Made = dict[tuple[str, ...], Path]


@pytest.fixture(autouse=True)
def lazy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Next to nothing is brought back before a partition is ready, and nothing between two batches."""
    monkeypatch.setattr(stored_rows, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(stored_rows, "PORTION", 2)
    monkeypatch.setattr(stored_rows, "PORTION_S", -1.0)
    return monkeypatch


@pytest.fixture
def settings(kafka: str, redis_url: str, topic: str, made: Made) -> Settings:
    """Settings of a worker, its topics made."""
    found = settings_for(kafka, redis_url, topic, made)
    make_topics(found, PARTITIONS)
    return found


def ending(messages: Sequence[Message], *sensors: bytes) -> list[Message]:
    """The messages, but that of these sensors none comes any more in the last ninth, and a little before."""
    end = len(messages) * 8 // 9 - 5 * SENSORS
    return [one for number, one in enumerate(messages) if number < end or one[1] not in sensors]


def run(settings: Settings, whole: bool = False, limit_s: float = 90) -> tuple[Worker, int]:
    """A worker that works until all is answered for, and with `whole` until nothing waits; how many waited at first."""
    worker, waited = new_worker(settings), -1
    deadline = time.monotonic() + limit_s
    try:
        while time.monotonic() < deadline:
            worker.step()
            if waited < 0 and len(worker.holdings.held) == PARTITIONS:
                waited = worker.holdings.waiting
            done = len(worker.holdings.held) == PARTITIONS and lag(settings, worker) <= 0
            if done and not (whole and worker.holdings.waiting):
                return worker, waited
    finally:
        worker.close()
    raise TimeoutError(f"{lag(settings, worker)} messages and {worker.holdings.waiting} sensors are left")


def test_restart_after_restart_tells_the_same(settings: Settings, lazy: pytest.MonkeyPatch) -> None:
    """Also of sensors that fall silent, of which no reading comes to bring their state back, and of a group."""
    messages = ending(plant(SENSORS, STEPS, PARTITIONS).messages, b"pump-9", b"fan-22")
    waited = []
    for part in np.array_split(np.arange(len(messages)), 9):
        send(settings, [messages[i] for i in part.tolist()])
        waited.append(run(settings)[1])
    assert min(waited[1:]) > 0
    lazy.setattr(stored_rows, "PORTION_S", 0.1)
    assert run(settings, whole=True)[0].counts.readings == 0
    assert not undisturbed(settings, messages).differences(outcome(settings, PARTITIONS))
    assert told_twice(settings) == []
    assert {alert.sensor_id for alert in kinds(settings, "sensor_silent")} >= {"pump-9", "fan-22"}


def test_sensors_come_back_between_batches(settings: Settings, lazy: pytest.MonkeyPatch) -> None:
    """A few at a time, while readings of others go on; then all are there, and it is as if they had always been."""
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    half = len(messages) // 2
    send(settings, messages[:half])
    run(settings)
    lazy.setattr(stored_rows, "PORTION_S", 0.001)
    send(settings, messages[half:])
    worker, waited = run(settings, whole=True)
    assert waited > 0 and worker.holdings.waiting == 0
    assert not undisturbed(settings, messages).differences(outcome(settings, PARTITIONS))


def test_one_reading_brings_one_sensor_back(settings: Settings) -> None:
    """And no other; what is known of it goes on: its channels, its place in the limit of sensors."""
    send(settings, plant(SENSORS, 100, PARTITIONS).messages)
    run(settings)
    limited = settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"max_sensors": SENSORS // PARTITIONS})}
    )
    late: list[Message] = [
        (0, b"fan-24", b'{"sensor_id": "fan-24", "timestamp": 1760000200000, "values": {"b": 1.0}}'),
        (0, b"new", b'{"sensor_id": "new", "timestamp": 1760000200000, "value": 1.0}'),
    ]
    send(settings, late)
    worker, waited = run(limited)
    assert worker.counts.readings == 1
    assert worker.holdings.waiting in (waited, waited - 1)
    [letter] = read_topic(settings.kafka, settings.kafka.dead_letters_topic)
    assert letter.value == late[1][2] and dict(letter.headers)["x-reason"].startswith(b"too-many-sensors")


def test_other_weights_bring_all_back_at_once(settings: Settings, made: Made, tmp_path: Path) -> None:
    """A partition is saved with one word of its weights: no row of others may be left behind, nor in the store."""
    models = {channels: tmp_path / path.name for channels, path in made.items()}
    for channels, path in made.items():
        artifacts.load(path).save(models[channels])
    own = settings_for(settings.kafka.bootstrap_servers, settings.redis.url.get_secret_value(), "", models)
    settings = settings.model_copy(update={"detector": own.detector, "sensors": own.sensors})
    messages = plant(SENSORS, 300, PARTITIONS).messages
    late = [next(one for one in reversed(messages) if one[0] == partition) for partition in range(PARTITIONS)]
    send(settings, [one for one in messages if one not in late])
    run(settings)
    for path in models.values():
        one = artifacts.load(path)
        seeds = {**one.scaler, "another": next(iter(one.scaler.values()))}
        shutil.rmtree(path)
        Artifact(one.model, one.channels, seeds, one.calibration, one.trained_on).save(path)
    before = outcome(settings, PARTITIONS).states
    send(settings, late)
    worker, waited = run(settings)
    assert waited >= 0 and worker.holdings.waiting == 0
    profiles = worker._profiles
    here = {
        (profiles.shape(name), sensor_id): detector.table.state_of(np.array([row])).tobytes()
        for name, detector in profiles.fleet.detectors.items()
        for row, sensor_id in enumerate(detector.table.ids)
    }
    assert len(here) == SENSORS and all(here[key] != before[key] for key in here)
    assert outcome(settings, PARTITIONS).states == here


def test_rows_that_are_gone_are_no_new_sensors(redis_url: str, topic: str) -> None:
    """A claim says whose rows there are; where one is missing then, that is an error."""
    with store_at(redis_url, topic) as store:
        claim = store.claim("readings", 0, rows=False)
        rows = Rows(b"layout", ["a", "b", "c"], b"xxyyzz")
        store.save([PartitionSave("readings", 0, claim.epoch, 1, None, 5, b"", {"pumps": rows})])
        claim = store.claim("readings", 0, rows=False)
        assert (claim.sensors, claim.left) == ({}, {"pumps": ["a", "b", "c"]})
        assert store.rows(claim, "pumps", ["c", "a"]) == [Rows(b"layout", ["a", "c"], b"xxzz")]
        assert store.rows(claim, "pumps", []) == []
        with pytest.raises(StoreError, match="2 of 3 sensors"):
            store.rows(claim, "pumps", ["a", "b", "d"])
