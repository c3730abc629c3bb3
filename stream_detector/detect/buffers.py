"""Rolling windows of many sensors as columns of one array, and which of them fall due.

A sensor's row holds its last readings in time order with some slack behind them: a window is always one
contiguous slice, and the newest W readings move to the front only when the slack is used up, at fixed counts of
the sensor's own readings. So what a row holds depends on the sensor's readings alone, not on how they came in
batches.

The rules, all in event time:
- A reading newer than all before it is appended; when W readings are held and `stride` of them are unscored, the
  window is due.
- A reading older than the newest is late: it takes its place in the window and is not scored itself. One that
  repeats a time already held is a duplicate; one older than everything held is too late. Both are counted and
  left out.
- A gap does not break the window, but the first readings behind it are `settling`: scored, not judged, since most
  of what they are compared with lies on the other side.
- A sensor's scale is taken from its first W readings and then follows every further W (see `scale`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stream_detector.detect import scale
from stream_detector.detect.due import Due
from stream_detector.detect.quality.batch import Taken
from stream_detector.detect.state import Fields, SensorTable
from stream_detector.detect.windows import Windows, slices
from stream_detector.records import Bools, Floats, Ints, Readings

GAP = 8.0
"""A step in time of this many usual intervals is a gap."""


def fields(window: int, channels: int) -> Fields:
    """A sensor's part of the state for windows of `window` readings of `channels` channels."""
    capacity = window + slack(window)
    return [
        ("time_ms", "<i8", (capacity,)),
        ("values", "<f8", (capacity, channels)),
        ("end", "<i4"),
        ("fill", "<i4"),
        ("fresh", "<i4"),
        ("seen", "<i8"),
        ("center", "<f8", (channels,)),
        ("spread", "<f8", (channels,)),
        ("folds", "<f4", (channels,)),
    ]


