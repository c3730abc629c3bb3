"""What the watchers are shown: a batch of readings, and what one pass of the buffers took of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_detector.detect.state import State
from stream_detector.detect.watermark import Passage
from stream_detector.records import Bools, Ints, Readings


@dataclass(frozen=True, slots=True)
class Batch:
    """A profile's readings (N,) in a batch of all profiles.

    position: (N,) their places in the whole batch, rising. passage: the watermarks' way through the whole batch.
    """

    readings: Readings
    position: Ints
    passage: Passage


@dataclass(frozen=True, slots=True)
class Taken:
    """Readings (n,) that one pass appended, in sensor order: R sensors, one run of readings each.

    row, place: where in the state each lies. source: its index in the batch. sensor, take: (R,) the runs' sensors
    and lengths. seen: (R,) readings that each had before.
    """

    row: Ints
    place: Ints
    source: Ints
    sensor: Ints
    take: Ints
    seen: Ints

    @property
    def starts(self) -> Ints:
        """(R,) where each sensor's run begins."""
        return np.cumsum(self.take) - self.take

    def some(self, runs: Bools) -> Taken:
        """The runs marked in (R,) alone."""
        of = np.repeat(runs, self.take)
        return Taken(self.row[of], self.place[of], self.source[of], self.sensor[runs], self.take[runs], self.seen[runs])


def muted(state: State, sensor: int, time_ms: int) -> bool:
    """Whether the sensor is under maintenance at this time."""
    return bool(state["fb_begins_ms"][sensor] <= time_ms < state["fb_ends_ms"][sensor])
