"""People's answers on the feedback topic: each is applied once, by whichever worker holds the sensor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import redis

from stream_detector.records import Alert, encode, format_time
from stream_detector.settings import Settings
from stream_detector.streaming import answers_file
from stream_detector.streaming.topics import Message, produce
from tests.integration.streams import (
    START_MS,
    Running,
    alerts_of,
    drain,
    kinds,
    make_topics,
    outcome,
    send,
    settings_for,
    told_twice,
)
from tests.integration.workers import WorkerProcess, wait_until, wait_until_answered

PARTITIONS = 3
CALM, FAULT = 300, 5
"""Readings of each sensor before its fault, and in it."""
SENSORS = ("pump-2", "pump-4", "pump-6")
"""One in each partition."""


@pytest.fixture
def settings(kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path]) -> Settings:
    """Settings of the workers of a test, its topics made, and a fault of each sensor that goes on on them."""
    found = settings_for(kafka, redis_url, topic, made)
    make_topics(found, PARTITIONS)
    send(found, readings(0, CALM + FAULT, faulty_from=CALM))
    return found


def readings(begin: int, end: int, faulty_from: int | None = None, seed: int = 3) -> list[tuple[int, bytes, bytes]]:
    """Readings of the sensors from one step up to another, far off from one on."""
    values = np.random.default_rng([seed, begin]).normal(size=(end - begin, len(SENSORS)))
    if faulty_from is not None:
        values[faulty_from - begin :] += 40
    return [
        (partition, name.encode(), reading(name, step, values[step - begin, partition]))
        for step in range(begin, end)
        for partition, name in enumerate(SENSORS)
    ]


def reading(name: str, step: int, value: float) -> bytes:
    """One message."""
    return b'{"sensor_id": "%s", "timestamp": %d, "value": %.4f}' % (name.encode(), START_MS + 1000 * step, value)


def ongoing(settings: Settings, sensor_id: str) -> list[Alert]:
    """The steps of the sensor's latest anomaly."""
    of_sensor = [alert for alert in kinds(settings, "anomaly") if alert.sensor_id == sensor_id]
    return [alert for alert in of_sensor if alert.alert_id == of_sensor[-1].alert_id]


def answer(settings: Settings, steps: Sequence[Alert], verdict: str, **times: str) -> None:
    """Answer an incident on the topic of feedback."""
    record = answers_file.answer(steps, verdict, note=None, **times)  # type: ignore[arg-type]
    say(settings, encode(record))


def say(settings: Settings, value: bytes) -> None:
    """Put anything on the topic of feedback."""
    produce(settings.kafka, [Message(settings.kafka.feedback_topic, b"anybody", value)])


def closed(settings: Settings, steps: Sequence[Alert]) -> list[str | None]:
    """Why the incident was closed, each time that this was told."""
    mine = [alert for alert in kinds(settings, "anomaly") if alert.alert_id == steps[0].alert_id]
    return [alert.close_reason for alert in mine if alert.event == "closed"]


def start(settings: Settings, slot: str) -> Running:
    """A worker at work."""
    found = Running(settings.model_copy(update={"worker": settings.worker.model_copy(update={"slot": slot})}))
    found.start()
    return found


def test_a_false_alarm_is_closed_once_by_whoever_holds_the_sensor(settings: Settings) -> None:
    """With two workers, idle partitions and a restart in between: told once, and not again when it is over."""
    workers = [start(settings, "a"), start(settings, "b")]
    wait_until_answered(settings)
    false, true = ongoing(settings, SENSORS[0]), ongoing(settings, SENSORS[1])
    answer(settings, false, "false_positive")
    answer(settings, false, "false_positive")
    wait_until(lambda: closed(settings, false) == ["false_positive"], "the false alarm is closed")
    for worker in workers:
        worker.stop()
    send(settings, readings(CALM + FAULT, CALM + FAULT + 40))
    drain(settings, PARTITIONS)
    assert closed(settings, false) == ["false_positive"]
    assert closed(settings, true) == ["recovered"]
    assert told_twice(settings) == []


