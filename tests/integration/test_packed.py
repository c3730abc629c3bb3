"""Readings as packed columns through a real worker: the same alerts as from JSON, byte for byte."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from stream_detector.packed import pack
from stream_detector.streaming import history, retained
from stream_detector.streaming.topics import read_topic
from stream_detector.streaming.weights import Weights
from tests.integration.streams import (
    Message,
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

SENSORS, STEPS, PARTITIONS = 20, 150, 3


def of_gateways(messages: Sequence[Message], most: int) -> list[Message]:
    """The readings of a partition in their order, as many in one message as have the same channels, up to a number."""
    found = []
    for partition in range(PARTITIONS):
        records = [json.loads(value) for where, _, value in messages if where == partition]
        for several in (records[at : at + most] for at in range(0, len(records), most)):
            for _, run in groupby(several, key=lambda record: "values" in record):
                found.append((partition, b"gateway", packed(list(run))))
    return found


def of_sensors(messages: Sequence[Message], most: int) -> list[Message]:
    """Each reading in a message of its own."""
    return [(partition, key, packed([json.loads(value)])) for partition, key, value in messages]


def packed(records: Sequence[dict[str, object]]) -> bytes:
    """Readings with the same channels as one message."""
    ids = sorted({str(record["sensor_id"]) for record in records})
    channels = ["a", "b"] if "values" in records[0] else ["value"]
    rows = [[record["value"]] if "value" in record else [*record["values"].values()] for record in records]  # type: ignore[attr-defined]
    sensor = [ids.index(str(record["sensor_id"])) for record in records]
    return pack(ids, [record["timestamp"] for record in records], np.array(rows, float), channels, sensor)


@pytest.mark.parametrize("form", [of_gateways, of_sensors])
def test_packed_readings_bring_the_alerts_of_json(
    form: Callable[[Sequence[Message], int], list[Message]],
    kafka: str,
    redis_url: str,
    topic: str,
    made: dict[tuple[str, ...], Path],
) -> None:
    """Also the same states: of many sensors in one message, and of one reading in each."""
    settings = settings_for(kafka, redis_url, topic, made)
    make_topics(settings, PARTITIONS)
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    sent = form(messages, 50)
    send(settings, sent)
    worker = drain(settings, PARTITIONS)
    assert worker.counts.readings == len(messages) and worker.counts.dead_letters == 0
    alone, found = undisturbed(settings, messages), outcome(settings, PARTITIONS)
    assert len(alone.lives) > 5
    assert not alone.differences(found)


def test_a_bad_one_is_a_dead_letter_as_it_came(
    kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path]
) -> None:
    """Among sensors of JSON and of packed columns, whose readings it does not change."""
    settings = settings_for(kafka, redis_url, topic, made)
    make_topics(settings, PARTITIONS)
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    mixed = [*messages[:1000], *of_gateways(messages[1000:], 30)]
    bad = pack(["pump-1", "pump-7"], [5, 6], [1, np.nan], sensor=[0, 1])[:-1]
    wrong = pack(["fan-2", "fan-4"], [5, 6], [[1, 2], [3, 4]], ["a", "c"], [0, 1])
    send(settings, [(1, b"k", bad), *mixed[:1100], (2, b"k", wrong), *mixed[1100:]])
    drain(settings, PARTITIONS)
    letters = read_topic(settings.kafka, settings.kafka.dead_letters_topic)
    assert sorted(one.value or b"" for one in letters) == sorted([bad, wrong])
    assert by_incident(alerts_of(settings)) == undisturbed(settings, messages).lives


def test_everybody_else_reads_them_too(
    kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path]
) -> None:
    """The trainer, and `replay` with the pages for people: all readings, and those of one sensor by its id alone."""
    settings = settings_for(kafka, redis_url, topic, made)
    make_topics(settings, PARTITIONS)
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    send(settings, of_gateways(messages, 50))
    now_ms = round(time.time() * 1000)
    recent = history.read(settings, Weights(settings.detector.window).artifact, now_ms, 3_600_000)
    assert (recent.readings, recent.rejected) == (len(messages), 0)
    kept = retained.look(settings, ["pump-7"], None, [now_ms], 100_000).kept["pump-7"]
    mine = [json.loads(value) for _, key, value in messages if key == b"pump-7"]
    assert kept.time_ms.tolist() == [record["timestamp"] for record in mine]
    assert kept.values[:, 0].tolist() == [record["value"] for record in mine]
