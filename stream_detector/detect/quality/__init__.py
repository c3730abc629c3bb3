"""Faults of the readings themselves: a sensor that falls silent, a value that is stuck, a clock that is wrong.

Each kind is an incident of its own beside the anomalies of the scores, and is found on the sensor's own readings
and its partition's watermark alone. `silence`, `stuck` and `clock` know one kind each; the buffers show them what
was appended, pass by pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from stream_detector.detect.changes import Change
from stream_detector.detect.quality import clock, silence, stuck
from stream_detector.detect.quality.batch import Batch, Taken
from stream_detector.detect.quality.clock import Clock
from stream_detector.detect.quality.silence import Silence
from stream_detector.detect.quality.stuck import Stuck
from stream_detector.detect.state import Fields, SensorTable, distinct
from stream_detector.records import Bools, Ints

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class QualityRules:
    """When readings are at fault.

    silent_after: usual intervals without a reading; 0 is never. stuck_after: equal readings in a row; 0 is never.
    clock_ahead_ms: how far a reading's time may lie behind its arrival.
    """

    silent_after: float = 20.0
    stuck_after: int = 25
    clock_ahead_ms: int = HOUR_MS


def fields(channels: int) -> Fields:
    """A sensor's part of the state."""
    return silence.FIELDS + stuck.fields(channels) + clock.FIELDS


class Quality:
    """The three watchers of one profile's readings."""

    def __init__(self, table: SensorTable, window: int, rules: QualityRules) -> None:
        self.clock = Clock(table, rules.clock_ahead_ms)
        self.silence = Silence(table, rules.silent_after)
        self.stuck = Stuck(table, rules.stuck_after, window)
        self._batch: Batch | None = None

    def admit(self, batch: Batch) -> tuple[Bools | None, list[Change]]:
        """Which readings (N,) have a time that can be believed (None: all), and what there is to tell of clocks."""
        return self.clock.admit(batch)

    def begin(self, batch: Batch) -> None:
        """Look at this batch's readings from now on; they must be those that were admitted."""
        self._batch = batch

    def watch(self, taken: Taken) -> None:
        """Look at what one pass of the buffers has appended."""
        if self._batch is not None:
            self.silence.watch(taken, self._batch)
            self.stuck.watch(taken, self._batch)

    def folded(self, sensor: Ints) -> None:
        """Another window of these sensors is full: learn their usual interval from it."""
        self.silence.learn(sensor)

    def finish(self) -> list[Change]:
        """What there is to tell of the batch, and of sensors that the watermark has left behind."""
        batch, self._batch = self._batch, None
        if batch is None:
            return []
        return self.silence.finish(distinct(batch.readings.sensor), batch) + self.stuck.finish()


__all__ = ["Batch", "Quality", "QualityRules", "Taken", "fields"]
