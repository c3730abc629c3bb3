"""Which rows of a long column to draw, so that the picture stays true: no spike lost, no gap bridged.

It only ever selects rows; it does not average, and it does not know what it draws.
"""

from __future__ import annotations

import numpy as np

from stream_detector.records import Bools, Floats, Ints

POINTS = 4_000
# A stretch without readings this many times longer than usual is drawn as a gap.
SILENCE = 20


def thin(values: Floats, focus: Bools | None = None, points: int = POINTS) -> Ints:
    """Rows to draw of a column (T,), at most about `points`, ascending; all rows if there are no more.

    Of each stretch the lowest and the highest value stay, and of the longest gaps (NaN) both edges. A fifth
    of the stretches lies in the rows of `focus` (T,), so that zooming in on them shows something.
    """
    length = len(values)
    if length <= points:
        return np.arange(length, dtype=np.int64)
    starts = stretches(length, points * 7 // 16, focus)
    rows = [
        np.array([0, length - 1]),
        extremes(values, np.fmin.reduceat(values, starts), starts),
        extremes(values, np.fmax.reduceat(values, starts), starts),
        gap_edges(values, points // 24),
    ]
    return np.unique(np.concatenate(rows)).astype(np.int64)


def stretches(length: int, count: int, focus: Bools | None) -> Ints:
    """First rows of about `count` stretches that cover all rows, shorter ones where `focus` is set."""
    inside = np.flatnonzero(focus) if focus is not None else np.empty(0, dtype=np.int64)
    close = count // 5 if len(inside) else 0
    even = np.linspace(0, length, count - close, endpoint=False).astype(np.int64)
    picks = np.linspace(0, len(inside), close, endpoint=False).astype(np.int64)
    return np.unique(np.concatenate([even, inside[picks]])).astype(np.int64)


def extremes(values: Floats, extreme: Floats, starts: Ints) -> Ints:
    """First row of each stretch that holds the stretch's `extreme`; stretches of NaN only have none."""
    lengths = np.diff(starts, append=len(values))
    rows = np.flatnonzero(values == np.repeat(extreme, lengths))
    stretch = np.searchsorted(starts, rows, side="right")
    return rows[np.unique(stretch, return_index=True)[1]]


def gap_edges(values: Floats, count: int) -> Ints:
    """Of the `count` longest runs of NaN: the row before, the first NaN, and the row after."""
    edges = np.diff(np.isnan(values).astype(np.int8), prepend=0, append=0)
    first, after = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    longest = np.argsort(first - after, kind="stable")[:count]
    rows: Ints = np.concatenate([first[longest] - 1, first[longest], after[longest]])
    return rows.clip(0, len(values) - 1)


def break_silences(time_ms: Ints, columns: Floats) -> tuple[Ints, Floats]:
    """Rows in time order, with a row of NaN (T, C) where a sensor sent nothing for unusually long."""
    order = np.argsort(time_ms, kind="stable")
    time_ms, columns = time_ms[order], columns[order]
    steps = np.diff(time_ms)
    usual = np.median(steps) if len(steps) else 0.0
    silent = np.flatnonzero(steps > SILENCE * usual) + 1 if usual > 0 else np.empty(0, dtype=np.int64)
    return np.insert(time_ms, silent, time_ms[silent - 1] + 1), np.insert(columns, silent, np.nan, axis=0)


def scored_rows(time_ms: Ints, score: Floats) -> Ints:
    """Rows of a score (T,) to draw: the scored ones, and one NaN wherever scoring paused.

    A detector that scores every eighth reading leaves seven NaN between; those are its rhythm and no gap.
    """
    shown = np.isfinite(score)
    scored = np.flatnonzero(shown)
    if len(scored) < 2:
        return scored
    steps = np.diff(time_ms[scored])
    shown[scored[:-1][steps > 2 * np.median(steps)] + 1] = True
    return np.flatnonzero(shown)


def focus_rows(time_ms: Ints, spans: list[tuple[int, int]]) -> Bools:
    """Mask (T,) of the rows in the spans (ms) and, on either side, as many again and at least a hundred."""
    focus = np.zeros(len(time_ms), dtype=np.bool_)
    for start_ms, end_ms in spans:
        first = int(np.searchsorted(time_ms, start_ms))
        after = int(np.searchsorted(time_ms, end_ms, side="right"))
        margin = max(after - first, 100)
        focus[max(first - margin, 0) : after + margin] = True
    return focus
