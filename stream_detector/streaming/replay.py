"""Dead letters back to the topic that they came from, each of them once.

1. Preparing the producer ends what another replay had under way: all replays of a consumer group share one
   transactional id, and the broker lets only the newest go on.
2. Only then is it read how far the letters are decided: nobody else can move that any more.
3. Letters and how far they are decided now become visible in one transaction, or neither does.

A letter is decided when it was sent. How far is kept by topic of origin and by reason, as the note that belongs to the
committed offset of a consumer group of its own: a replay of one reason, or of one topic, passes no other letter over.
The broker forgets it like any group's offsets, after `offsets.retention.minutes` without a replay. Knows nothing of
what is in a letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from kafka import KafkaConsumer
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

from stream_detector.errors import ConfigError, DataError, FencedError, OutsideError
from stream_detector.settings import KafkaSettings, WorkerSettings
from stream_detector.streaming.envelope import reason_of, restored
from stream_detector.streaming.kafka_client import REQUEST_TIMEOUT_MS, Message, connected, consumer_options
from stream_detector.streaming.kafka_errors import USURPED, translating
from stream_detector.streaming.publisher import Publisher
from stream_detector.streaming.topics import Record, end_offsets, read_topic

BATCH_LETTERS = 500
BATCH_BYTES = 8 << 20
NOTE_BYTES = 4_096
"""The broker keeps no longer note with an offset, unless it is set to."""
Note = dict[str, int]


def group_of(kafka: KafkaSettings) -> str:
    """The consumer group that remembers how far the dead letters are decided."""
    return f"{kafka.group_id}-dead-letters"


def slug_of(reason: str) -> str:
    """The stable word that a reason begins with."""
    return reason.partition(":")[0]


class Decided:
    """How far the letters in one partition are decided, by topic of origin and reason.

    `offset` without a note decides for all: so an operator can set the group to a place, with the broker's own tools.
    """

    def __init__(self, offset: int = 0, note: str = "") -> None:
        try:
            self._until: Note = msgspec.json.decode(note, type=Note)
        except msgspec.DecodeError:
            self._until = {"": offset}

    def until(self, topic: str, slug: str | None = None) -> int:
        """Letters of the topic below this offset are decided; with a slug, those that have this reason."""
        keys = {"", topic, _key(topic, slug)}
        return max(self._until.get(key, 0) for key in keys)

    def advance(self, offset: int, topic: str, slug: str | None) -> None:
        """Letters of the topic (with a slug: only those that have this reason) are decided below this offset."""
        self._until[_key(topic, slug)] = max(offset, self.until(topic, slug))
        below, reasons = self.until(topic), f"{topic} "
        self._until = {key: at for key, at in self._until.items() if at > below or not key.startswith(reasons)}

    def note(self) -> str:
        """What is kept with the offset; raises ConfigError when it grows too long."""
        note = msgspec.json.encode(self._until)
        if len(note) > NOTE_BYTES:
            raise ConfigError("too many reasons were replayed one by one: replay once without --reason")
        return note.decode()


def _key(topic: str, slug: str | None) -> str:
    """A topic's name holds no space."""
    return topic if slug is None else f"{topic} {slug}"


@dataclass
class Counts:
    """What became of the letters that a replay has looked at. `elsewhere`: not sent, by topic of origin."""

    sent: int = 0
    elsewhere: Counter[str] = field(default_factory=Counter)
    no_letters: int = 0


def decided(kafka: KafkaSettings, worker: WorkerSettings, partitions: Iterable[int]) -> dict[int, Decided]:
    """How far each partition is decided; waits while a transaction that would move it is pending."""
    consumer: Any = connected(kafka, KafkaConsumer, consumer_options(kafka) | {"group_id": group_of(kafka)})
    limit_ms = worker.transaction_timeout_ms + REQUEST_TIMEOUT_MS
    found = {}
    try:
        for partition in partitions:
            place = TopicPartition(kafka.dead_letters_topic, partition)
            with translating(kafka, f"reading the committed offsets of the group {group_of(kafka)}"):
                kept = consumer.committed(place, metadata=True, timeout_ms=limit_ms)
            found[partition] = Decided(kept.offset, kept.metadata) if kept is not None else Decided()
    finally:
        consumer.close(autocommit=False)
    return found


def replay(kafka: KafkaSettings, worker: WorkerSettings, reason: str | None = None) -> Iterator[Counts]:
    """Send the letters that are there now and not decided to the topic of readings; the counts after every batch.

    With `reason`, a slug, only letters that have it. Letters of other topics of origin are counted, and left. After
    an error some batches may be sent; the next replay goes on behind them. Raises FencedError when another replay
    takes over.
    """
    publisher = Publisher(kafka, worker, f"{kafka.group_id}-dead-letters-replay")
    try:
        places = decided(kafka, worker, end_offsets(kafka, kafka.dead_letters_topic))
        yield from _Replay(kafka, publisher, reason).run(places)
    finally:
        publisher.close(REQUEST_TIMEOUT_MS)


class _Replay:
    """One pass over the dead letters."""

    def __init__(self, kafka: KafkaSettings, publisher: Publisher, reason: str | None) -> None:
        self._group = group_of(kafka)
        self._kafka = kafka
        self._from = kafka.dead_letters_topic
        self._to = kafka.readings_topic
        self._publisher = publisher
        self._reason = reason
        self._counts = Counts()

    def run(self, places: Mapping[int, Decided]) -> Iterator[Counts]:
        """Look at every letter from the first that is not decided to the present end."""
        start = {partition: place.until(self._to, self._reason) for partition, place in places.items()}
        batch: list[Message] = []
        ends: dict[int, int] = {}
        size = 0
        for record in read_topic(self._kafka, self._from, from_offsets={one: at for one, at in start.items() if at}):
            message = self._wanted(record, places[record.partition])
            if message is not None:
                batch.append(message)
                size += len(record.value or b"") + len(record.key or b"")
            ends[record.partition] = record.offset + 1
            if len(batch) >= BATCH_LETTERS or size >= BATCH_BYTES:
                self._publish(batch, places, ends)
                yield self._counts
                batch, ends, size = [], {}, 0
        if ends:
            self._publish(batch, places, ends)
        yield self._counts

    def _wanted(self, record: Record, place: Decided) -> Message | None:
        """The message to send, or None: it is no letter, not asked for, decided, or from elsewhere."""
        try:
            message, slug = restored(record), slug_of(reason_of(record))
        except DataError:
            self._counts.no_letters += 1
            return None
        if self._reason is not None and slug != self._reason:
            return None
        if message.topic != self._to:
            self._counts.elsewhere[message.topic] += 1
            return None
        return message if record.offset >= place.until(self._to, slug) else None

    def _publish(self, batch: list[Message], places: Mapping[int, Decided], ends: Mapping[int, int]) -> None:
        offsets = {}
        for partition, end in ends.items():
            place = places[partition]
            place.advance(end, self._to, self._reason)
            offsets[TopicPartition(self._from, partition)] = OffsetAndMetadata(place.until(self._to), place.note(), -1)
        try:
            self._publisher.publish(batch, offsets, ConsumerGroupMetadata(self._group))
        except OutsideError as error:
            if not overtaken(error.__cause__):
                raise
            raise FencedError(
                "another replay of these dead letters has begun and goes on in place of this one: nothing is sent twice"
            ) from error
        self._counts.sent += len(batch)


def overtaken(error: BaseException | None) -> bool:
    """Whether the transactional id has a newer owner; once the client knows it, it only quotes what it was told."""
    return any(isinstance(error, kind) or kind.__name__ in repr(error) for kind in USURPED)
