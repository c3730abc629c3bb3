"""The recent messages of several topics in turn, as columns, with one consumer that is in no group.

Workers notice nothing of it. Only what is committed is read, up to the end as it is when the reading begins. Knows
nothing of what is inside messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from stream_detector.errors import TransportError
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.fetched import Fetched, columns
from stream_detector.streaming.kafka_client import REQUEST_TIMEOUT_MS, connected, consumer_options
from stream_detector.streaming.kafka_errors import translating

POLL_MS = 200
RECORDS_A_POLL = 5_000
STALLED_S = 30.0


class TopicReader:
    """See the module's docstring. skipped: messages too far back to be read. `pulse` is called at every turn."""

    def __init__(self, kafka: KafkaSettings, pulse: Callable[[], None] = lambda: None) -> None:
        self._kafka, self._pulse = kafka, pulse
        self._consumer: Any = connected(kafka, KafkaConsumer, consumer_options(kafka) | {"group_id": None})
        self.skipped = 0

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *failure: object) -> None:
        self._consumer.close(autocommit=False)

    def has(self, topic: str) -> bool:
        """Whether there is such a topic."""
        with translating(self._kafka, f"looking for the topic {topic}"):
            return bool(self._consumer.partitions_for_topic(topic))

    def since(self, topic: str, since_ms: int, most: int) -> Iterator[Fetched]:
        """Committed messages from a time on (the broker's, of each) to the present end; the latest `most`, about."""
        yield from self._read(topic, self._places(topic, since_ms, most))

    def between(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> Iterator[Fetched]:
        """Committed messages from an offset up to another, by partition; both must be within `bounds`."""
        some = {TopicPartition(topic, partition): (begin, end) for partition, (begin, end) in ranges.items()}
        yield from self._read(topic, {place: span for place, span in some.items() if span[0] < span[1]})

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """The first offset that is there and the present end, by partition; raises TransportError without the topic."""
        with translating(self._kafka, f"looking for the topic {topic}"):
            places = self._partitions(topic)
            first = self._consumer.beginning_offsets(places, timeout_ms=REQUEST_TIMEOUT_MS)
            ends = self._consumer.end_offsets(places, timeout_ms=REQUEST_TIMEOUT_MS)
        return {place.partition: (first[place], ends[place]) for place in places}

    def offsets_at(self, topic: str, time_ms: int) -> dict[int, int]:
        """The first offset of a time or later (the broker's), by partition; none where all messages are older."""
        with translating(self._kafka, f"looking for a time in {topic}"):
            asked = dict.fromkeys(self._partitions(topic), max(time_ms, 0))
            found = self._consumer.offsets_for_times(asked, timeout_ms=REQUEST_TIMEOUT_MS)
        return {place.partition: one.offset for place, one in found.items() if one is not None}

    def _read(self, topic: str, todo: dict[TopicPartition, tuple[int, int]]) -> Iterator[Fetched]:
        self._consumer.assign(list(todo))
        self._consumer.resume(*todo)  # what was read to its end before stays paused otherwise
        for place, (begin, _) in todo.items():
            self._consumer.seek(place, begin)
        moved, before = time.monotonic(), {place: begin for place, (begin, _) in todo.items()}
        while todo:
            self._pulse()
            with translating(self._kafka, f"reading {topic}"):
                polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=RECORDS_A_POLL)
            for place, records in polled.items():
                wanted = [record for record in records if place in todo and record.offset < todo[place][1]]
                if wanted:
                    yield columns(place.partition, wanted)
            positions = self._positions(todo)
            if positions != before:
                moved, before = time.monotonic(), positions
            for place, at in positions.items():
                if at >= todo[place][1]:
                    todo.pop(place)
                    self._consumer.pause(place)
            if time.monotonic() - moved > STALLED_S:
                raise TransportError(
                    f"reading {topic} stands still: Kafka at {self._kafka.bootstrap_servers} has not answered for "
                    f"{STALLED_S:.0f} s; check whether it runs"
                )

    def _positions(self, todo: dict[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, int]:
        """Also marks of transactions are passed, which come without a message."""
        with translating(self._kafka, "reading"):
            return {place: self._consumer.position(place, timeout_ms=REQUEST_TIMEOUT_MS) or 0 for place in todo}

    def _partitions(self, topic: str) -> list[TopicPartition]:
        there = self._consumer.partitions_for_topic(topic)
        if not there:
            raise TransportError(
                f"there is no topic {topic} on Kafka at {self._kafka.bootstrap_servers}: check its name, or "
                f"start what sends to it"
            )
        return [TopicPartition(topic, partition) for partition in sorted(there)]

    def _places(self, topic: str, since_ms: int, most: int) -> dict[TopicPartition, tuple[int, int]]:
        """First offset to read and end of each partition that has something to read."""
        with translating(self._kafka, f"looking for the topic {topic}"):
            places = self._partitions(topic)
            ends = self._consumer.end_offsets(places, timeout_ms=REQUEST_TIMEOUT_MS)
            found = self._consumer.offsets_for_times(
                dict.fromkeys(places, max(since_ms, 0)), timeout_ms=REQUEST_TIMEOUT_MS
            )
        todo = {}
        for place in places:
            if found.get(place) is not None and found[place].offset < ends[place]:
                begin = max(found[place].offset, ends[place] - max(most // len(places), 1))
                self.skipped += begin - found[place].offset
                todo[place] = (begin, ends[place])
        return todo
