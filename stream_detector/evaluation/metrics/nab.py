"""The Numenta Anomaly Benchmark's score of a corpus (Lavin and Ahmad, 2015, https://arxiv.org/abs/1510.03336).

The first rows of a file are its probation and do not count. Of a window's flagged rows only the earliest counts, and
the more the earlier it is; a window without one costs. Every flagged row outside costs, least just behind a window.
The benchmark itself searches, for each profile, the threshold that is best on the corpus and its labels. That says
what a detector could get and not what a user gets, so the score of given flags stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_detector.evaluation.metrics.deployed import EPISODE_GAP
from stream_detector.evaluation.metrics.events import spans
from stream_detector.records import Bools, Floats, Ints

PROBATION_SHARE, PROBATION_MOST = 0.15, 750
FAR = 3.0
"""Window widths behind a window from which on a false alarm costs in full."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a hit, a false alarm and a miss are worth."""

    hit: float
    false: float
    miss: float


PROFILES = {
    "standard": Profile(1.0, 0.11, 1.0),
    "low FP": Profile(1.0, 0.22, 1.0),
    "low FN": Profile(1.0, 0.11, 2.0),
}


@dataclass(frozen=True, slots=True)
class NabSeries:
    """A file's N rows in file order. score: NaN is never flagged. windows: (E, 2) first and last row, in order."""

    score: Floats
    flags: Bools
    windows: Ints

    @property
    def judged_from(self) -> int:
        """The first row behind the probation."""
        return probation(len(self.score))


def probation(rows: int) -> int:
    """Rows of a file that do not count."""
    return min(int(PROBATION_SHARE * rows), PROBATION_MOST)


def at_flags(corpus: Sequence[NabSeries], profile: Profile) -> float:
    """The score of the corpus with its flags as they are; 0 is without any, 100 the first row of every window."""
    raw = 0.0
    for series in corpus:
        worth, window = _worth(series, profile)
        on = np.flatnonzero(series.flags[series.judged_from :]) + series.judged_from
        raw += float(worth[on][window[on] < 0].sum())
        first = {int(w): float(worth[row]) for row, w in zip(on[::-1], window[on][::-1], strict=True) if w >= 0}
        raw += sum(first.values()) - profile.miss * (_counting(series) - len(first))
    return _scaled(raw, sum(map(_counting, corpus)), profile)


def tuned(corpus: Sequence[NabSeries], profile: Profile) -> tuple[float, float]:
    """The best score that one threshold on all files reaches, and the threshold: rows at least as high are flagged."""
    windows = 0
    scores, changes = [], []
    for series in corpus:
        worth, window = _worth(series, profile)
        rows = np.arange(series.judged_from, len(series.score))
        rows = rows[~np.isnan(series.score[rows])]
        outside = rows[window[rows] < 0]
        scores.append(series.score[outside])
        changes.append(worth[outside])
        for i in range(len(series.windows)):
            level, change = _of_window(series.score, worth, rows[window[rows] == i], profile)
            scores.append(level)
            changes.append(change)
        windows += _counting(series)
    level, change = np.concatenate(scores), np.concatenate(changes)
    order = np.argsort(-level, kind="stable")
    level, total = level[order], np.cumsum(change[order]) - profile.miss * windows
    last = np.append(np.flatnonzero(np.diff(level)), len(level) - 1) if len(level) else np.zeros(0, np.int64)
    best = max(last.tolist(), key=lambda i: float(total[i]), default=None)
    if best is None or total[best] <= -profile.miss * windows:
        return 0.0, float("inf")
    return _scaled(float(total[best]), windows, profile), float(level[best])


def first_of_episodes(series: NabSeries) -> NabSeries:
    """The same file with only the first flagged row of each episode."""
    first = np.zeros(len(series.flags), np.bool_)
    first[spans(series.flags, EPISODE_GAP)[:, 0]] = True
    return replace(series, flags=first)


def _of_window(score: Floats, worth: Floats, rows: Ints, profile: Profile) -> tuple[Floats, Floats]:
    """Levels at which the earliest hit of a window changes as the threshold falls, and by how much its worth does.

    A row counts when it is the earliest of those at least as high: the running maxima from the window's start.
    """
    if not len(rows):
        return np.zeros(0), np.zeros(0)
    highest = np.maximum.accumulate(score[rows])
    leads = np.flatnonzero(np.append(True, highest[1:] > highest[:-1]))[::-1]
    value = worth[rows[leads]]
    return score[rows[leads]], np.diff(value, prepend=-profile.miss)


def _worth(series: NabSeries, profile: Profile) -> tuple[Floats, Ints]:
    """What flagging each row is worth (N,), and the window that it lies in, or -1."""
    row = np.arange(len(series.score))
    window = np.full(len(row), -1)
    worth = np.full(len(row), -profile.false)
    for i, (first, last) in enumerate(series.windows.tolist()):
        width = last - first + 1
        behind = row[last + 1 :]
        worth[last + 1 :] = profile.false * _sigmoid((behind - last) / max(width - 1, 1))
        worth[first : last + 1] = profile.hit * _sigmoid((row[first : last + 1] - last - 1) / width) / _sigmoid(-1.0)
        window[first : last + 1] = i
    return worth, window


def _sigmoid(y: Floats | float) -> Floats:
    """From nearly 1 at -1 over 0 at 0 to -1 from `FAR` on."""
    y = np.asarray(y, np.float64)
    return np.where(y >= FAR, -1.0, 2 / (1 + np.exp(5 * np.minimum(y, FAR))) - 1)


def _counting(series: NabSeries) -> int:
    """Windows that do not end within the probation."""
    return int((series.windows[:, 1] >= series.judged_from).sum())


def _scaled(raw: float, windows: int, profile: Profile) -> float:
    null, perfect = -profile.miss * windows, profile.hit * windows
    return 100 * (raw - null) / (perfect - null) if windows else float("nan")
