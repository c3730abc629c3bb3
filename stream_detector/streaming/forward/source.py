"""The topic of alerts as one receiver reads it: from where its group has come to, each partition in order.

The group only remembers a place; partitions are not shared out, so that one receiver is served by one process. Only
what is committed is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import kafka.errors as foreign
from kafka import KafkaConsumer
from kafka.structs import OffsetAndMetadata, TopicPartition

from stream_detector.errors import TransportError
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.kafka_client import REQUEST_TIMEOUT_MS, connected, consumer_options
from stream_detector.streaming.kafka_errors import translated, translating
from stream_detector.streaming.topics import Record

logger = logging.getLogger(__name__)
POLL_MS = 200
RECORDS_A_POLL = 100
LOOK_EVERY_S = 15.0
"""So often it is asked whether the topic has more partitions by now."""


class Source:
    """See the module's docstring. new: the group had no place yet. Raises TransportError when the broker is away."""

    def __init__(self, kafka: KafkaSettings, topic: str, group: str) -> None:
        self._kafka, self._topic = kafka, topic
        options = consumer_options(kafka) | {"group_id": group}
        self._consumer: Any = connected(kafka, KafkaConsumer, options)
        try:
            with translating(kafka, f"looking for the topic {topic}"):
                self._places = self._partitions()
                if not self._places:
                    raise TransportError(
                        f"there is no topic {topic} on Kafka at {kafka.bootstrap_servers}: start a worker, or check "
                        f"its name"
                    )
                self._consumer.assign(self._places)
                first = self._consumer.beginning_offsets(self._places, timeout_ms=REQUEST_TIMEOUT_MS)
                ends = self._consumer.end_offsets(self._places, timeout_ms=REQUEST_TIMEOUT_MS)
                kept = {one: self._consumer.committed(one, timeout_ms=REQUEST_TIMEOUT_MS) for one in self._places}
        except BaseException:
            self.close()
            raise
        self.new = all(offset is None for offset in kept.values())
        self.first: dict[int, int] = {place.partition: offset for place, offset in first.items()}
        self.ends: dict[int, int] = {place.partition: offset for place, offset in ends.items()}
        self.position = {place.partition: self._begin(place.partition, offset) for place, offset in kept.items()}
        self._committed: dict[int, int] = {}
        self._looked_s = time.monotonic()

    def _begin(self, partition: int, kept: int | None) -> int:
        """Where to go on: at the end for a new group, at the first message where the partition is new."""
        if kept is None:
            return self.ends[partition] if self.new else self.first[partition]
        if kept < self.first[partition]:
            logger.warning(
                "%d messages of %s/%d were deleted before they were read: keep them longer (retention.ms)",
                self.first[partition] - kept,
                self._topic,
                partition,
            )
        return min(max(kept, self.first[partition]), self.ends[partition])

    def seek(self, position: Mapping[int, int]) -> None:
        """Read from here on."""
        self.position = dict(position)
        for place in self._places:
            self._consumer.seek(place, self.position[place.partition])

    def poll(self) -> Iterator[Record]:
        """The next records; raises TransportError where partitions were added, so that all is looked up anew."""
        with translating(self._kafka, f"reading {self._topic}"):
            polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=RECORDS_A_POLL)
        for place, records in polled.items():
            for one in records:
                yield Record(place.topic, place.partition, one.offset, one.timestamp, one.key, one.value, one.headers)
                self.position[place.partition] = one.offset + 1
        for place in self._places:  # marks of transactions are passed without a record
            self.position[place.partition] = self._consumer.position(place, timeout_ms=REQUEST_TIMEOUT_MS)
        if time.monotonic() - self._looked_s > LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            if self._partitions() != self._places:
                raise TransportError(f"the topic {self._topic} has other partitions than before: reading them too")

    def commit(self) -> None:
        """Remember what was read so far; nothing where that is remembered already."""
        moved = {p: at for p, at in self.position.items() if self._committed.get(p) != at}
        if not moved:
            return
        offsets = {TopicPartition(self._topic, p): OffsetAndMetadata(at, "", -1) for p, at in moved.items()}
        try:
            self._consumer.commit(offsets, timeout_ms=REQUEST_TIMEOUT_MS)
        except foreign.KafkaError as error:
            raise translated(error, self._kafka, "remembering what was forwarded") from error
        self._committed |= moved

    def behind(self) -> int:
        """Messages that wait, as far as fetching knows."""
        waiting = 0
        for place in self._places:
            end = self._consumer.highwater(place)
            waiting += max(0, end - self.position[place.partition]) if end is not None else 0
        return waiting

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close(autocommit=False)

    def _partitions(self) -> list[TopicPartition]:
        return [
            TopicPartition(self._topic, one) for one in sorted(self._consumer.partitions_for_topic(self._topic) or ())
        ]