def test_an_answer_survives_a_crash_right_after_it_was_saved(settings: Settings) -> None:
    """The next worker tells what was saved, and does not apply the answer again."""
    drain(settings, PARTITIONS)
    false = ongoing(settings, SENSORS[1])
    answer(settings, false, "false_positive")
    # Nothing but the answer is new: partition 0 hears it first, and the sensor is in partition 1.
    assert WorkerProcess(settings, "a", "saved", 2).dies(settings)
    assert closed(settings, false) == []
    worker = start(settings, "a")
    wait_until(lambda: closed(settings, false) == ["false_positive"], "the false alarm is closed")
    worker.stop()
    before = outcome(settings, PARTITIONS)
    drain(settings, PARTITIONS)
    assert outcome(settings, PARTITIONS).differences(before) == []


def test_an_answer_is_not_told_again_when_the_store_has_lost_it(settings: Settings) -> None:
    """The state is lost with the answer in it: it is applied again, silently, once the readings are taken in."""
    drain(settings, PARTITIONS)
    false, true = ongoing(settings, SENSORS[2]), ongoing(settings, SENSORS[0])
    answer(settings, false, "false_positive")
    worker = start(settings, "a")
    wait_until(lambda: closed(settings, false) == ["false_positive"], "the false alarm is closed")
    worker.stop()
    with redis.Redis.from_url(settings.redis.url.get_secret_value()) as client:
        client.delete(*client.keys(f"test:{settings.kafka.group_id}:*"))
    send(settings, readings(CALM + FAULT, CALM + FAULT + 40))
    drain(settings, PARTITIONS)
    assert len(kinds(settings, "state_gap")) == PARTITIONS
    assert closed(settings, false) == ["false_positive"]
    assert closed(settings, true) == ["recovered"]
    assert told_twice(settings) == []


NO_ANSWERS = (
    b"\xff\xfe",
    b"",
    b"{}",
    b'{"feedback_id": "1", "alert_id": "2", "verdict": "nonsense", "sensor_id": "pump-2"}',
    b'{"feedback_id": "1", "alert_id": "2", "verdict": "maintenance", "sensor_id": "pump-2"}',
    b'{"feedback_id": "1", "alert_id": "2", "verdict": "confirmed", "sensor_id": "pump-2", "starts_at": "soon"}',
)


def test_records_that_are_no_answers_are_told_and_passed(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the place of each, and the worker hears the next one."""
    caplog.set_level(logging.WARNING, "stream_detector")
    for value in NO_ANSWERS:
        say(settings, value)
    worker = start(settings, "a")
    wait_until_answered(settings)
    false = ongoing(settings, SENSORS[0])
    answer(settings, false, "false_positive")
    wait_until(lambda: closed(settings, false) == ["false_positive"], "the false alarm is closed")
    worker.stop()
    assert worker.error is None
    for offset in range(len(NO_ANSWERS)):
        assert f"{settings.kafka.feedback_topic}/0, offset {offset} is not an answer" in caplog.text


def test_a_maintenance_ends_the_incident_and_silences_what_follows(settings: Settings) -> None:
    """Of the sensor that is worked on nothing is told until it is over; of the others all is."""
    drain(settings, PARTITIONS)
    fault = ongoing(settings, SENSORS[0])
    begins, ends = (format_time(START_MS + 1000 * step) for step in (CALM, CALM + 100))
    answer(settings, fault, "maintenance", begins=begins, ends=ends)
    worker = start(settings, "a")
    wait_until(lambda: closed(settings, fault) == ["maintenance"], "the incident is closed")
    worker.stop()
    before = {alert.alert_id for alert in alerts_of(settings)}
    first = CALM + FAULT
    send(settings, readings(first, first + 60, faulty_from=first + 50))
    drain(settings, PARTITIONS)
    new = {alert.sensor_id for alert in kinds(settings, "anomaly") if alert.alert_id not in before}
    assert new == {SENSORS[1], SENSORS[2]}
