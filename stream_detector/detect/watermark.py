"""How far event time has come in each partition, and at which reading of a batch it passed a given time.

A watermark is the newest time among all readings of a partition so far. It moves with the readings alone, so that
what depends on it comes out the same in a replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stream_detector.detect.state import distinct
from stream_detector.records import Ints

NEVER = np.iinfo(np.int64).max
START = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Passage:
    """The watermark's way through one batch of M readings.

    mark: (M,) watermark of the reading's partition, that reading included. steps: for each partition, the
    positions of its readings in the batch and the watermark there, both rising.
    """

    mark: Ints
    steps: Mapping[int, tuple[Ints, Ints]]

    def reached(self, partition: int) -> int:
        """The watermark after the batch; the least integer for a partition without readings in it."""
        return int(self.steps[partition][1][-1]) if partition in self.steps else START

    def passes(self, partition: int, time_ms: Ints) -> Ints:
        """Position of the first reading with which the partition's watermark lies behind each time (n,)."""
        positions, marks = self.steps[partition]
        found: Ints = positions[np.minimum(np.searchsorted(marks, time_ms, side="right"), len(positions) - 1)]
        return found


class Watermarks:
    """The newest event time of each partition."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}

    def advance(self, partition: Ints, time_ms: Ints) -> Passage:
        """Take a batch in: partition and time (M,) of its readings, in order within each partition.

        A place in the batch without a reading has the partition -1.
        """
        mark = np.empty_like(time_ms)
        steps = {}
        for p in distinct(partition[partition >= 0]).tolist():
            positions = np.flatnonzero(partition == p)
            marks = np.maximum(np.maximum.accumulate(time_ms[positions]), self.of.get(p, START))
            mark[positions] = marks
            steps[p] = positions, marks
            self.of[p] = int(marks[-1])
        return Passage(mark, steps)
