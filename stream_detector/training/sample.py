"""Windows to learn from: readings through the same buffers as in production.

Knows readings and scales; nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.detect import buffers, scale
from stream_detector.detect.buffers import Buffers
from stream_detector.detect.scoring import fill_missing
from stream_detector.detect.state import SensorTable
from stream_detector.errors import DataError
from stream_detector.records import Bools, Floats, Floats32, Ints, Readings

BATCH = 4096


@dataclass(frozen=True, slots=True)
class History:
    """Readings to learn from, in time order; `readings.sensor` counts in `sensor_ids`."""

    readings: Readings
    sensor_ids: Sequence[str]
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scales:
    """Centre and spread (S, C) of every sensor at the end of its history; `known` (S,) where it had a full window."""

    center: Floats
    spread: Floats
    known: Bools


def scales(history: History, window: int) -> Scales:
    """The scale that production would have arrived at after these readings; raises DataError if none did."""
    table, rolling = _buffers(history, window, stride=window)
    for start in range(0, len(history.readings), BATCH):
        rolling.append(history.readings[start : start + BATCH])
    state = table.state
    known: Bools = np.any(state["folds"] > 0, axis=1)
    if not known.any():
        longest = int(state["seen"].max(initial=0))
        raise DataError(
            f"there is too little to learn from: the longest sensor has {longest} readings in the training part, "
            f"a window takes {window}; give more rows to train on (--train-rows) or a smaller window (--window)"
        )
    return Scales(state["center"].copy(), state["spread"].copy(), known)


def windows(history: History, window: int, scale_of: Scales, limit: int) -> Floats32:
    """At most about `limit` scaled windows (N, W, C), evenly spread over the readings of all sensors."""
    stride = max(1, -(-len(history.readings) // limit))
    _, rolling = _buffers(history, window, stride)
    parts = []
    for start in range(0, len(history.readings), BATCH):
        due = rolling.append(history.readings[start : start + BATCH])
        center, spread = scale_of.center[due.sensor], scale_of.spread[due.sensor]
        parts.append(fill_missing(scale.apply(due.windows, center, scale.unit(center, spread))))
    return np.concatenate(parts) if parts else np.zeros((0, window, len(history.channels)), np.float32)


def split(readings: Readings, share: float, window: int = 1) -> tuple[Readings, Readings]:
    """Each sensor's first `share` of readings and the rest; both keep the order.

    Where these would not fill a window, the first `share` of its windows.
    """
    count = np.bincount(readings.sensor)
    first = share * count
    first = np.where(first < window, window - 1 + share * (count - window + 1), first)
    early = rank(readings.sensor) < first[readings.sensor]
    return select(readings, early), select(readings, ~early)


def tail(readings: Readings, count: int) -> Readings:
    """Each sensor's last `count` readings, in order."""
    return select(readings, last(readings.sensor, count))


def last(sensor: Ints, count: int) -> Bools:
    """(N,) whether a reading is among the last `count` of its sensor. sensor: (N,)."""
    found: Bools = rank(sensor[::-1])[::-1] < count
    return found


def select(readings: Readings, rows: Bools) -> Readings:
    """The readings marked in `rows`."""
    return Readings(readings.sensor[rows], readings.time_ms[rows], readings.values[rows])


def rank(sensor: Ints) -> Ints:
    """How many readings of the same sensor come before each. sensor: (N,)."""
    order = np.argsort(sensor, kind="stable")
    starts = np.flatnonzero(np.diff(sensor[order], prepend=-1))
    lengths = np.diff(np.append(starts, len(sensor)))
    before = np.empty(len(sensor), np.int64)
    before[order] = np.arange(len(sensor)) - np.repeat(starts, lengths)
    return before


def _buffers(history: History, window: int, stride: int) -> tuple[SensorTable, Buffers]:
    table = SensorTable(buffers.fields(window, len(history.channels)))
    table.rows(history.sensor_ids)
    return table, Buffers(table, window, stride)
