"""A sensor's readings judged once more, by the detector of the worker, and what it says of the windows of an alert.

The scale is that of then (`past`), so that scores come out as they did. Thresholds and incidents rest on all of a
sensor's past, and on people's answers: they are built from what is retained, and may differ. Knows one sensor and the
weights of one alert; not where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from stream_detector.detect import buffers
from stream_detector.detect.alerts import Evidence
from stream_detector.detect.changes import Change
from stream_detector.detect.detector import Detector
from stream_detector.detect.quality import Batch
from stream_detector.detect.state import SensorTable, State
from stream_detector.detect.watermark import Watermarks
from stream_detector.errors import DataError
from stream_detector.models.artifact import Artifact
from stream_detector.records import SEVERITIES, Alert, Floats, Ints, Readings, parse_time
from stream_detector.settings import Overrides, Settings
from stream_detector.streaming import past
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.retained import Kept, Row

JUDGED = 20_000
"""Readings before the alert that are scored, so that thresholds have a past; those before only fill the window."""
AFTER = 200
"""Readings behind the last step that are scored, to show how it went on."""
PORTION = 2_048


class Track:
    """One sensor with one artifact. start: where it was taken up, and how its scale is known.

    time_ms, score, threshold: (N,) of the readings that were scored. expected, lower, upper, contribution: (N, C) of
    the same, see `Scored`. opened: ids of the incidents that it found.
    row_until: the offset that the sensor's row goes up to must have been reached in reading; else it is no use.
    """

    def __init__(
        self, settings: Settings, kept: Kept, row: Row | None, row_until: int, artifact: Artifact, why: str
    ) -> None:
        self.kept, self.artifact, self._settings = kept, artifact, settings
        self._detector = self._new_detector()
        self._order = _order(
            kept.channels, artifact.channels, bool(Overrides(settings.sensors).of(kept.sensor_id).channels)
        )
        self._row, self._row_until, self._why = row, row_until, why
        self._watermarks = Watermarks()
        self._again: dict[tuple[str, int], Alert] = {}
        self.start = past.Start(0, None, None, "estimated", why)
        self.opened: set[str] = set()
        self._clear(len(kept.channels))

    def run(self, wanted: Sequence[Alert]) -> None:
        """Judge the readings up to, and a little behind, the windows of these alerts."""
        readings = self._ordered(self.kept.readings())
        ends = [parse_time(alert.window.end) for alert in wanted]
        places = np.flatnonzero(np.isin(readings.time_ms, ends))
        if not len(places):
            return
        span = int(places[0]) - JUDGED, int(places[-1]) + AFTER + 1
        self.start = self._start(int(places[0]))
        self._judge(readings, span, wanted)
        if self.start.other is not None and any(self._apart(alert) for alert in wanted):
            apart, first = sum(map(self._apart, wanted)), self.start
            self.start = replace(first, scale=first.other, other=None)
            self._judge(readings, span, wanted)
            if sum(map(self._apart, wanted)) >= apart:
                self.start = first
                self._judge(readings, span, wanted)

    def latest(self, most: int) -> None:
        """Judge the latest readings, `most` of them."""
        readings = self._ordered(self.kept.readings())
        if len(readings):
            first = max(0, len(readings) - most)
            self.start = self._start(first)
            self._judge(readings, (first, len(readings)), ())

    def further(self, since: int) -> None:
        """Go on behind `latest` with what was added to `kept` meanwhile, from the reading `since` on."""
        readings = self._ordered(self.kept.readings())
        self._look(readings, (since, len(readings)), ())

    @property
    def channels(self) -> tuple[str, ...]:
        """The order of the channels in its columns."""
        return self.kept.channels if self._order is None else self.artifact.channels

    def values(self) -> Floats:
        """All readings of `kept` (M, C), channels in the order of the columns."""
        return self._ordered(self.kept.readings()).values

    def limit(self, row: Row) -> tuple[float, bool] | None:
        """The threshold that a row of the sensor holds, and whether its own past sets it; None for other weights'."""
        detector = self._new_detector()
        try:
            detector.table.restore([self.kept.sensor_id], row.rows.packed, row.rows.layout)
        except DataError:
            return None
        state, one = detector.table.state, np.array([0])
        # A step that is not countable is neither learned nor told of; what it is held against is what is asked for.
        decided = detector.thresholds.decide_step(state, one, np.ones(1), state["q_usual_ms"][one], one > 0)
        return float(decided.threshold[0]), bool(decided.scope[0])

    def _judge(self, readings: Readings, span: tuple[int, int], wanted: Sequence[Alert]) -> None:
        """Judge once, with a detector that knows nothing but where it starts. span: the readings that are judged."""
        self._detector, self._watermarks = self._new_detector(), Watermarks()
        self._again, self.opened = {}, set()
        self._clear(readings.values.shape[1])
        at = self._begin(readings)
        judge_from = max(at, span[0])
        for batch in self._batches(readings, at, judge_from):
            self._detector.warm(batch)
        self._look(readings, (judge_from, span[1]), wanted)

    def _clear(self, channels: int) -> None:
        """Nothing is scored yet."""
        self.time_ms: Ints = np.zeros(0, np.int64)
        self.score: Floats = np.zeros(0)
        self.threshold: Floats = np.zeros(0)
        self.expected, self.lower, self.upper, self.contribution = (np.zeros((0, channels)) for _ in range(4))

    def _look(self, readings: Readings, span: tuple[int, int], wanted: Sequence[Alert]) -> None:
        """Judge these readings, and keep what they come to."""
        found: list[Evidence] = []
        for batch in self._batches(readings, *span):
            changes = self._detector.judge(batch)
            self.opened |= {self._detector.write(one).alert_id for one in changes if one.event == "opened"}
            evidence = self._detector.evidence
            if evidence is not None and len(evidence.due):
                self._answer(wanted, evidence)
                found.append(evidence)
        if not found:
            return
        self.time_ms = np.concatenate([self.time_ms, *(one.due.time_ms.ravel() for one in found)])
        self.score = np.concatenate([self.score, *(one.scored.score.ravel() for one in found)])
        self.threshold = np.concatenate([self.threshold, *(one.decisions.threshold.ravel() for one in found)])
        for name in ("expected", "lower", "upper", "contribution"):
            several = [getattr(one.scored, name) for one in found]
            rows = [one.reshape(-1, one.shape[2]) for one in several]
            setattr(self, name, np.concatenate([getattr(self, name), *rows]))

    def _new_detector(self) -> Detector:
        profiles = Profiles(self._settings, lambda model, channels: self.artifact)
        return profiles.fleet.detectors[profiles.name(self.kept.sensor_id, self.kept.channels)]

    def _apart(self, alert: Alert) -> bool:
        """Whether a step does not come out with the score that it was told with."""
        again = self.again(alert)
        return again is None or again.score != alert.score

    def again(self, alert: Alert) -> Alert | None:
        """A step of an incident as it is computed now; None where its window did not come about."""
        return self._again.get((alert.alert_id, alert.seq))

    def at(self, time_ms: Ints) -> tuple[Floats, Floats]:
        """Score and threshold at these times (N,), NaN where there are none."""
        if not len(self.time_ms):
            return np.full(len(time_ms), np.nan), np.full(len(time_ms), np.nan)
        order = np.argsort(self.time_ms, kind="stable")
        place = order[np.minimum(np.searchsorted(self.time_ms[order], time_ms), len(order) - 1)]
        there = self.time_ms[place] == time_ms
        return np.where(there, self.score[place], np.nan), np.where(there, self.threshold[place], np.nan)

    def _start(self, needed: int) -> past.Start:
        stored, why = self._stored()
        until = self._row.next_offset if self._row and stored is not None else None
        return past.start(self._ordered(self.kept.readings(until)), needed, self._detector.buffers.window, stored, why)

    def _stored(self) -> tuple[State | None, str]:
        """The sensor's row as the store has it; or None and why not."""
        row = self._row
        if row is None:
            return None, self._why or "there is no state of it any more"
        if row.next_offset > self._row_until:
            return None, f"its state is {row.next_offset - self._row_until:,} messages further on than what was read"
        table = SensorTable(buffers.fields(self._detector.buffers.window, len(self.artifact.channels)))
        try:
            table.restore([self.kept.sensor_id], row.rows.packed, row.rows.layout)
        except DataError:
            return None, "its state is of other weights by now, with another window or other channels"
        return table.state[0], ""

    def _begin(self, readings: Readings) -> int:
        """Take the sensor up as it was; the index of the next reading."""
        detector, start = self._detector, self.start
        detector.sensors([self.kept.sensor_id])
        if start.basis == "estimated":
            return start.first
        state = detector.table.state
        state["center"], state["spread"], state["folds"] = 0, 0, 0
        if start.scale is None or start.seen is None:
            return start.first
        at = past.fill(detector.buffers, readings, start.first)
        state["seen"], state["fresh"] = start.seen, (start.seen - detector.buffers.window) % detector.buffers.stride
        state["center"], state["spread"], state["folds"] = start.scale.center, start.scale.spread, start.scale.folds
        return at

    def _batches(self, readings: Readings, begin: int, end: int) -> Iterator[Batch]:
        for at in range(begin, min(end, len(readings)), PORTION):
            some = readings[at : min(at + PORTION, end)]
            passage = self._watermarks.advance(some.sensor, some.time_ms)
            yield Batch(some, np.arange(len(some)), passage)

    def _answer(self, wanted: Sequence[Alert], evidence: Evidence) -> None:
        """Put down what the windows of the alerts come to now."""
        due = evidence.due
        for alert in wanted:
            begin, end = parse_time(alert.window.start), parse_time(alert.window.end)
            for window in np.flatnonzero((due.start_ms == begin) & (due.time_ms[:, -1] == end)).tolist():
                steps = np.flatnonzero(~np.isnan(evidence.scored.score[window])).tolist()
                found = [
                    self._detector.writer.write(_change(alert, (window, i)), self.kept.sensor_id, evidence)
                    for i in steps
                ]
                if found:
                    self._again[alert.alert_id, alert.seq] = min(found, key=lambda one: nearness(alert, one))

    def _ordered(self, readings: Readings) -> Readings:
        if self._order is None:
            return readings
        return Readings(readings.sensor, readings.time_ms, readings.values[:, self._order], readings.received_ms)


