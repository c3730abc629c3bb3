"""People's answers from the feedback topic, for the partitions that a worker holds.

Every worker reads the whole topic, which is small, and applies what is for its sensors. Which answers a partition has
heard is kept with its state, so each is applied once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError, RetriableError
from kafka.structs import TopicPartition

from stream_detector.detect.fleet import Fleet, Told
from stream_detector.errors import DataError
from stream_detector.records import Feedback
from stream_detector.settings import KafkaSettings
from stream_detector.streaming import answers_file
from stream_detector.streaming.holdings import Holdings
from stream_detector.streaming.kafka_client import connected, consumer_options
from stream_detector.streaming.kafka_errors import translated

logger = logging.getLogger(__name__)
EVERY_S = 0.5
POLL_MS = 50
BEGIN_S = 10.0
"""Longest that the first look at the topic may take."""


class Answers:
    """The feedback topic, read from its beginning."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        options = consumer_options(kafka) | {"auto_offset_reset": "earliest", "group_id": None}
        self._consumer: Any = connected(kafka, KafkaConsumer, options)
        self._heard: list[tuple[int, int, Feedback | None]] = []
        self._ends: dict[str, int] = {}
        self._next_s = 0.0

    def hear(self, fleet: Fleet, holdings: Holdings) -> Iterator[tuple[int, list[Told], dict[str, int]]]:
        """For each partition with new answers: the alerts that follow, and which answers it has heard then.

        The caller must save the partition before it asks for the next. A partition that takes in again what its
        state lost hears none until it is where it was: before that the incidents that they are about may not be there.
        """
        self._read()
        held = holdings.held
        for partition in sorted(p for p, one in held.items() if one.caught_up):
            position, told_until = dict(held[partition].feedback), held[partition].told_feedback
            if position == self._ends:
                continue
            new = [one for one in self._heard if one[1] >= position.get(str(one[0]), 0)]
            told: list[Told] = []
            for topic_partition, offset, feedback in new:
                position[str(topic_partition)] = offset + 1
                if feedback is not None:
                    holdings.fetch(partition, [feedback.sensor_id, *feedback.members])
                found = (fleet.answer(feedback, partition) or []) if feedback is not None else []
                told += found if offset >= told_until.get(str(topic_partition), 0) else []
            if new:
                yield partition, told, position

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close(autocommit=False)

    def _read(self) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + EVERY_S
        try:
            if self._consumer.assignment():
                self._poll(0)
            else:
                self._begin()
        except RetriableError as error:
            logger.info("the feedback topic cannot be read now (%s)", type(error).__name__)
        except KafkaError as error:
            raise translated(error, self._kafka, f"reading {self._kafka.feedback_topic}") from error

    def _begin(self) -> None:
        """Hear all that there is so far: what was answered must not come later than what was told after it."""
        topic = self._kafka.feedback_topic
        places = [TopicPartition(topic, p) for p in sorted(self._consumer.partitions_for_topic(topic) or ())]
        ends = self._consumer.end_offsets(places) if places else {}
        self._consumer.assign(places)
        until = time.monotonic() + BEGIN_S
        while any(self._consumer.position(place) < ends[place] for place in places) and time.monotonic() < until:
            self._poll(POLL_MS)

    def _poll(self, wait_ms: int) -> None:
        for records in self._consumer.poll(timeout_ms=wait_ms, max_records=500).values():
            self._heard += [(one.partition, one.offset, self._decoded(one)) for one in records]
            self._ends[str(records[-1].partition)] = records[-1].offset + 1

    def _decoded(self, record: Any) -> Feedback | None:
        try:
            return answers_file.decode(record.value or b"", Feedback)
        except DataError as error:
            logger.warning(
                "%s/%d, offset %d is not an answer and is left out (%s)",
                record.topic,
                record.partition,
                record.offset,
                error,
            )
            return None
