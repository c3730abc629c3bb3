"""A clock that runs ahead: readings dated later than they arrived are set aside, and the sensor is told of.

Arrival is what the broker noted, so a replay decides alike. One reading from the far future would otherwise make
all that follow look late.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.changes import Change
from stream_detector.detect.quality.batch import Batch, muted
from stream_detector.detect.state import Fields, SensorTable
from stream_detector.detect.watermark import START
from stream_detector.records import Bools, Ints, Readings

FIELDS: Fields = [
    ("q_skewed", "<u1"),
    ("q_skewed_ms", "<i8"),  # arrival of the first reading that was set aside
]
SEVERITY = 1


class Clock:
    """See the module's docstring."""

    def __init__(self, table: SensorTable, ahead_ms: int) -> None:
        self.table = table
        self.ahead_ms = ahead_ms

    def believed(self, readings: Readings) -> Ints:
        """The readings' times (N,), the least integer for those that are too far ahead of their arrival."""
        ahead = self._ahead(readings)
        return readings.time_ms if ahead is None else np.where(ahead, START, readings.time_ms)

    def admit(self, batch: Batch) -> tuple[Bools | None, list[Change]]:
        """Which readings (N,) to take in, None for all of them; and what there is to tell."""
        readings, state = batch.readings, self.table.state
        skewed = self._ahead(readings)
        if skewed is None:
            return None, []
        flagged = state["q_skewed"][readings.sensor] > 0
        if not (skewed.any() or flagged.any()):
            return None, []
        notable = flagged | np.isin(readings.sensor, readings.sensor[skewed])
        changes = [
            change for i in np.flatnonzero(notable).tolist() if (change := self._note(batch, i, bool(skewed[i])))
        ]
        return ~skewed, changes

    def _ahead(self, readings: Readings) -> Bools | None:
        """Which readings (N,) are dated too far behind their arrival; None where arrivals are not known."""
        if readings.received_ms is None:
            return None
        ahead: Bools = readings.time_ms - readings.received_ms > self.ahead_ms
        return ahead

    def _note(self, batch: Batch, i: int, skewed: bool) -> Change | None:
        """Open with the first reading that is set aside, close with the first that is not."""
        state, sensor = self.table.state, int(batch.readings.sensor[i])
        if batch.readings.received_ms is None or skewed == bool(state["q_skewed"][sensor]):
            return None
        time_ms, arrived = int(batch.readings.time_ms[i]), int(batch.readings.received_ms[i])
        if skewed and muted(state, sensor, arrived):
            return None
        state["q_skewed"][sensor] = skewed
        if skewed:
            state["q_skewed_ms"][sensor] = arrived
        start = int(state["q_skewed_ms"][sensor])
        return Change(
            position=int(batch.position[i]),
            sensor=sensor,
            kind="clock_skewed",
            event="opened" if skewed else "closed",
            close_reason=None if skewed else "recovered",
            seq=0 if skewed else 1,
            start_ms=start,
            end_ms=None if skewed else arrived,
            severity=SEVERITY,
            window_ms=(start, arrived),
            value=float(time_ms - arrived),
        )