def nearness(told: Alert, again: Alert) -> tuple[int, float]:
    """How far apart two steps are: in how many of the readings' values, then in score; less is nearer."""
    actual = {channel.name: channel.actual for channel in again.channels}
    other = sum(actual.get(channel.name) != channel.actual for channel in told.channels)
    if told.score is None or again.score is None:
        return other, math.inf
    return other, abs(told.score - again.score)


def _order(given: Sequence[str], wanted: Sequence[str], named: bool) -> list[int] | None:
    """How to bring columns in the order of the weights, where settings do not name them."""
    if named or tuple(given) == tuple(wanted) or sorted(given) != sorted(wanted):
        return None
    return [list(given).index(name) for name in wanted]


def _change(alert: Alert, at: tuple[int, int]) -> Change:
    """What the record of a step was written from, but for the score that comes with it."""
    return Change(
        position=0,
        sensor=0,
        kind=alert.kind,
        event=alert.event,
        close_reason=alert.close_reason,
        seq=alert.seq,
        start_ms=parse_time(alert.starts_at),
        end_ms=parse_time(alert.ends_at) if alert.ends_at else None,
        severity=SEVERITIES.index(alert.severity),
        window_ms=(parse_time(alert.window.start), parse_time(alert.window.end)),
        peak=alert.peak_score,
        at=at,
        leader=alert.sensor_id if alert.group else None,
        members=tuple(alert.members),
    )
