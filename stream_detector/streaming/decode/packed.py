"""Messages of packed columns -> blocks; `stream_detector.packed` has the layout.

A message is only cut into its columns here. These are joined, and looked at, for all messages of a block together, so
that a message costs little more than its header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from stream_detector import packed
from stream_detector.records import Bools, Floats, Ints
from stream_detector.streaming.decode.limits import Limits, UnusableError
from stream_detector.streaming.decode.times import Clock
from stream_detector.streaming.files.times import LAST_MS, shown


@dataclass(frozen=True, slots=True)
class Cut:
    """A message of N readings, cut into its columns; `sensor` is empty where there is one sensor."""

    width: int
    names: bytes
    sensor_ids: list[str]
    readings: int
    times: bytes
    values: bytes
    sensor: bytes


def cut(value: bytes, limits: Limits) -> Cut:
    """The columns of a message that begins like packed ones; raises UnusableError where the lengths do not agree."""
    try:
        _, version, width, C, S, N, names_bytes, ids_bytes, whole = packed.HEADER.unpack_from(value)
    except struct.error:
        raise UnusableError(
            f"invalid-packed: the message ends within the header of {packed.HEADER.size} bytes"
        ) from None
    if version != packed.VERSION:
        raise UnusableError(f"invalid-packed: version {version} is not known here; send version {packed.VERSION}")
    if width not in packed.VALUES:
        raise UnusableError(f"invalid-packed: a value has {width} bytes; send 8 (float64) or 4 (float32)")
    if not (C and S and N) or S > N:
        raise UnusableError(
            f"wrong-length: there are {C:,} channels, {S:,} sensors and {N:,} readings; none may be 0, and each sensor "
            f"needs a reading"
        )
    if limits.readings < N:
        raise UnusableError(
            f"too-large: the message has {N:,} readings, more than {limits.readings:,}; send fewer readings in one"
        )
    needed = packed.size(width, C, S, N, names_bytes + ids_bytes)
    if len(value) != whole or whole != needed:
        raise UnusableError(
            f"wrong-length: the message has {len(value):,} bytes, its header says {whole:,} and its columns {needed:,}"
        )
    names = value[packed.HEADER.size : (ids := packed.HEADER.size + names_bytes)]
    if names.count(b"\n") != C - 1:
        raise UnusableError(f"wrong-length: there are {C:,} channels, and not as many names with line feeds between")
    times = packed.columns_at(names_bytes + ids_bytes)
    values = times + 8 * N
    sensor = values + width * N * C
    sensor_ids = _ids(value[ids : ids + ids_bytes], S)
    return Cut(width, names, sensor_ids, N, value[times:values], value[values:sensor], value[sensor:])


def _ids(text: bytes, sensors: int) -> list[str]:
    found = decoded(text).split(packed.BETWEEN) if sensors > 1 else [decoded(text)]
    if len(found) != sensors:
        raise UnusableError(f"wrong-length: there are {sensors:,} sensors, and not as many ids with line feeds between")
    return found


def decoded(text: bytes) -> str:
    """Names as text; raises UnusableError."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise UnusableError("invalid-packed: a name is not UTF-8 text") from None


class PackedBlock:
    """Messages with the same channels and width of a value, in order of arrival; used as `gathering.Block` is.

    sensor_ids, messages: one entry for each sensor of each message.
    """

    many = True

    def __init__(self, names: tuple[str, ...], width: int) -> None:
        self.names = names
        self.mixed = False
        self.sensor_ids: list[str] = []
        self.messages: list[int] = []
        self._width = width
        self._first: list[int] = []
        self._sensors: list[int] = []
        self._counts: list[int] = []
        self._times: list[bytes] = []
        self._values: list[bytes] = []
        self._index: list[bytes] = []

    def add(self, message: int, one: Cut) -> None:
        """Take a message in."""
        S = len(one.sensor_ids)
        self._first.append(len(self.messages))
        self._sensors.append(S)
        self._counts.append(one.readings)
        self._times.append(one.times)
        self._values.append(one.values)
        self._index.append(one.sensor or bytes(packed.SENSORS.itemsize * one.readings))
        self.sensor_ids += one.sensor_ids
        self.messages += [message] * S
        self.mixed = self.mixed or S > 1

    def owner(self) -> Ints:
        """Which entry each reading (N,) is of; one whose sensor there is not counts as of the message's first."""
        first: Ints = np.repeat(np.array(self._first, np.int64), self._counts)
        return first + np.where(self._wrong(), 0, self._indexes()) if self.mixed else first

    def rank(self) -> Ints | None:
        """The place of each reading (N,) in its message; None where no message is of several sensors."""
        if not self.mixed:
            return None
        counts = np.array(self._counts, np.int64)
        return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)

    def time_ms(self, clock: Clock) -> Ints:
        """(N,) milliseconds; -1 for what is no time in the years 1970 to 2200."""
        times = self._stated = np.frombuffer(b"".join(self._times), packed.TIMES).astype(np.int64)
        return np.where((times >= 0) & (times <= LAST_MS), times, -1)

    def stated(self, row: int) -> float:
        """The time of a reading as it came."""
        return float(self._stated[row])

    def values(self) -> Floats:
        """(N, C); every NaN is the same one, so that equal readings make equal rows."""
        with np.errstate(invalid="ignore"):
            values: Floats = np.frombuffer(b"".join(self._values), packed.VALUES[self._width]).astype(np.float64)
        values[np.isnan(values)] = np.nan
        return values.reshape(-1, len(self.names))

    def faults(self, values: Floats) -> dict[int, str]:
        """The messages that cannot be used, with the reason."""
        found: dict[int, str] = {}
        infinite = np.isinf(values)
        if infinite.any():
            rows, channels = np.nonzero(infinite)
            message, first = np.unique(np.array(self.messages)[self.owner()[rows]], return_index=True)
            for one, channel in zip(message.tolist(), channels[first].tolist(), strict=True):
                found[one] = f"not-finite: {shown(self.names[channel])} is infinite; NaN is a missing value"
        if self.mixed:
            messages, owner, wrong = np.array(self.messages), self.owner(), self._wrong()
            idle = np.bincount(owner[~wrong], minlength=len(messages)) == 0
            for message in np.unique(np.concatenate([messages[idle], messages[owner[wrong]]])).tolist():
                found[message] = "invalid-packed: a reading is of none of the sensors, or a sensor has no reading"
        return found

    def _indexes(self) -> Ints:
        return np.frombuffer(b"".join(self._index), packed.SENSORS).astype(np.int64)

    def _wrong(self) -> Bools:
        wrong: Bools = self._indexes() >= np.repeat(self._sensors, self._counts)
        return wrong
