"""Readings that are late, doubled, from the future, of too many sensors or of unknown channels, through the worker."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from stream_detector.cli import worker as worker_command
from stream_detector.settings import Settings
from stream_detector.streaming.envelope import reason_of
from stream_detector.streaming.topics import Record, end_offsets, read_topic
from tests.integration.streams import (
    START_MS,
    drain,
    kinds,
    make_topics,
    outcome,
    plant,
    send,
    settings_for,
    undisturbed,
)

SENSORS, STEPS, PARTITIONS = 20, 420, 3
NEXT_MS = START_MS + 1000 * STEPS


@pytest.fixture
def settings(kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path]) -> Settings:
    """Settings of a test's workers, its topics made."""
    found = settings_for(kafka, redis_url, topic, made)
    make_topics(found, PARTITIONS)
    return found


def put(settings: Settings, partition: int, value: Any, arrived_ms: int | None = None) -> None:
    """Send one reading, dated by the producer where that is asked for."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
    producer.send(
        settings.kafka.readings_topic, json.dumps(value).encode(), partition=partition, timestamp_ms=arrived_ms
    ).get(10)
    producer.close()


def letters(settings: Settings) -> list[Record]:
    """The dead letters."""
    return list(read_topic(settings.kafka, settings.kafka.dead_letters_topic))


def test_doubled_and_late_readings_change_nothing(settings: Settings) -> None:
    """A producer that sends everything twice, and a reading long past: alerts and states as without them."""
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    doubled = [one for message in messages for one in (message, message)]
    old = (1, b"pump-1", json.dumps({"sensor_id": "pump-1", "timestamp": START_MS - 10**9, "value": 1e6}).encode())
    send(settings, [*doubled, old])
    drain(settings, PARTITIONS)
    found, wanted = outcome(settings, PARTITIONS), undisturbed(settings, messages)
    assert found.lives == wanted.lives
    assert letters(settings) == []


def test_a_reading_from_the_future_is_set_aside_and_told(settings: Settings) -> None:
    """Its original goes to the dead letters, an alert says whose clock is wrong, and the others are judged as ever."""
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    half = len(messages) // 2
    send(settings, messages[:half])
    far = {"sensor_id": "pump-1", "timestamp": NEXT_MS + 10**9, "value": 1.0}
    put(settings, 1, far, arrived_ms=NEXT_MS)
    send(settings, messages[half:])
    drain(settings, PARTITIONS)
    (letter,) = letters(settings)
    assert json.loads(letter.value or b"") == far
    assert reason_of(letter).startswith("far-future: ")
    skewed = kinds(settings, "clock_skewed")
    assert [(alert.sensor_id, alert.event) for alert in skewed] == [("pump-1", "opened"), ("pump-1", "closed")]
    lives = outcome(settings, PARTITIONS).lives
    del lives[skewed[0].alert_id]
    assert lives == undisturbed(settings, messages).lives


def test_sensors_beyond_the_limit_go_to_the_dead_letters(settings: Settings) -> None:
    """Those that were there first are judged as ever; a restart keeps to the same ones."""
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    most = {partition: len({key for p, key, _ in messages if p == partition}) for partition in range(PARTITIONS)}
    few = settings.model_copy(update={"worker": settings.worker.model_copy(update={"max_sensors": max(most.values())})})
    half = len(messages) // 2
    send(settings, messages[:half])
    drain(few, PARTITIONS)
    value = b'{"sensor_id": "intruder-%d", "timestamp": %d, "value": 1}'
    intruders = [(0, b"", value % (i, NEXT_MS)) for i in range(50)]
    send(settings, [*intruders, *messages[half:]])
    drain(few, PARTITIONS)
    reasons = Counter(reason_of(letter).partition(":")[0] for letter in letters(settings))
    assert reasons == {"too-many-sensors": 50 - (max(most.values()) - most[0])}
    assert outcome(settings, PARTITIONS).lives == undisturbed(settings, messages).lives


def test_a_sensor_that_no_weights_fit_goes_to_the_dead_letters(settings: Settings) -> None:
    """Each of its readings, with the reason; the sensors beside it are judged."""
    strange = {"sensor_id": "boiler", "timestamp": START_MS, "values": {"x": 1, "y": 2, "z": 3}}
    known = {"sensor_id": "pump-0", "timestamp": START_MS, "value": 1.0}
    put(settings, 0, strange)
    put(settings, 0, known)
    put(settings, 0, strange)
    drain(settings, PARTITIONS)
    assert [json.loads(letter.value or b"") for letter in letters(settings)] == [strange, strange]
    assert all(reason_of(letter).startswith("no-weights: ") for letter in letters(settings))
    assert {sensor_id for _, sensor_id in outcome(settings, PARTITIONS).states} == {"pump-0"}


def test_a_bad_message_as_large_as_may_be_holds_nothing_up(
    kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path]
) -> None:
    """As a dead letter it is larger than its own topic lets in; there is room for it, and what follows it comes in."""
    settings = settings_for(kafka, redis_url, topic, made)
    worker_command.make_topics(settings)
    partitions = len(end_offsets(settings.kafka, settings.kafka.readings_topic))
    bad = b"x" * (settings.kafka.max_message_bytes - 100)
    send(settings, [(0, b"k", bad), (0, b"k", b'{"sensor_id": "pump-1", "timestamp": 1760000000000, "value": 1}')])
    drain(settings, partitions)
    assert [letter.value for letter in letters(settings)] == [bad]
