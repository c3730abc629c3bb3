"""What is still there of a few sensors around a moment: their readings on the topic, their rows in the store.

Reads with a consumer that is in no group and takes nothing over, so that workers notice nothing. Bounded in messages:
so many before the moment, so many behind it. Knows nothing of alerts and weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
import numpy as np

from stream_detector.errors import StoreError
from stream_detector.records import Floats, Ints, Readings
from stream_detector.settings import Overrides, Settings, parse_duration
from stream_detector.streaming.decode import Decoder, Limits
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.store import Rows, Store
from stream_detector.streaming.store.connection import Patience
from stream_detector.streaming.stored_rows import Meta
from stream_detector.streaming.topic_reader import TopicReader

SKEW_MS = 60_000
"""How far apart the clocks of those who send and those who judge may be."""
MOST_READINGS = 500_000
"""Of all sensors together; the oldest give way."""
PATIENCE = Patience(attempts=2)
Part: TypeAlias = tuple[Ints, Floats, Ints, Ints]
"""Times, values, arrivals and offsets of some readings of a sensor."""


@dataclass(frozen=True, slots=True)
class Row:
    """A sensor's row as the store has it. next_offset: the first message that is not in it."""

    partition: int
    next_offset: int
    channels: tuple[str, ...]
    rows: Rows


@dataclass
class Kept:
    """The readings (N,) of one sensor in one partition, in the order in which they came.

    aside: (M, 2) time and arrival of those that are dated too long after they arrived, which no window has.
    """

    sensor_id: str
    partition: int
    channels: tuple[str, ...]
    time_ms: Ints
    values: Floats
    received_ms: Ints
    offset: Ints
    aside: Ints

    def __len__(self) -> int:
        return len(self.time_ms)

    def spans(self, moment_ms: int) -> bool:
        """Whether there are readings of before, or of, a time and of behind, or of, it."""
        return bool((self.time_ms <= moment_ms).any() and (self.time_ms >= moment_ms).any())

    def readings(self, until_offset: int | None = None) -> Readings:
        """Those before an offset, as readings of the sensor in row 0."""
        stop = len(self) if until_offset is None else int(np.searchsorted(self.offset, until_offset))
        zeros = np.zeros(stop, np.int64)
        return Readings(zeros, self.time_ms[:stop], self.values[:stop], self.received_ms[:stop])


@dataclass
class Retained:
    """What was found, by sensor. from_ms: broker's time of the first message that was looked at, None without any.

    skipped: messages before that which are there too. until: by partition, the offset that reading went up to. away:
    why the store could not be asked.
    """

    kept: dict[str, Kept] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    from_ms: int | None = None
    messages: int = 0
    skipped: int = 0
    until: dict[int, int] = field(default_factory=dict)
    away: str = ""


