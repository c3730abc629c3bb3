"""Rows as they are gathered from one file, and what the files of one run share.

It knows what makes a row unusable (its time, sensor or an infinite value), but not how a file is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_detector.errors import DataError
from stream_detector.records import Bools, Floats, Ints
from stream_detector.streaming.files.source import Source
from stream_detector.streaming.files.times import Times, shown, to_ms


class Shared:
    """What holds for all files of a run: channels (None before the first file), sensors, and columns left out."""

    def __init__(self, ignore: Sequence[str]) -> None:
        self.channels: tuple[str, ...] | None = None
        self.codes: dict[str, int] = {"": 0}
        self.times = Times()
        self._ignore = {name.strip().casefold(): name for name in ignore}
        self._met: set[str] = set()

    def is_channel(self, name: str) -> bool:
        """Whether a column is to be read: not when it is ignored, and never a label."""
        key = name.strip().casefold()
        self._met.add(key)
        return key not in self._ignore and key != "label"

    def check_ignored(self) -> None:
        """Refuse names that no file has: a misspelt one must not pass."""
        unknown = [name for key, name in self._ignore.items() if key not in self._met]
        if unknown:
            raise DataError(
                f"there is no column {shown(unknown)} to ignore: look for a misspelling; the channels are "
                f"{shown(self.channels or ())}"
            )


class Part:
    """The rows of one file. After `finish`, the columns below hold one entry an input row."""

    line: Ints
    code: Ints
    time_ms: Ints
    values: Floats
    usable: Bools

    def __init__(self, source: Source, shared: Shared) -> None:
        self.source = source
        self.shared = shared
        self.timestamps: list[str] = []
        self.reasons: dict[int, str] = {}
        self._chunks: list[tuple[Ints, Ints, Floats, Bools, Floats]] = []

    def add(
        self, lines: Sequence[int], timestamps: list[str], sensors: list[str], values: Floats, reasons: dict[int, str]
    ) -> None:
        """Append N rows; `values` is (N, C), and `reasons` says by position why a row cannot be used."""
        codes = self.shared.codes
        code = np.array([codes.setdefault(sensor, len(codes)) for sensor in sensors], np.int64)
        time, numeric = self.shared.times.parse(timestamps)
        for i in np.flatnonzero(~np.isfinite(time)).tolist():
            stamp = timestamps[i]
            text = f"the time {shown(stamp)} is neither ISO 8601 nor a number" if stamp else "the time is missing"
            reasons.setdefault(i, text)
        for i in np.flatnonzero(code == codes[""]).tolist():
            reasons.setdefault(i, "the sensor_id is empty")
        for i, channel in np.argwhere(np.isinf(values)).tolist():
            name = (self.shared.channels or ())[channel]
            reasons.setdefault(i, f"{shown(name)} is infinite or too large for a number")
        start = len(self.timestamps)
        self.reasons.update((start + i, reason) for i, reason in reasons.items())
        self.timestamps += timestamps
        self._chunks.append((np.array(lines, np.int64), code, time, numeric, values))

    def finish(self, time_unit: str) -> None:
        """Judge the times together; raises DataError when no row of the file can be used."""
        if not self.timestamps:
            raise DataError(f"{self.source.name} has no rows after its header: it needs readings, one a line")
        self.line, self.code, time, numeric, self.values = (
            np.concatenate(column) for column in zip(*self._chunks, strict=True)
        )
        self._chunks.clear()
        self.time_ms, possible = to_ms(time, numeric, time_unit)
        for i in np.flatnonzero(~possible).tolist():
            reason = f"the time {shown(self.timestamps[i])} is not in the years 1970 to 2200"
            self.reasons.setdefault(i, reason)
        self.usable = np.ones(len(time), np.bool_)
        bad = sorted(self.reasons)
        self.usable[bad] = False
        self.values[bad] = np.nan
        self.time_ms[bad] = 0
        if len(bad) == len(time):
            raise DataError(
                f"{self.source.name} has no usable row: in line {self.line[0]}, {self.reasons[0]}; "
                f"mend the file, or name another"
            )