def slack(window: int) -> int:
    """Readings that a row holds beyond the window: fewer mean more moving, more mean more memory."""
    return max(1, window // 5)


def settle(window: int) -> int:
    """Readings after a gap that are scored but not judged."""
    return max(1, window // 12)


@dataclass(slots=True)
class Counts:
    """What became of the readings since the buffers were made."""

    appended: int = 0
    late: int = 0
    duplicate: int = 0
    too_late: int = 0


@dataclass(slots=True)
class _Runs:
    """A batch in sensor order: one entry a sensor that has readings left.

    order: (N,) the batch's indices in sensor order. at, stop: (R,) the sensor's part of `order` still to take.
    turn: (R,) windows that fell due in this batch. next_late: (N + 1,) the next late reading from each place on.
    """

    sensor: Ints
    at: Ints
    stop: Ints
    turn: Ints
    order: Ints
    next_late: Ints | None

    def drop_finished(self) -> None:
        left = self.at < self.stop
        if not left.all():
            self.sensor, self.turn = self.sensor[left], self.turn[left]
            self.at, self.stop = self.at[left], self.stop[left]


class Watcher(Protocol):
    """Someone who looks at the readings as they are appended."""

    def watch(self, taken: Taken) -> None:
        """What one pass has appended, before anything is moved."""

    def folded(self, sensor: Ints) -> None:
        """Another W readings of these sensors are held."""


class Buffers:
    """The rolling windows of one profile; see the module's docstring for the rules."""

    def __init__(self, table: SensorTable, window: int, stride: int, watcher: Watcher | None = None) -> None:
        self.table = table
        self.watcher = watcher
        self.window = window
        self.stride = stride
        self.capacity = window + slack(window)
        self.counts = Counts()

    def append(self, readings: Readings) -> Due:
        """Take readings in and return the windows that fell due, each as it stood at its own reading."""
        runs = self._sort(readings)
        due = [self._advance(readings, runs)]
        while True:
            if runs.next_late is not None:
                self._insert_late(readings, runs, runs.next_late)
            runs.drop_finished()
            if not len(runs.sensor):
                return Due.concatenate(due)
            due.append(self._advance(readings, runs))

    def _sort(self, readings: Readings) -> _Runs:
        """Bring a batch in sensor order, arrival order within, and find what is not newer than all before it."""
        order = np.argsort(readings.sensor, kind="stable")
        sensor, time = readings.sensor[order], readings.time_ms[order]
        at = np.flatnonzero(np.diff(sensor, prepend=-1))
        stop = np.append(at[1:], len(sensor))[: len(at)]
        previous = np.empty_like(time)
        previous[1:] = time[:-1]
        previous[at] = newest = self._newest(sensor[at])
        late = _next_late(time, newest, at) if (time <= previous).any() else None
        return _Runs(sensor[at], at, stop, np.zeros(len(at), np.int64), order, late)

    def _newest(self, sensor: Ints) -> Ints:
        """Time of each sensor's newest reading; the least integer where it has none."""
        state = self.table.state
        end = state["end"][sensor]
        newest: Ints = state["time_ms"][sensor, np.maximum(end - 1, 0)]
        newest[end == 0] = np.iinfo(np.int64).min
        return newest

    def _advance(self, readings: Readings, runs: _Runs) -> Due:
        """Append to every sensor as much as fits before its row must be moved or its scale is folded."""
        state, sensor, W = self.table.state, runs.sensor, self.window
        end, seen = state["end"][sensor].astype(np.int64), state["seen"][sensor]
        fill, fresh = state["fill"][sensor].astype(np.int64), state["fresh"][sensor].astype(np.int64)
        limit = runs.stop
        if runs.next_late is not None:
            limit = np.minimum(limit, runs.next_late[runs.at])
        take = np.minimum(np.minimum(self.capacity - end, W - seen % W), limit - runs.at)

        rank = _ranks(take)
        source = runs.order[np.repeat(runs.at, take) + rank]
        row, place = np.repeat(sensor, take), np.repeat(end, take) + rank
        state["time_ms"][row, place] = readings.time_ms[source]
        state["values"][row, place] = readings.values[source]
        self.counts.appended += len(source)
        if self.watcher and len(source):
            some = take > 0
            self.watcher.watch(Taken(row, place, source, sensor[some], take[some], seen[some]))

        first = np.maximum(np.maximum(W - fill, self.stride - fresh), 1)
        count = np.maximum((take - first) // self.stride + 1, 0)
        state["end"][sensor] = end + take
        state["seen"][sensor] = seen = seen + take
        state["fill"][sensor] = np.minimum(fill + take, W)
        scored = first + (count - 1) * self.stride
        state["fresh"][sensor] = np.where(count > 0, take - scored, fresh + take)

        # A sensor without a scale gets it before its first window is looked at; the others afterwards, so that
        # all windows of this pass stand on the scale that held when they came.
        folding = sensor[(take > 0) & (seen % W == 0)]
        new = (state["folds"][folding] == 0).all(axis=1)
        self._fold(folding[new])
        due = self._gather(runs, end + first, count, first)
        self._fold(folding[~new])
        self._compact(sensor[end + take == self.capacity])
        runs.at, runs.turn = runs.at + take, runs.turn + count
        return due

    def _gather(self, runs: _Runs, first_stop: Ints, count: Ints, first: Ints) -> Due:
        """Copy `count` windows of each sensor out of its row.

        first_stop: where in the row the first one ends. first: which of the sensor's new readings, from 1, it
        ends with.
        """
        rank = _ranks(count)
        row = np.repeat(runs.sensor, count)
        stop = np.repeat(first_stop, count) + rank * self.stride
        turn = np.repeat(runs.turn, count) + rank
        reading = runs.order[np.repeat(runs.at + first - 1, count) + rank * self.stride]
        return self._windows(row, stop, self.stride, turn, reading, self._held(runs.sensor, first_stop, count))

    def at_hand(self, sensor: Ints, steps: int) -> Due:
        """The newest window of each of these sensors, which must be full, with its `steps` freshest readings."""
        none = np.zeros(len(sensor), np.int64)
        stop = self.table.state["end"][sensor].astype(np.int64)
        return self._windows(sensor, stop, steps, none, none, self._held(sensor, stop, none + 1))

    def _held(self, sensor: Ints, first_stop: Ints, count: Ints) -> Windows:
        """Copies of `count` windows of each sensor; first_stop: where in the row the first one ends."""
        W, values = self.window, self.table.state["values"]
        if not count.all():
            some = count > 0
            sensor, first_stop, count = sensor[some], first_stop[some], count[some]
        size = W + (count - 1) * self.stride
        if len(size) and (size == size[0]).all():  # the usual case, in which whole slices are copied
            readings = slices(values, int(size[0]))[sensor, first_stop - W].reshape(-1, values.shape[2])
        else:
            readings = values[np.repeat(sensor, size), np.repeat(first_stop - W, size) + _ranks(size)]
        run = np.append(0, np.cumsum(size))
        start = np.repeat(run[:-1], count) + _ranks(count) * self.stride
        return Windows(readings, start, run, np.cumsum(count) - count, W)

    def _windows(self, row: Ints, stop: Ints, S: int, turn: Ints, reading: Ints, held: Windows) -> Due:
        state, W = self.table.state, self.window
        tail = min(W, S + settle(W) + 1)
        recent: Ints = slices(state["time_ms"], tail)[row, stop - tail]
        start: Ints = state["time_ms"][row, stop - W]
        # What is usual is read off the older part of the window, so that a fresh gap stands out against it.
        steps = W - tail
        interval = (recent[:, 0] - start) / steps if steps else (recent[:, -1] - start) / max(W - 1, 1)
        settling = _settling(recent, interval, S) if steps else np.zeros((len(row), S), np.bool_)
        return Due(
            sensor=row,
            held=held,
            time_ms=recent[:, tail - S :],
            start_ms=start,
            center=state["center"][row],
            spread=state["spread"][row],
            interval_ms=interval,
            settling=settling,
            turn=turn,
            reading=reading,
        )

    def _compact(self, sensor: Ints) -> None:
        """Move the newest W readings of full rows to the front."""
        if len(sensor):
            state, W = self.table.state, self.window
            for name in ("time_ms", "values"):
                state[name][sensor, :W] = state[name][sensor, self.capacity - W :]
            state["end"][sensor] = W

    def _fold(self, sensor: Ints) -> None:
        """Take the last W readings into the sensors' scales."""
        if len(sensor):
            state = self.table.state
            start = state["end"][sensor] - self.window
            values = slices(state["values"], self.window)[sensor, start]
            names = ("center", "spread", "folds")
            folded = scale.fold(values, *(state[name][sensor] for name in names))
            for name, column in zip(names, folded, strict=True):
                state[name][sensor] = column
            if self.watcher:
                self.watcher.folded(sensor)

    def _insert_late(self, readings: Readings, runs: _Runs, next_late: Ints) -> None:
        """Put the late readings that sensors have reached, if any, into their places."""
        for i in np.flatnonzero((runs.at < runs.stop) & (next_late[runs.at] == runs.at)):
            while runs.at[i] < runs.stop[i] and next_late[runs.at[i]] == runs.at[i]:
                source = runs.order[runs.at[i]]
                self._insert(int(runs.sensor[i]), int(readings.time_ms[source]), readings.values[source])
                runs.at[i] += 1

    def _insert(self, sensor: int, time_ms: int, values: Floats) -> None:
        row = self.table.state[sensor]
        end, fill = int(row["end"]), int(row["fill"])
        start = end - fill
        place = start + int(np.searchsorted(row["time_ms"][start:end], time_ms))
        if row["time_ms"][place] == time_ms:
            self.counts.duplicate += 1
            return
        if place == start and fill == self.window:
            self.counts.too_late += 1
            return
        if fill == self.window:
            place -= 1
            moved, onto = slice(start + 1, place + 1), slice(start, place)
        else:
            moved, onto = slice(place, end), slice(place + 1, end + 1)
            for name in ("end", "fill", "fresh", "seen"):
                row[name] += 1
        for name, value in (("time_ms", time_ms), ("values", values)):
            row[name][onto] = row[name][moved].copy()
            row[name][place] = value
        self.counts.late += 1
        if fill + 1 == self.window:
            self._fold(np.array([sensor]))


def _next_late(time: Ints, newest: Ints, at: Ints) -> Ints:
    """For each place, the next place from there on whose time is not newer than all before it of its sensor."""
    run = np.cumsum(np.bincount(at, minlength=len(time))) - 1
    # One running maximum serves all sensors when each one's times are lifted above those of the sensor before it.
    low = min(int(time.min()), int(newest[newest > np.iinfo(np.int64).min].min(initial=int(time.min()))))
    high = max(int(time.max()), int(newest.max()))
    lift = run * (high - low + 2)
    before = np.empty_like(time)
    before[0] = low - 1
    before[1:] = np.maximum.accumulate(time - low + lift)[:-1]
    before[at] = np.maximum(newest, low - 1) - low + lift[at]
    before = np.maximum.accumulate(before)
    late = time - low + lift <= before
    places = np.where(late, np.arange(len(time)), len(time))
    return np.append(np.minimum.accumulate(places[::-1])[::-1], len(time))


def _settling(recent: Ints, interval: Floats, steps: int) -> Bools:
    """Whether a gap lies among the few readings up to each of the `steps` freshest. recent: (B, tail) times."""
    gap = np.diff(recent, axis=1) > GAP * interval[:, None]
    if not gap.any():
        return np.zeros((len(recent), steps), np.bool_)
    span = gap.shape[1] - steps + 1
    found: Bools = np.any(np.lib.stride_tricks.sliding_window_view(gap, span, axis=1), axis=2)
    return found


def _ranks(counts: Ints) -> Ints:
    """0 .. count-1 for each count, one after another."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
