"""From decisions to incidents: opened, updated, closed.

An incident is one story: it opens with the first exceedance, is updated when it gets worse or has lasted a while
longer, and closes when the score has been calm for some steps, when it has lasted too long, or when the sensor falls
silent. All is counted in the sensor's own readings and dated by their times, so it comes out the same however they
came in batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_detector.detect.changes import Change
from stream_detector.detect.due import Due
from stream_detector.detect.state import Fields, SensorTable, State
from stream_detector.detect.thresholds import Decisions, severity
from stream_detector.records import Bools, CloseReason, Event, Floats, Ints

FIELDS: Fields = [
    ("in_open", "<u1"),
    ("in_waits", "<u1"),
    ("in_severity", "<u1"),
    ("in_run", "<i4"),
    ("in_calm", "<i4"),
    ("in_steps", "<i4"),
    ("in_told", "<i4"),
    ("in_seq", "<i4"),
    ("in_rest", "<i4"),
    ("in_start_ms", "<i8"),
    ("in_active_ms", "<i8"),
    ("in_peak", "<f8"),
]
REGIME_SEVERITY = 1


@dataclass(frozen=True, slots=True)
class IncidentRules:
    """Counted in scored steps of the sensor.

    open_after: consecutive exceedances that open an incident. close_after: consecutive calm steps that close it.
    minimum_gap: steps after a close in which none opens. update_every: steps after which a lasting incident is told
    again. time_out: steps after which it is closed as the new normal; the sensor must then be calm once before
    another can open.
    """

    open_after: int = 1
    close_after: int = 10
    minimum_gap: int = 0
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


@dataclass
class Life:
    """The incident of one sensor while its steps are walked through: the `in_` fields of its row.

    run: exceedances in a row before opening. waits: not calm since the last one timed out. told: steps since the
    last alert. rest: steps in which none may open. start_ms: the first exceedance. active_ms: the last step that was
    not calm.
    """

    open: int
    waits: int
    severity: int
    run: int
    calm: int
    steps: int
    told: int
    seq: int
    rest: int
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

    def end(self, rules: IncidentRules) -> bool:
        """Close it from outside; whether it was open."""
        was_open, self.open, self.run = bool(self.open), 0, 0
        if was_open:
            self.rest = rules.minimum_gap
        return was_open

    def _begin(self, step: Step, rules: IncidentRules) -> tuple[Event, CloseReason | None] | None:
        if self.waits:
            self.waits = int(not step.calm)
            return None
        if self.rest:
            self.rest -= 1
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
            self.end(rules)
            return "closed", "recovered"
        if self.steps >= rules.time_out:
            self.end(rules)
            self.waits = 1
            return "closed", "timed_out"
        if worse or self.told >= rules.update_every:
            self.told = 0
            return "updated", None
        return None


@dataclass(frozen=True, slots=True)
class Judged:
    """B due windows with what was decided of their S steps.

    score: (B, S), NaN where a step was not scored. muted: (B, S) under maintenance. position: (N,) of the readings.
    """

    due: Due
    score: Floats
    decisions: Decisions
    muted: Bools
    position: Ints


class Incidents:
    """The incidents of one profile's sensors."""

    def __init__(self, table: SensorTable, rules: IncidentRules) -> None:
        self.table = table
        self.rules = rules

    def advance(self, judged: Judged, silences: Sequence[Change] = ()) -> list[Change]:
        """Walk the steps of every sensor that has something going on, and what there is to tell, in reading order.

        silences: sensors that fell silent in this batch, which ends their incidents.
        """
        due, decisions = judged.due, judged.decisions
        windows = self._busy(due, decisions)
        rank = np.zeros(judged.score.shape, np.int64)
        rank[windows] = severity(decisions.p_value[windows], decisions.alpha[windows])
        at = judged.position[due.reading[windows]] if len(windows) else windows
        # A sensor that fell silent did so before the reading that it came back with.
        events: list[tuple[int, int, int, Change | None]] = [
            (p, 1, w, None) for p, w in zip(at.tolist(), windows.tolist(), strict=True)
        ]
        events += [(change.position, 0, 0, change) for change in silences if change.event == "opened"]
        lives: dict[int, Life] = {}
        changes: list[Change] = []
        for _, _, window, silence in sorted(events, key=lambda event: event[:2]):
            sensor = int(due.sensor[window]) if silence is None else silence.sensor
            life = lives.setdefault(sensor, Life.load(self.table.state[sensor]))
            if silence is None:
                changes += self._walk(life, judged, window, rank)
            elif life.end(self.rules):
                changes.append(ended(life, sensor, silence.position, "silent", silence.start_ms))
        for sensor, life in lives.items():
            life.store(self.table.state[sensor])
        return changes

    def close(self, sensor: int, reason: CloseReason, position: int = 0) -> list[Change]:
        """Close the sensor's incident, if it has one, for a reason that is not in its scores."""
        life = Life.load(self.table.state[sensor])
        if not life.end(self.rules):
            return []
        change = ended(life, sensor, position, reason, life.active_ms)
        life.store(self.table.state[sensor])
        return [change]

    def _walk(self, life: Life, judged: Judged, window: int, rank: Ints) -> Iterator[Change]:
        """Live through the steps of one due window."""
        due, decisions, score = judged.due, judged.decisions, judged.score[window]
        sensor, position = int(due.sensor[window]), int(judged.position[due.reading[window]])
        span = (int(due.start_ms[window]), int(due.time_ms[window, -1]))
        for i in np.flatnonzero(~np.isnan(score)).tolist():
            time_ms = int(due.time_ms[window, i])
            if judged.muted[window, i]:
                if life.end(self.rules):
                    yield ended(life, sensor, position, "maintenance", life.active_ms)
                continue
            if decisions.regime_change[window, i]:
                yield Change(
                    position, sensor, "regime_change", "opened", None, 0, time_ms, time_ms, REGIME_SEVERITY, span,
                    peak=float(score[i]), at=(window, i),
                )  # fmt: skip
            step = Step(
                time_ms,
                float(score[i]),
                bool(decisions.anomalous[window, i]),
                bool(decisions.calm[window, i]),
                int(rank[window, i]),
            )
            if told := life.walk(step, self.rules):
                yield _change(life, sensor, position, (window, i), span, *told)

    def _busy(self, due: Due, decisions: Decisions) -> Ints:
        """The windows of sensors that have an incident, or may get one in this batch; the others cost nothing."""
        state, sensor = self.table.state, due.sensor
        going_on = state["in_open"][sensor] > 0
        for name in ("in_waits", "in_run", "in_rest"):
            going_on |= state[name][sensor] > 0
        exceeding = sensor[(decisions.anomalous | decisions.regime_change).any(axis=1)]
        return np.flatnonzero(going_on | np.isin(sensor, exceeding))


def _change(
    life: Life,
    sensor: int,
    position: int,
    at: tuple[int, int],
    span: tuple[int, int],
    event: Event,
    reason: CloseReason | None,
) -> Change:
    end_ms = life.active_ms if event == "closed" else None
    life.seq += 1
    return Change(
        position, sensor, "anomaly", event, reason, life.seq - 1, life.start_ms, end_ms, life.severity, span,
        peak=life.peak, at=at,
    )  # fmt: skip


def ended(life: Life, sensor: int, position: int, reason: CloseReason, last_ms: int) -> Change:
    """The close of an incident that no score comes with; last_ms: the sensor's latest reading that counts."""
    life.seq += 1
    return Change(
        position, sensor, "anomaly", "closed", reason, life.seq - 1, life.start_ms, life.active_ms, life.severity,
        (life.start_ms, last_ms), peak=life.peak,
    )  # fmt: skip
