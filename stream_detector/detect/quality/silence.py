"""A sensor that falls silent: the watermark of its partition moves on without it.

What is long is learned from the sensor: several times its usual interval, and longer than it has kept others waiting
before. A sensor whose readings come in packets, or that rests at night, is silent only when it stays away longer than
it used to. All is measured on the watermark when its readings arrived, so one that always comes late is not silent.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stream_detector.detect.changes import Change
from stream_detector.detect.quality.batch import Batch, Taken, muted
from stream_detector.detect.state import Fields, SensorTable
from stream_detector.detect.watermark import NEVER, START
from stream_detector.records import Floats, Ints

FIELDS: Fields = [
    ("q_silent", "<u1"),
    ("q_usual_ms", "<f8"),  # usual interval; 0 is not known yet
    ("q_lag_ms", "<i8"),  # longest that others went ahead between two of its readings, slowly forgotten
    ("q_mark_ms", "<i8"),  # the watermark when its latest reading arrived
]
BEYOND = 3
"""Times the longest absence so far that is silence."""
REMEMBERED = 30
"""An absence is forgotten over so many times its length of readings."""
SEVERITY = 1


class Silence:
    """See the module's docstring; `after` counts usual intervals, 0 switches it off."""

    def __init__(self, table: SensorTable, after: float) -> None:
        self.table = table
        self.after = after
        self._deadline: Ints = np.zeros(0, np.int64)
        self._version = table.version
        self._changes: list[Change] = []

    def learn(self, sensor: Ints) -> None:
        """Take the usual interval from the latest window of these sensors; old absences fade."""
        if len(sensor):
            state = self.table.state
            end, fill = state["end"][sensor], state["fill"][sensor]
            window = int(fill.max())
            places = end[:, None] - window + np.arange(window)
            times = state["time_ms"][sensor[:, None], np.maximum(places, 0)]
            state["q_usual_ms"][sensor] = usual = np.median(np.diff(times, axis=1), axis=1)
            faded = state["q_lag_ms"][sensor] - (window * usual / REMEMBERED).astype(np.int64)
            state["q_lag_ms"][sensor] = np.maximum(faded, 0)

    def watch(self, taken: Taken, batch: Batch) -> None:
        """Find the sensors whose readings came late, and those that come back."""
        state, starts = self.table.state, taken.starts
        mark = batch.passage.mark[batch.position[taken.source]]
        before = np.empty_like(mark)
        before[1:] = mark[:-1]
        before[starts] = np.where(taken.seen > 0, state["q_mark_ms"][taken.sensor], mark[starts])
        ahead = mark - before
        limit = self._limit(state["q_usual_ms"][taken.sensor], state["q_lag_ms"][taken.sensor])
        longest = np.maximum.reduceat(ahead, starts)
        notable = (longest > limit) | (state["q_silent"][taken.sensor] > 0)
        lag = np.maximum(state["q_lag_ms"][taken.sensor], longest)
        for run in np.flatnonzero(notable).tolist():
            part = slice(int(starts[run]), int(starts[run] + taken.take[run]))
            lag[run] = self._walk(taken, batch, part, before[part], ahead[part])
        state["q_lag_ms"][taken.sensor] = lag
        state["q_mark_ms"][taken.sensor] = mark[starts + taken.take - 1]

    def finish(self, touched: Ints, batch: Batch) -> list[Change]:
        """What came out; and the sensors that have not been heard of for too long, as of the batch's end."""
        changes, self._changes = self._changes, []
        if self.after:
            self._set_deadlines(touched)
            reached = {p: batch.passage.reached(p) for p in batch.passage.steps}
            behind = np.flatnonzero(self._deadline < max(reached.values(), default=START))
            for partition, mark in reached.items() if len(behind) else ():
                mine = behind[self.table.partition[behind] == partition]
                changes += self._leave_behind(mine[self._deadline[mine] < mark], partition, batch)
        return changes

    def _limit(self, usual: Floats, lag: Ints) -> Floats:
        """How far (ms) others may go ahead of a sensor; infinite where its interval is not known yet."""
        limit = np.maximum(self.after * usual, BEYOND * lag.astype(np.float64))
        return np.where((usual > 0) & (self.after > 0), np.floor(limit), np.inf)

    def _set_deadlines(self, touched: Ints) -> None:
        """Bring the deadlines of these sensors up to date; those of all, when the table was rearranged."""
        state, table = self.table.state, self.table
        if self._version != table.version:
            self._version, self._deadline = table.version, np.zeros(0, np.int64)
        missing = np.arange(len(self._deadline), len(state))
        if len(missing):
            self._deadline = np.append(self._deadline, np.full(len(missing), NEVER))
            touched = np.union1d(touched, missing)
        limit = self._limit(state["q_usual_ms"][touched], state["q_lag_ms"][touched])
        waits = np.isfinite(limit) & (state["q_silent"][touched] == 0)
        due = state["q_mark_ms"][touched] + np.where(waits, limit, 0).astype(np.int64)
        self._deadline[touched] = np.where(waits, due, NEVER)

    def _leave_behind(self, overdue: Ints, partition: int, batch: Batch) -> Iterator[Change]:
        state = self.table.state
        deadline = self._deadline[overdue]
        self._deadline[overdue] = NEVER
        positions = batch.passage.passes(partition, deadline)
        for sensor, due, position in zip(overdue.tolist(), deadline.tolist(), positions.tolist(), strict=True):
            if not muted(state, sensor, due):
                state["q_silent"][sensor] = 1
                last = int(state["time_ms"][sensor, state["end"][sensor] - 1])
                yield _change(position, sensor, last, None)

    def _walk(self, taken: Taken, batch: Batch, part: slice, before: Ints, ahead: Ints) -> int:
        """Go through one sensor's readings one by one; the longest absence afterwards."""
        state, sensor = self.table.state, int(taken.row[part.start])
        usual = float(state["q_usual_ms"][sensor])
        lag, silent = int(state["q_lag_ms"][sensor]), bool(state["q_silent"][sensor])
        partition = int(self.table.partition[sensor])
        for i in range(len(ahead)):
            row, place = int(taken.row[part.start + i]), int(taken.place[part.start + i])
            limit = float(self._limit(np.array([usual]), np.array([lag]))[0])
            late = float(ahead[i]) > limit
            if not (silent or late):
                lag = max(lag, int(ahead[i]))
                continue
            last, now = (int(state["time_ms"][row, place - k]) for k in (1, 0))
            due = int(before[i]) + (int(limit) if late else 0)
            if silent or not muted(state, sensor, due):
                position = int(batch.position[taken.source[part.start + i]])
                if not silent:
                    first = int(batch.passage.passes(partition, np.array([due]))[0])
                    self._changes.append(_change(first, sensor, last, None))
                self._changes.append(_change(position, sensor, last, now))
            silent = False
            lag = max(lag, int(ahead[i]) // 2)
        state["q_silent"][sensor] = 0
        return lag


def _change(position: int, sensor: int, last_ms: int, back_ms: int | None) -> Change:
    over = back_ms is not None
    return Change(
        position=position,
        sensor=sensor,
        kind="sensor_silent",
        event="closed" if over else "opened",
        close_reason="recovered" if over else None,
        seq=1 if over else 0,
        start_ms=last_ms,
        end_ms=back_ms,
        severity=SEVERITY,
        window_ms=(last_ms, last_ms if back_ms is None else back_ms),
    )
