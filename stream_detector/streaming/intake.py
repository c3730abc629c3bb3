"""From fetched records to columns of readings, with the place in Kafka that each came from.

A batch is what was fetched of several partitions, one record after another. A reading's position says where in the
batch it stands, so that what it brings about can be traced to its record. Knows how readings are written and which
sensors share a profile; nothing of groups, stores and transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stream_detector.detect.fleet import Part
from stream_detector.errors import ArtifactError, ConfigError, DataError
from stream_detector.records import Bools, Ints
from stream_detector.settings import KafkaSettings, WorkerSettings
from stream_detector.streaming import decode
from stream_detector.streaming.decode import Decoder, Limits, ranks
from stream_detector.streaming.envelope import dead_letter
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.profiles import Channels, Columns, Profiles
from stream_detector.streaming.topics import Record


@dataclass(frozen=True, slots=True)
class Batch:
    """M records as readings by profile, and what of them cannot be used.

    fetched: as they came; a record's place is counted through all of them. start: (M + 1,) position of each record's
    first reading. partition, offset, timestamp_ms: (M,). rejected: reason by place.
    """

    fetched: Sequence[Fetched]
    parts: Sequence[Part]
    start: Ints
    partition: Ints
    offset: Ints
    timestamp_ms: Ints
    rejected: dict[int, str]

    @property
    def ends(self) -> dict[int, int]:
        """The next offset of each partition after this batch."""
        return {one.partition: int(one.offsets[-1]) + 1 for one in self.fetched}

    def portions(self, most: int) -> Iterator[tuple[int, list[Part]]]:
        """Its readings in their order, at most so many at a time: where each portion begins, and its parts from 0."""
        for begin in range(0, int(self.start[-1]), most):
            parts = [part.between(begin, begin + most) for part in self.parts]
            yield begin, [part for part in parts if len(part.position)]

    def place(self, position: int) -> int:
        """The record that a reading came in."""
        return int(np.searchsorted(self.start, position, side="right")) - 1

    def dead_letters(self, kafka: KafkaSettings) -> list[tuple[int, int, Message]]:
        """Partition, offset and message of each record that cannot be used."""
        found = []
        for place, reason in sorted(self.rejected.items()):
            record = self._record(place, kafka.readings_topic)
            found.append((record.partition, record.offset, dead_letter(record, reason, kafka.dead_letters_topic)))
        return found

    def _record(self, place: int, topic: str) -> Record:
        at = place
        for one in self.fetched:
            if at < len(one.values):
                return Record(
                    topic=topic,
                    partition=one.partition,
                    offset=int(one.offsets[at]),
                    timestamp_ms=int(one.timestamps_ms[at]),
                    key=one.keys[at],
                    value=one.values[at],
                    headers=one.headers[at] if one.headers else [],
                )
            at -= len(one.values)
        raise IndexError(place)


class Stored(Protocol):
    """Sensors of which the state is there, but not here yet."""

    def waiting(self, partition: int | None = None) -> int:
        """How many there are."""

    def fetch(self, partition: int, sensor_ids: Iterable[str]) -> None:
        """Bring these here, if they are among them."""

    def settle(self) -> None:
        """Bring those here that new profiles call for."""


class Intake:
    """Decodes records and finds the profiles of their sensors; new sensors appear by themselves, up to a limit."""

    def __init__(self, profiles: Profiles, kafka: KafkaSettings, worker: WorkerSettings) -> None:
        self._profiles = profiles
        self._max_sensors = worker.max_sensors
        self._partition: Ints = np.zeros(0, np.int64)
        self.stored: Stored | None = None
        limits = Limits(message_bytes=kafka.max_message_bytes, channels=worker.max_channels)
        self._decoder = Decoder(self._channels_of, limits, self._expect)

    def take(self, fetched: Sequence[Fetched]) -> Batch:
        """The records of several fetches as one batch."""
        values = [value for one in fetched for value in one.values]
        partition = self._partition = np.concatenate([np.full(len(one.values), one.partition) for one in fetched])
        decoded = self._decoder.decode(values)
        timestamp_ms = np.concatenate([one.timestamps_ms for one in fetched])
        rejected = {one.message: one.reason for one in decoded.rejected}
        count = np.zeros(len(values), np.int64)
        for columns in decoded.columns:
            count += np.bincount(columns.message, minlength=len(values))
        start = np.concatenate([[0], np.cumsum(np.maximum(count, 1))])
        placed = [self._placed(columns, start, partition, timestamp_ms) for columns in decoded.columns]
        for one in placed if self.stored and self.stored.waiting() else ():
            self._fetch(one)
        beyond = self._beyond_limit(decoded.columns, placed)
        rejected |= beyond
        parts: list[Part] = []
        for columns, one in zip(decoded.columns, placed, strict=True):
            parts += self._profiles.parts(one.some(~np.isin(columns.message, list(beyond))) if beyond else one)
        if self.stored:
            self.stored.settle()
        return Batch(
            fetched=fetched,
            parts=parts,
            start=start,
            partition=partition,
            offset=np.concatenate([one.offsets for one in fetched]),
            timestamp_ms=timestamp_ms,
            rejected=rejected,
        )

    def forget(self) -> None:
        """Ask anew for the channels of all sensors: state has come from elsewhere."""
        self._decoder.forget()

    def _expect(self, new: Sequence[tuple[int, str]]) -> None:
        """Bring the state of sensors here before they are met: their channels are those that it has."""
        if self.stored and self.stored.waiting():
            of: dict[int, list[str]] = {}
            for message, sensor_id in new:
                of.setdefault(int(self._partition[message]), []).append(sensor_id)
            for partition, sensor_ids in of.items():
                self.stored.fetch(partition, sensor_ids)

    def _fetch(self, columns: Columns) -> None:
        """Bring the state of sensors here that were met in another partition before."""
        for partition in np.unique(columns.partition).tolist():
            mine = np.unique(columns.sensor[columns.partition == partition]).tolist()
            if self.stored:
                self.stored.fetch(partition, [columns.sensor_ids[i] for i in mine])

    def _channels_of(self, sensor_id: str, offered: Channels) -> Channels:
        """The channels of a sensor that was not met before; raises DataError where no weights fit it."""
        channels = self._profiles.channels_of(sensor_id, offered)
        try:
            self._profiles.name(sensor_id, channels)
        except (ArtifactError, ConfigError) as error:
            raise DataError(f"no-weights: {error}") from error
        return channels

    @staticmethod
    def _placed(columns: decode.Columns, start: Ints, partition: Ints, timestamp_ms: Ints) -> Columns:
        message = columns.message
        rank = ranks(message) if columns.rank is None else columns.rank
        return Columns(
            channels=columns.channels,
            sensor_ids=columns.sensor_ids,
            sensor=columns.sensor,
            time_ms=columns.time_ms,
            values=columns.values,
            partition=partition[message],
            position=start[message] + rank,
            received_ms=timestamp_ms[message],
        )

    def _beyond_limit(self, decoded: Sequence[decode.Columns], placed: Sequence[Columns]) -> dict[int, str]:
        """The messages with sensors that are beyond their partition's limit, and the reason."""
        beyond: dict[int, str] = {}
        for partition in sorted({p for one in placed for p in np.unique(one.partition).tolist()}):
            room = self._max_sensors - self._profiles.count(partition)
            room -= self.stored.waiting(partition) if self.stored else 0
            if sum(len(one.sensor_ids) for one in placed) <= room:
                continue
            mine = [one.partition == partition for one in placed]
            if sum(len(np.unique(one.sensor[at])) for one, at in zip(placed, mine, strict=True)) <= room:
                continue
            for columns, at in zip(decoded, mine, strict=True):
                fits, without = self._fitting(columns, at, partition, room)
                room -= fits
                reason = (
                    f"too-many-sensors: partition {partition} already has {self._max_sensors:,} sensors "
                    f"(worker.max_sensors): raise the limit, or find out who sends so many names"
                )
                beyond |= dict.fromkeys(without, reason)
        return beyond

    def _fitting(self, columns: decode.Columns, mine: Bools, partition: int, room: int) -> tuple[int, list[int]]:
        """How many new sensors of a partition find room, in order of arrival, and the messages whose do not all."""
        known = [self._profiles.knows(sensor_id, partition) for sensor_id in columns.sensor_ids]
        new = mine & ~np.array(known, np.bool_)[columns.sensor]
        message, sensor = columns.message[new], columns.sensor[new]
        starts = np.flatnonzero(np.diff(message, prepend=-1))
        entered, without = set[int](), list[int]()
        for begin, end in zip(starts, np.append(starts[1:], len(message)), strict=len(starts) > 0):
            fresh = set(sensor[begin:end].tolist()) - entered
            if len(entered) + len(fresh) <= room:
                entered |= fresh
            else:
                without.append(int(message[begin]))
        return len(entered), without
