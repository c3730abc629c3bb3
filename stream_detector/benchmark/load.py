"""The messages of a benchmark: readings of all sensors in turns, one or several of a sensor in each message.

A sensor's window falls due at every `stride`-th of its readings. So that not all sensors are due in the same turn, each
one's window is filled with a few more readings than the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from kafka import KafkaProducer

from stream_detector.benchmark.identity import sensor_id
from stream_detector.benchmark.plan import Plan
from stream_detector.records import Floats
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.kafka_client import connected, producer_options
from stream_detector.streaming.kafka_errors import translating

START_MS = 1_760_000_000_000
EVERY_MS = 1_000
PACKET = 50
"""Readings in a message of those that fill the windows."""
MADE_AT_ONCE = 100_000
CLOSE_S = 5.0
Made = tuple[int, bytes]
"""A partition and a message."""


@dataclass(frozen=True)
class Load:
    """The readings of a plan; the windows are full at `start_ms`, each sensor has a reading every `every_ms`."""

    plan: Plan
    start_ms: int = START_MS
    every_ms: float = EVERY_MS

    def phase(self, sensor: int) -> int:
        """Readings of a sensor beyond a full window when the measured ones begin."""
        return sensor % self.plan.stride

    def falls_due(self, number: int) -> bool:
        """Whether a window falls due at the last reading of a message."""
        plan = self.plan
        taken = self.phase(number % plan.sensors) + (number // plan.sensors + 1) * plan.batched
        return taken % plan.stride == 0

    def full_windows(self) -> Iterator[Made]:
        """What fills the windows."""
        plan, rng = self.plan, np.random.default_rng(0)
        for begin in range(0, plan.window + plan.stride, PACKET):
            for sensor in range(plan.sensors):
                there = plan.window + self.phase(sensor)
                count = min(PACKET, there - begin)
                if count > 0:
                    first_ms = self.start_ms - (there - begin) * self.every_ms
                    yield self._message(sensor, first_ms, rng.normal(size=(count, plan.channels)).round(4))

    def messages(self, begin: int, count: int) -> Iterator[Made]:
        """So many messages, after `begin` others, that go on where the full windows end."""
        plan = self.plan
        rng = np.random.default_rng(begin + 1)
        at_once = max(1, MADE_AT_ONCE // (plan.batched * plan.channels))
        for first in range(begin, begin + count, at_once):
            numbers = range(first, min(first + at_once, begin + count))
            values = rng.normal(size=(len(numbers), plan.batched, plan.channels)).round(4)
            for number, rows in zip(numbers, values, strict=True):
                at_ms = self.start_ms + number // plan.sensors * plan.batched * self.every_ms
                yield self._message(number % plan.sensors, at_ms, rows)

    def message_at(self, number: int, last_ms: int, rows: Floats) -> Made:
        """A message whose last reading has this time. rows: (K, C)."""
        return self._message(number % self.plan.sensors, last_ms - (len(rows) - 1) * self.every_ms, rows)

    def _message(self, sensor: int, first_ms: float, rows: Floats) -> Made:
        plan, name = self.plan, sensor_id(sensor)
        if len(rows) == 1 and plan.batched == 1:
            if plan.channels == 1:
                value = f'{{"sensor_id":"{name}","timestamp":{round(first_ms)},"value":{rows.item()}}}'.encode()
            else:
                values = dict(zip(plan.names, rows[0].tolist(), strict=True))
                value = msgspec.json.encode({"sensor_id": name, "timestamp": round(first_ms), "values": values})
        else:
            times = [round(first_ms + self.every_ms * i) for i in range(len(rows))]
            if plan.channels == 1:
                record = {"sensor_id": name, "timestamps": times, "values": rows[:, 0].tolist()}
            else:
                names = {"channels": plan.names}
                record = {"sensor_id": name, "timestamps": times, "values": rows.tolist(), **names}
            value = msgspec.json.encode(record)
        return sensor % plan.partitions, value


def send(kafka: KafkaSettings, messages: Iterable[Made]) -> None:
    """Put messages on the topic of readings."""
    options = producer_options(kafka) | {"linger_ms": 20}
    producer = connected(kafka, KafkaProducer, options)
    try:
        with translating(kafka, f"sending to {kafka.readings_topic}"):
            for partition, value in messages:
                producer.send(kafka.readings_topic, value=value, partition=partition)
            producer.flush()
    finally:
        producer.close(timeout=CLOSE_S)
