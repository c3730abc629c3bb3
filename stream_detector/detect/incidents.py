"""From decisions to incidents: opened, updated, closed.

An incident is one story: it opens with the first exceedance, is updated when it gets worse or has lasted a while
longer, and closes when the score has been calm for some steps or when it has lasted too long. All is counted in
the sensor's own readings and dated by their times, so it comes out the same however they came in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from stream_detector.detect.due import Due
from stream_detector.detect.state import Fields, SensorTable, State
from stream_detector.detect.thresholds import Decisions, severity
from stream_detector.records import Event, Floats, Ints

CloseReason: TypeAlias = Literal["recovered", "timed_out"]

FIELDS: Fields = [
    ("in_open", "<u1"),
    ("in_waits", "<u1"),
    ("in_severity", "<u1"),
    ("in_run", "<i4"),
    ("in_calm", "<i4"),
    ("in_steps", "<i4"),
    ("in_told", "<i4"),
    ("in_seq", "<i4"),
    ("in_start_ms", "<i8"),
    ("in_active_ms", "<i8"),
    ("in_peak", "<f8"),
]


@dataclass(frozen=True, slots=True)
class IncidentRules:
    """Counted in scored steps of the sensor.

    open_after: consecutive exceedances that open an incident. close_after: consecutive calm steps that close it.
    update_every: steps after which a lasting incident is told again. time_out: steps after which it is closed
    as the new normal; the sensor must then be calm once before another can open.
    """

    open_after: int = 1
    close_after: int = 10
    update_every: int = 250
    time_out: int = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """What was decided of one scored step; `severity` counts up from 0 with the rank of its name."""

    time_ms: int
    score: float
    anomalous: bool
    calm: bool
    severity: int


@dataclass(frozen=True, slots=True)
class Change:
    """Something to tell of a sensor's incident, at step `step` of due window `window`."""

    window: int
    step: int
    event: Event
    close_reason: CloseReason | None
    seq: int
    start_ms: int
    end_ms: int | None
    peak: float
    severity: int


@dataclass(slots=True)
class Life:
    """The incident of one sensor while its steps are walked through: the `in_` fields of its row.

    run: exceedances in a row before opening. waits: not calm since the last one timed out. told: steps since the
    last alert. start_ms: the first exceedance. active_ms: the last step that was not calm.
    """

    open: int
    waits: int
    severity: int
    run: int
    calm: int
    steps: int
    told: int
    seq: int
    start_ms: int
    active_ms: int
    peak: float

    @classmethod
    def load(cls, row: State) -> Life:
        """Read the sensor's row."""
        values: dict[str, Any] = {name.removeprefix("in_"): row[name].item() for name, _ in FIELDS}
        return cls(**values)

    def store(self, row: State) -> None:
        """Write the sensor's row."""
        for name, _ in FIELDS:
            row[name] = getattr(self, name.removeprefix("in_"))

    def walk(self, step: Step, rules: IncidentRules) -> tuple[Event, CloseReason | None] | None:
        """Live through one step; what became of the incident, if anything."""
        return self._go_on(step, rules) if self.open else self._begin(step, rules)

    def _begin(self, step: Step, rules: IncidentRules) -> tuple[Event, CloseReason | None] | None:
        if self.waits:
            self.waits = int(not step.calm)
            return None
        if not step.anomalous:
            self.run = 0
            return None
        if self.run == 0:
            self.start_ms, self.peak, self.severity = step.time_ms, step.score, step.severity
        self.run += 1
        self.peak, self.severity = max(self.peak, step.score), max(self.severity, step.severity)
        if self.run < rules.open_after:
            return None
        self.open, self.run, self.seq = 1, 0, 0
        self.calm = self.steps = self.told = 0
        self.active_ms = step.time_ms
        return "opened", None

    def _go_on(self, step: Step, rules: IncidentRules) -> tuple[Event, CloseReason | None] | None:
        self.steps += 1
        self.told += 1
        self.calm = self.calm + 1 if step.calm else 0
        if not step.calm:
            self.active_ms = step.time_ms
        self.peak = max(self.peak, step.score)
        worse = step.anomalous and step.severity > self.severity
        self.severity = max(self.severity, step.severity) if step.anomalous else self.severity
        if self.calm >= rules.close_after:
            self.open = 0
            return "closed", "recovered"
        if self.steps >= rules.time_out:
            self.open, self.waits = 0, 1
            return "closed", "timed_out"
        if worse or self.told >= rules.update_every:
            self.told = 0
            return "updated", None
        return None


class Incidents:
    """The incidents of one profile's sensors."""

    def __init__(self, table: SensorTable, rules: IncidentRules) -> None:
        self.table = table
        self.rules = rules

    def advance(self, due: Due, score: Floats, decisions: Decisions) -> list[Change]:
        """Walk the steps of every sensor that has something going on; what there is to tell, in reading order.

        score: (B, S), NaN where a step was not scored.
        """
        state = self.table.state
        windows = self._busy(due, decisions)
        rank = np.zeros(score.shape, np.int64)
        rank[windows] = severity(decisions.p_value[windows], decisions.alpha[windows])
        lives = {sensor: Life.load(state[sensor]) for sensor in np.unique(due.sensor[windows]).tolist()}
        changes: list[Change] = []
        for window in windows[np.argsort(due.turn[windows], kind="stable")].tolist():
            life = lives[int(due.sensor[window])]
            for i in np.flatnonzero(~np.isnan(score[window])).tolist():
                step = Step(
                    int(due.time_ms[window, i]),
                    float(score[window, i]),
                    bool(decisions.anomalous[window, i]),
                    bool(decisions.calm[window, i]),
                    int(rank[window, i]),
                )
                if told := life.walk(step, self.rules):
                    changes.append(_change(life, window, i, *told))
        for sensor, life in lives.items():
            life.store(state[sensor])
        return sorted(changes, key=lambda change: (due.reading[change.window], change.step))

    def _busy(self, due: Due, decisions: Decisions) -> Ints:
        """The windows of sensors that have an incident, or may get one in this batch; the others cost nothing."""
        state, sensor = self.table.state, due.sensor
        going_on = (state["in_open"][sensor] > 0) | (state["in_waits"][sensor] > 0) | (state["in_run"][sensor] > 0)
        exceeding = sensor[decisions.anomalous.any(axis=1)]
        return np.flatnonzero(going_on | np.isin(sensor, exceeding))


def _change(life: Life, window: int, step: int, event: Event, reason: CloseReason | None) -> Change:
    end_ms = life.active_ms if event == "closed" else None
    change = Change(window, step, event, reason, life.seq, life.start_ms, end_ms, life.peak, life.severity)
    life.seq += 1
    return change
