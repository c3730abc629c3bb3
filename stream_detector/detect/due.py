"""Windows that fell due, as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from stream_detector.detect.windows import Windows
from stream_detector.records import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Due:
    """B windows that fell due, each with its S freshest, still unscored steps.

    sensor: (B,) row in the table.
    held: the windows' readings.
    time_ms: (B, S) event time of the freshest steps. start_ms: (B,) of the window's first step.
    center, spread: (B, C) the sensor's scale when the window fell due.
    interval_ms: (B,) the sensor's usual time between readings.
    settling: (B, S) true just behind a gap.
    turn: (B,) how many windows of the same sensor in this batch come before this one.
    reading: (B,) index, in the batch, of the reading at which the window fell due.
    """

    sensor: Ints
    held: Windows
    time_ms: Ints
    start_ms: Ints
    center: Floats
    spread: Floats
    interval_ms: Floats
    settling: Bools
    turn: Ints
    reading: Ints

    def __len__(self) -> int:
        return len(self.sensor)

    @property
    def windows(self) -> Floats:
        """(B, W, C) raw values, NaN where missing."""
        return self.held.whole

    @property
    def rounds(self) -> list[Ints]:
        """Indices of the windows, split so that a sensor occurs at most once a round; rounds go in order."""
        if not len(self):
            return []
        if int(self.turn.max()) == 0:
            return [np.arange(len(self))]
        order = np.argsort(self.turn, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.turn[order])) + 1)

    @staticmethod
    def concatenate(parts: list[Due]) -> Due:
        """One Due of several; `parts` must not be empty."""
        if len(parts) == 1:
            return parts[0]
        names = [f.name for f in fields(Due) if f.name != "held"]
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return Due(held=Windows.concatenate([part.held for part in parts]), **columns)
