"""A sensor's scale as it was at an earlier reading: what a score of then needs to come out again.

A score depends on its window, on the weights, and on the sensor's scale, which follows the sensor's readings slowly
from its first one on. Where not all of them are retained, the scale is walked back: from the one in today's state,
window by window, through the readings that came since. What a fold of the scale has taken in can be taken out again,
since the window is known and each value's weight is.

Knows readings and rows of one sensor; not where they are kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from stream_detector.detect import buffers, scale
from stream_detector.detect.buffers import Buffers
from stream_detector.detect.quality.batch import Taken
from stream_detector.detect.state import SensorTable, State
from stream_detector.records import Floats, Floats32, Ints, Readings

Basis: TypeAlias = Literal["whole", "state", "estimated"]
MOST_FOLDS = 600
"""Windows that a scale is walked back through at most: each lets rounding grow by a 31st."""
PORTION = 2048
NEVER = 1 << 30
"""A stride with which no window falls due."""
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Scale:
    """A sensor's scale by channel (C,), as its row has it."""

    center: Floats
    spread: Floats
    folds: Floats32

    def near(self, other: Scale) -> bool:
        """Whether both are the same but for rounding."""
        size = np.abs(other.center) + other.spread
        return bool(
            np.all(np.abs(self.center - other.center) <= TOLERANCE * size)
            and np.all(np.abs(self.spread - other.spread) <= TOLERANCE * size)
        )


@dataclass(frozen=True, slots=True)
class Start:
    """From where on a sensor's readings are taken in again.

    first: index of the first one. seen: readings that the sensor had had with the first full window from there on.
    scale: the one that held then; None is what weights and readings give by themselves. other: the one that held if
    training knew the sensor's scale before its first reading, where that makes a difference. basis: `whole`: all of
    the sensor's readings are there; `state`: walked back from its state; `estimated`: neither. why: in words, where it
    is estimated.
    """

    first: int
    seen: int | None
    scale: Scale | None
    basis: Basis
    why: str = ""
    other: Scale | None = None


def start(readings: Readings, needed: int, window: int, stored: State | None, why: str) -> Start:
    """Where to begin so that the windows from the reading `needed` on stand on the scale that they stood on.

    readings: of one sensor in partition order, from the first that is there up to where the state is. stored: its row,
    None with the reason in `why`.
    """
    estimated = Start(0, None, None, "estimated", why)
    if stored is None:
        return estimated
    other = replace(estimated, why="its state holds other readings than its topic")
    past = _Past(readings, window)
    after = past.run(0)
    if after is None or not past.holds(stored):
        return other
    first, seen = 0, int(stored["seen"]) - after
    if seen < window:  # its state began later than what is retained
        first = window - seen
        after = past.run(first)
        if after is None or int(stored["seen"]) - after != window or not past.holds(stored):
            return other
        seen = window
    now = Scale(stored["center"].copy(), stored["spread"].copy(), stored["folds"].copy())
    if seen == window and past.scale.near(now):
        return Start(first, seen, None, "whole")
    if after // window > MOST_FOLDS:
        first = len(readings) - (MOST_FOLDS + 1) * window
        if first > needed - window:
            return replace(estimated, why=f"it has been followed for more than {MOST_FOLDS} windows since then")
        seen = int(stored["seen"]) - (past.run(first) or 0)
    past.run(first, seen)
    # All of its readings are there, and they alone do not lead to its scale: then training knew it.
    then = None if seen == window else walked_back(past.windows, now, int(stored["seen"]) // window)
    if then is not None and then.folds.min() >= scale.MEMORY:
        return Start(first, seen, then, "state")
    known = walked_back(past.windows, now, None)
    if then is None and known is None:
        return replace(estimated, why="it cannot be walked back from its state")
    return Start(first, seen, then or known, "state", other=known if then else None)


class _Past:
    """Readings of one sensor, taken into a buffer of their own. windows: of the last run, those that were folded."""

    def __init__(self, readings: Readings, window: int) -> None:
        self._readings, self._window = readings, window
        self.windows: deque[Floats] = deque(maxlen=MOST_FOLDS + 2)

    def run(self, first: int, seen: int | None = None) -> int | None:
        """Take readings in from `first` on; how many came behind the first full window, None where none is full.

        seen: how many there had been by then, if that is more.
        """
        self._table = SensorTable(buffers.fields(self._window, self._readings.values.shape[1]))
        self._table.rows(["it"])
        self._buffers = Buffers(self._table, self._window, NEVER, self)
        at = fill(self._buffers, self._readings, first)
        self.windows.clear()
        state = self._table.state
        if state["fill"][0] < self._window:
            return None
        if seen is not None:
            state["seen"][0] = seen
        began = int(state["seen"][0])
        for begin in range(at, len(self._readings), PORTION):
            self._buffers.append(self._readings[begin : begin + PORTION])
        return int(self._table.state["seen"][0]) - began

    def holds(self, stored: State) -> bool:
        """Whether another row of the sensor ends with the same window."""
        mine, other = (self._held(row) for row in (self._table.state[0], stored))
        return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(mine, other, strict=True))

    @property
    def scale(self) -> Scale:
        """As the last run left it."""
        row = self._table.state[0]
        return Scale(row["center"], row["spread"], row["folds"])

    def _held(self, row: State) -> Sequence[Any]:
        part = slice(max(0, int(row["end"]) - self._window), int(row["end"]))
        return row["time_ms"][part], row["values"][part].astype(np.float64)

    def watch(self, taken: Taken) -> None:
        """Nothing of the readings themselves is of interest."""

    def folded(self, sensor: Ints) -> None:
        """Keep the window that was folded."""
        row = self._table.state[0]
        self.windows.append(row["values"][int(row["end"]) - self._window : int(row["end"])].copy())