def look(
    settings: Settings, sensor_ids: Sequence[str], group: str | None, moments_ms: Sequence[int], most: int
) -> Retained:
    """The readings of these sensors, of `most` messages before a moment and `most` behind it.

    moments_ms: when the one that matters was on the topic at the latest, as the broker tells time, and the time that
    it bears: where readings were sent with their own times, the broker goes by those. Raises TransportError without
    the topic.
    """
    topic = settings.kafka.readings_topic
    with TopicReader(settings.kafka) as reader:
        bounds = reader.bounds(topic)
        rows, away = _rows(settings, bounds, sensor_ids)
        of = {row.partition for row in rows.values()} & set(bounds) or set(bounds)
        found: Retained | None = None
        before: list[dict[int, tuple[int, int]]] = []
        for moment_ms in moments_ms:
            at = reader.offsets_at(topic, moment_ms + SKEW_MS)
            ranges = {p: _around(at.get(p), bounds[p], max(1, most // len(of))) for p in of}
            if ranges in before:
                continue
            before.append(ranges)
            gathering, now = _Gathering(settings, sensor_ids, group, rows), Retained(rows=rows, away=away)
            for fetched in reader.between(topic, ranges):
                gathering.take(fetched, now)
            now.skipped = sum(begin - bounds[p][0] for p, (begin, _) in ranges.items())
            now.until = {p: end for p, (_, end) in ranges.items()}
            now.kept = gathering.kept()
            there = any(one.spans(moments_ms[-1]) for one in now.kept.values())
            found = now if found is None or there else found
            if there:
                break
    return found or Retained()


def further(settings: Settings, reader: TopicReader, found: Retained, kept: Kept, most: int) -> Kept | None:
    """What has come of a sensor since it was looked at, or last asked for; None where nothing has.

    Of more than `most` messages only the latest are read. `found` remembers how far that is.
    """
    topic, partition = settings.kafka.readings_topic, kept.partition
    first, end = reader.bounds(topic)[partition]
    begin = max(first, found.until.get(partition, end), end - most)
    gathering = _Gathering(settings, [kept.sensor_id], None, found.rows)
    for fetched in reader.between(topic, {partition: (begin, end)}):
        gathering.take(fetched, found)
    found.until[partition] = end
    new = gathering.kept().get(kept.sensor_id)
    return new if new is not None and new.channels == kept.channels and len(new) else None


def _around(at: int | None, bounds: tuple[int, int], most: int) -> tuple[int, int]:
    first, end = bounds
    at = end if at is None else at
    return max(first, at - most), min(end, at + most)


def row(settings: Settings, partition: int, sensor_id: str) -> tuple[Row | None, str]:
    """A sensor's row as it is now; None with the reason where the store does not answer, without one where none is."""
    found, away = _rows(settings, [partition], [sensor_id])
    return found.get(sensor_id), away


def _rows(settings: Settings, partitions: Iterable[int], sensor_ids: Sequence[str]) -> tuple[dict[str, Row], str]:
    """The sensors' rows, and why there are none where the store does not answer."""
    found: dict[str, Row] = {}
    try:
        with Store(settings.redis, settings.kafka.group_id, PATIENCE) as store:
            for partition in partitions:
                claim = store.look(settings.kafka.readings_topic, partition, sensor_ids)
                if claim is None or claim.next_offset is None:
                    continue
                meta = msgspec.json.decode(claim.meta, type=Meta)
                for shape, several in claim.sensors.items():
                    for rows in several:
                        channels = tuple(meta.channels.get(shape, ()))
                        for sensor_id, one in _single(rows):
                            found[sensor_id] = Row(partition, claim.next_offset, channels, one)
    except StoreError as error:
        return {}, str(error)
    return found, ""


def _single(rows: Rows) -> Iterator[tuple[str, Rows]]:
    for i, sensor_id in enumerate(rows.ids):
        yield sensor_id, Rows(rows.layout, [sensor_id], rows.packed[i * rows.width : (i + 1) * rows.width])


class _Gathering:
    """Decodes what may be of the sensors, and keeps what is."""

    def __init__(
        self, settings: Settings, sensor_ids: Sequence[str], group: str | None, rows: Mapping[str, Row]
    ) -> None:
        self._wanted, self._rows = frozenset(sensor_ids), rows
        self._overrides = Overrides(settings.sensors)
        self._ahead_ms = parse_duration(settings.quality.clock_ahead)
        limits = Limits(message_bytes=settings.kafka.max_message_bytes, channels=settings.worker.max_channels)
        self._decoder = Decoder(self._channels_of, limits)
        names = {*sensor_ids, *([group] if group else [])}
        self._keys = {name.encode("utf-8", "surrogatepass") for name in names}
        # An id may be written with its letters as they are, or all that are not ASCII as escapes; packed, as it is.
        written = {json.dumps(name, ensure_ascii=plain)[1:-1] for name in sensor_ids for plain in (True, False)}
        written |= set(sensor_ids)
        self._texts = [text.encode("utf-8", "surrogatepass") for text in written]
        self._parts: dict[tuple[str, int], list[Part]] = {}
        self._channels: dict[str, tuple[str, ...]] = {}

    def take(self, fetched: Fetched, into: Retained) -> None:
        """Keep what one fetch has brought of the sensors."""
        into.messages += len(fetched.values)
        first_ms = int(fetched.timestamps_ms[0])
        into.from_ms = first_ms if into.from_ms is None else min(into.from_ms, first_ms)
        near = [i for i, value in enumerate(fetched.values) if self._may_be(fetched.keys[i], value or b"")]
        if not near:
            return
        places = np.array(near)
        for part in self._decoder.decode([fetched.values[i] for i in near]).columns:
            for index, sensor_id in enumerate(part.sensor_ids):
                mine = np.flatnonzero(part.sensor == index) if sensor_id in self._wanted else places[:0]
                if len(mine):
                    self._channels[sensor_id] = part.channels
                    at = places[part.message[mine]]
                    columns = (part.time_ms[mine], part.values[mine], fetched.timestamps_ms[at], fetched.offsets[at])
                    self._parts.setdefault((sensor_id, fetched.partition), []).append(columns)
        self._make_room()

    def kept(self) -> dict[str, Kept]:
        """By sensor, from the partition that its row is in, else the one with the most of it."""
        found: dict[str, Kept] = {}
        for (sensor_id, partition), parts in self._parts.items():
            one = self._joined(sensor_id, partition, parts)
            row, known = self._rows.get(sensor_id), found.get(sensor_id)
            better = known is None or (len(one) > len(known) if row is None else row.partition == partition)
            if better:
                found[sensor_id] = one
        return found

    def _joined(self, sensor_id: str, partition: int, parts: Sequence[Part]) -> Kept:
        time_ms, values, received_ms, offset = (np.concatenate(column) for column in zip(*parts, strict=True))
        believed = time_ms - received_ms <= self._ahead_ms
        return Kept(
            sensor_id,
            partition,
            self._channels[sensor_id],
            time_ms[believed],
            values[believed],
            received_ms[believed],
            offset[believed],
            np.column_stack([time_ms, received_ms])[~believed],
        )

    def _may_be(self, key: bytes | None, value: bytes) -> bool:
        return key in self._keys or any(text in value for text in self._texts)

    def _make_room(self) -> None:
        while sum(len(one[0]) for parts in self._parts.values() for one in parts) > MOST_READINGS:
            longest = max(self._parts.values(), key=lambda parts: sum(len(one[0]) for one in parts))
            if len(longest) == 1:
                return
            longest.pop(0)

    def _channels_of(self, sensor_id: str, offered: tuple[str, ...]) -> tuple[str, ...]:
        """As settings name them, else as its row has them, else by name."""
        row = self._rows.get(sensor_id)
        return self._overrides.of(sensor_id).channels or (row.channels if row else ()) or tuple(sorted(offered))
