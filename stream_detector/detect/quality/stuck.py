"""A value that is stuck, the very same number again and again, or missing again and again, on a channel not like that.

What is unusual is learned from the channel: a run of equal or missing values is a fault when it is several times as
long as the longest before. A channel that has never changed is taken to be constant.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.changes import Change
from stream_detector.detect.quality.batch import Batch, Taken, muted
from stream_detector.detect.state import Fields, SensorTable
from stream_detector.records import Bools, Ints

BEYOND = 8
"""Times the longest run so far that is a fault."""
LEARNED = 2
"""A fault that ends makes the longest run at most so many times as long."""
WARM_UP = 2
"""Windows of a sensor before its runs are judged."""
SEVERITY = 1


def fields(channels: int) -> Fields:
    """A sensor's part of the state, a column a channel."""
    return [
        ("q_run", "<i4", (channels,)),  # equal readings in a row, up to the latest
        ("q_longest", "<i4", (channels,)),  # the longest such run that has ended; 0: it has never changed
        ("q_since_ms", "<i8", (channels,)),  # when the run began
        ("q_stuck", "<u1", (channels,)),
    ]


class Stuck:
    """See the module's docstring; `after` is the shortest run that can be a fault, 0 switches it off."""

    def __init__(self, table: SensorTable, after: int, window: int) -> None:
        self.table = table
        self.after = after
        self.window = window
        self._changes: list[Change] = []

    def watch(self, taken: Taken, batch: Batch) -> None:
        """Follow the runs of equal values through one pass of the buffers."""
        if not self.after:
            return
        state, starts, sensor = self.table.state, taken.starts, taken.sensor
        values = state["values"][taken.row, taken.place]
        before = state["values"][taken.row, np.maximum(taken.place - 1, 0)]
        missing = np.isnan(values)
        same = (values == before) | (missing & np.isnan(before))
        same[starts[taken.seen == 0]] = False
        carried, longest = state["q_run"][sensor], state["q_longest"][sensor]
        run, changed = _runs(same, starts, taken.take, carried)
        judged = (taken.seen // self.window >= WARM_UP)[:, None]
        # What is missing counts double: half the run is enough.
        over = np.maximum.reduceat(np.where(missing, 2 * run, run), starts) >= np.maximum(self.after, BEYOND * longest)
        ends = np.logical_or.reduceat(~same, starts)
        stuck = state["q_stuck"][sensor] > 0
        notable = (judged & over & (longest > 0) & ~stuck) | (stuck & ends)

        ended = np.empty_like(run)
        ended[1:] = run[:-1]
        ended[starts] = carried
        longest = np.maximum(longest, np.maximum.reduceat(np.where(same, 0, ended), starts))
        last = starts + taken.take - 1
        since = np.where(
            changed[last] >= 0,
            state["time_ms"][taken.row, taken.place][np.maximum(changed[last], 0)],
            state["q_since_ms"][sensor],
        )
        for i, c in zip(*(axis.tolist() for axis in np.nonzero(notable)), strict=True):
            part = slice(int(starts[i]), int(starts[i] + taken.take[i]))
            longest[i, c] = self._walk(taken, batch, part, c, same[part, c])
        state["q_run"][sensor] = run[last]
        state["q_longest"][sensor] = longest
        state["q_since_ms"][sensor] = since

    def finish(self) -> list[Change]:
        """What came out of the batch."""
        changes, self._changes = self._changes, []
        return changes

    def _walk(self, taken: Taken, batch: Batch, part: slice, channel: int, same: Bools) -> int:
        """Go through one channel's readings one by one; the longest run afterwards."""
        state, sensor = self.table.state, int(taken.row[part.start])
        run, longest = int(state["q_run"][sensor, channel]), int(state["q_longest"][sensor, channel])
        since, stuck = int(state["q_since_ms"][sensor, channel]), bool(state["q_stuck"][sensor, channel])
        for i, equal in enumerate(same.tolist()):
            row, place = int(taken.row[part.start + i]), int(taken.place[part.start + i])
            position = int(batch.position[taken.source[part.start + i]])
            now = int(state["time_ms"][row, place])
            value = float(state["values"][row, place, channel])
            if equal:
                run += 1
            else:
                if stuck:
                    last = int(state["time_ms"][row, place - 1])
                    held = float(state["values"][row, place - 1, channel])
                    self._changes.append(_change(position, sensor, channel, since, last, held, over=True))
                longest = max(longest, min(run, LEARNED * longest) if stuck else run)
                run, since, stuck = 1, now, False
            long = run * (2 if np.isnan(value) else 1) >= max(self.after, BEYOND * longest) and longest > 0
            if long and not stuck and not muted(state, sensor, now):
                stuck = True
                self._changes.append(_change(position, sensor, channel, since, now, value, over=False))
        state["q_stuck"][sensor, channel] = stuck
        return longest


def _runs(same: Bools, starts: Ints, take: Ints, carried: Ints) -> tuple[Ints, Ints]:
    """Length of the run of equal values up to each reading, and the index of the last change before it, or -1.

    same: (n, C) equal to the sensor's reading before. carried: (R, C) the runs before the first readings.
    """
    index = np.arange(len(same))[:, None]
    first = np.repeat(starts, take)[:, None]
    changed = np.maximum.accumulate(np.where(same, -1, index), axis=0)
    changed = np.where(changed >= first, changed, -1)
    run = np.where(changed >= 0, index - changed + 1, index - first + 1 + np.repeat(carried, take, axis=0))
    return run, changed


def _change(
    position: int, sensor: int, channel: int, since_ms: int, time_ms: int, value: float, *, over: bool
) -> Change:
    return Change(
        position=position,
        sensor=sensor,
        kind="value_missing" if np.isnan(value) else "value_stuck",
        event="closed" if over else "opened",
        close_reason="recovered" if over else None,
        seq=1 if over else 0,
        start_ms=since_ms,
        end_ms=time_ms if over else None,
        severity=SEVERITY,
        window_ms=(since_ms, time_ms),
        channel=channel,
        value=value,
    )