def fill(into: Buffers, readings: Readings, first: int) -> int:
    """Take readings in until a window is full; the index of the next one."""
    at, state = first, into.table.state
    while at < len(readings) and state["fill"][0] < into.window:
        upto = at + into.window - int(state["fill"][0])
        into.append(readings[at:upto])
        at = min(upto, len(readings))
    return at


def walked_back(windows: Sequence[Floats], now: Scale, count: int | None) -> Scale | None:
    """The scale before it took these windows (W, C) in; None where that cannot be found.

    count: how many it had taken in since it had none; None: it never had none, training knew it.
    """
    for number, window in enumerate(reversed(windows)):
        before = unfolded(window, now, None if count is None else count - number)
        if before is None:
            return None
        now = before
    return now


def unfolded(window: Floats, after: Scale, count: int | None = None) -> Scale | None:
    """The inverse of `detect.scale.fold` for one sensor; None where there was no scale before, or none is found.

    count: how many windows are in the scale, if more than it tells: beyond MEMORY it does not count.
    """
    before = Scale(after.center.copy(), after.spread.copy(), after.folds.copy())
    for channel in np.flatnonzero(np.isfinite(window).any(axis=0)).tolist():
        values = np.sort(window[np.isfinite(window[:, channel]), channel])
        folds = float(after.folds[channel])
        earlier = folds - 1 if folds < scale.MEMORY else min(scale.MEMORY, math.inf if count is None else count - 1)
        weight = min(earlier, scale.MEMORY - 1)
        now = float(after.center[channel]), float(after.spread[channel])
        found = _before(values, weight, now) if weight > 0 else None
        if found is None:
            return None
        before.center[channel], before.spread[channel] = found
        before.folds[channel] = earlier
    return before


def _before(values: Floats, weight: float, now: tuple[float, float]) -> tuple[float, float] | None:
    """Centre and spread of one channel before it took these values in, which rise.

    The values beyond the band of then were cut off at it. How many they were at each end is tried: first none, then
    as many as that says, until it stays; then all numbers at one end.
    """
    one_sided = [(k, 0) for k in range(len(values))] + [(0, k) for k in range(len(values))]
    tried: set[tuple[int, int]] = set()
    cut, rest = (0, 0), iter(one_sided)
    while True:
        tried.add(cut)
        for found in _solved(values, cut, weight, now):
            if _leads_to(values, weight, found, now):
                return found
            center, spread = found
            low, high = center - scale.CLIP * spread, center + scale.CLIP * spread
            cut = int(np.searchsorted(values, low)), len(values) - int(np.searchsorted(values, high, "right"))
        if cut in tried or sum(cut) > len(values):
            following = next((one for one in rest if one not in tried), None)
            if following is None:
                return None
            cut = following


def _solved(
    values: Floats, cut: tuple[int, int], weight: float, now: tuple[float, float]
) -> Iterator[tuple[float, float]]:
    """Centre and spread that lead to those of now when so many values were cut off at the lower and upper end.

    Both updates are sums over the values; with those cut off at center +- CLIP * spread, the first is linear in both
    unknowns and the second a quadratic equation for the spread.
    """
    center, spread = now
    n, (low, high) = len(values), cut
    kept = values[low : n - high]
    slope = weight + (low + high) / n
    # Before: center = a + b * spread.
    a = ((weight + 1) * center - kept.sum() / n) / slope
    b = -scale.CLIP * (high - low) / n / slope
    # All in distances from today's centre d = a - center, b, and the band's edges.
    d = a - center
    terms = [(weight, d, b), (low / n, d, b - scale.CLIP), (high / n, d, b + scale.CLIP)]
    square = weight + sum(share * slant**2 for share, _, slant in terms)
    linear = 2 * sum(share * start * slant for share, start, slant in terms)
    rest = sum(share * start**2 for share, start, _ in terms)
    rest += float(((kept - center) ** 2).sum()) / n - (weight + 1) * spread**2
    root = linear**2 - 4 * square * rest
    for sign in (1.0, -1.0):
        found = (-linear + sign * math.sqrt(max(root, 0.0))) / (2 * square)
        if found >= 0:
            yield a + b * found, found


def _leads_to(values: Floats, weight: float, before: tuple[float, float], now: tuple[float, float]) -> bool:
    """Whether taking the values in leads from one scale to the other."""
    one = np.array([before[0]]), np.array([before[1]])
    center, spread, _ = scale.fold(
        values[None, :, None], one[0][None], one[1][None], np.full((1, 1), weight, np.float32)
    )
    size = abs(now[0]) + now[1]
    return abs(center.item() - now[0]) <= TOLERANCE * size and abs(spread.item() - now[1]) <= TOLERANCE * size
