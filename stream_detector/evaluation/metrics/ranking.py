"""Measures of a score's order alone, without a threshold.

VUS-PR is written here, since no library of it is kept up; AUC-PR and ROC-AUC come from scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_detector.errors import ConfigError
from stream_detector.evaluation.metrics.events import spans
from stream_detector.records import Bools, Floats, Ints

FAR = np.iinfo(np.int64).max // 4


def auc_pr(labels: Bools, score: Floats) -> float:
    """Average precision of the points; NaN where all labels are alike. labels, score: (N,)."""
    return _of_points("average_precision_score", labels, score)


def roc_auc(labels: Bools, score: Floats) -> float:
    """Area under the ROC curve of the points; NaN where all labels are alike. labels, score: (N,)."""
    return _of_points("roc_auc_score", labels, score)


def _of_points(name: str, labels: Bools, score: Floats) -> float:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise ConfigError("evaluation needs scikit-learn: pip install 'stream-detector[evaluate]'") from error
    if labels.all() or not labels.any():
        return float("nan")
    return float(getattr(metrics, name)(labels, score))


def vus_pr(labels: Bools, score: Floats, buffer: int, thresholds: int | None = None) -> float:
    """Volume under the surface of precision and recall; NaN where no label is set.

    labels, score: (N,), higher is more anomalous. buffer: the widest slope, in rows; the mean is over the widths 0 to
    `buffer`. thresholds: so many at evenly spaced ranks (the TSB-AD benchmark takes 250); None takes every score.

    Paparrizos et al., PVLDB 15(11), 2022, as TSB-AD computes it. For a width w each event gets a slope of w // 2 rows
    on either side, worth sqrt(1 - distance / w); what is worth more than 1 where slopes meet counts 1. A flagged row
    is a hit as far as it is worth; recall is hits over the mean of the events' rows and the flagged worth, at most 1,
    times the share of the events, with their slopes, that have a flagged row at all.
    """
    events = spans(labels)
    if not len(events):
        return float("nan")
    surface = _Surface.of(events, score, buffer, thresholds)
    return float(np.mean([surface.area(width) for width in range(buffer + 1)]))


@dataclass(frozen=True, slots=True)
class _Surface:
    """What the curves of all widths have in common, for K thresholds that fall.

    events: (E, 2) first row and the one behind the last. first: (N,) the first threshold that flags a row, K where
    none does. flagged: (K,) rows that each flags. hits: (K,) of them, rows of events. near, next: (M,) distance of
    the rows beside events to the nearest event and to the second nearest. beside: (M,) as `first`, of these rows.
    """

    events: Ints
    first: Ints
    flagged: Ints
    hits: Floats
    rows: int
    near: Ints
    next: Ints
    beside: Ints

    @classmethod
    def of(cls, events: Ints, score: Floats, buffer: int, thresholds: int | None) -> _Surface:
        N, half = len(score), buffer // 2
        inside = np.zeros(N, np.bool_)
        around = np.zeros(N, np.bool_)
        for start, stop in events.tolist():
            inside[start:stop] = True
            around[max(start - half, 0) : stop + half] = True
        falling = -np.sort(-score)
        if thresholds is None:
            # Others change neither recall nor existence, and an area grows with recall alone.
            levels = -np.unique(-score[around])
        else:
            levels = falling[np.linspace(0, N - 1, thresholds).astype(np.int64)]
        first = np.searchsorted(-levels, -score)
        outer = np.flatnonzero(around & ~inside)
        near, second = _distances(events, outer)
        return cls(
            events=events,
            first=first,
            flagged=np.searchsorted(-falling, -levels, side="right"),
            hits=_running(first[inside], np.ones(int(inside.sum())), len(levels)),
            rows=int(inside.sum()),
            near=near,
            next=second,
            beside=first[outer],
        )

    def area(self, width: int) -> float:
        """Area under precision and recall for slopes of one width."""
        half, K = width // 2, len(self.flagged)
        part = self.near <= half
        worth = np.sqrt(1 - self.near[part] / max(width, 1))
        worth[self.next[part] <= half] = 1.0
        sloped = _running(self.beside[part], worth, K)
        found = self.hits + sloped
        recall = np.minimum(found / (self.rows + sloped / 2), 1.0) * self._existence(half)
        return float(np.sum(np.diff(recall, prepend=0.0) * found / self.flagged))

    def _existence(self, half: int) -> Floats:
        """(K,) share of the events, those whose slopes meet taken as one, with a flagged row."""
        start, stop = self.events.T
        apart = np.flatnonzero(stop[:-1] + half <= start[1:] - half)
        starts = np.maximum(start[np.append(0, apart + 1)] - half, 0)
        stops = np.minimum(stop[np.append(apart, len(stop) - 1)] + half, len(self.first))
        earliest = np.array([self.first[a:b].min() for a, b in zip(starts.tolist(), stops.tolist(), strict=True)])
        return _running(earliest, np.ones(len(earliest)), len(self.flagged)) / len(earliest)


def _running(first: Ints, worth: Floats, count: int) -> Floats:
    """(K,) worth of what has been flagged by each threshold."""
    total: Floats = np.cumsum(np.bincount(first, weights=worth, minlength=count + 1)[:count])
    return total


def _distances(events: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Distance of rows outside of all events to the nearest and the second nearest event, on whichever side."""
    before = np.concatenate([[-FAR, -FAR], events[:, 1] - 1])
    after = np.concatenate([events[:, 0], [FAR, FAR]])
    at = np.searchsorted(events[:, 0], rows)
    found = np.sort(
        np.stack([rows - before[at + 1], rows - before[at], after[at] - rows, after[at + 1] - rows], axis=1), axis=1
    )
    return found[:, 0], found[:, 1]
