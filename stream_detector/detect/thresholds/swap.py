"""How log scores move when a model gets new weights, from windows that both have scored.

Knows pairs of scores only. Pairs tell more than levels do: what a window scores with the old weights says what it
should score with the new ones, so neither the few windows' own scatter nor an anomaly among them moves the level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_detector.detect.thresholds.track import FLATTEST, log_score
from stream_detector.records import Bools, Floats, Ints

FEWEST = 5
"""With fewer pairs only the level moves: they say nothing of the spread."""
PRIOR_VARIANCE = 0.09
"""How much ln ratio differs from 0 among swaps, before anything is known of this one."""
MAD_RATIO_VARIANCE = 2.7
"""Variance of ln ratio times the number of pairs, if the two scores of a window had nothing to do with each other."""


@dataclass(frozen=True, slots=True)
class Move:
    """The map of log scores x -> ratio (x - old) + new, one a sensor; all (n,).

    known: false where there is no pair. old, new: median of the log scores, with the old and the new weights; 0 where
    unknown. ratio: MAD new / MAD old, moved towards 1 as far as the pairs scatter and are few; exactly proportional
    scores give 1. steps: steps of a running median whose level would be as certain; inf if the map has no scatter.
    """

    known: Bools
    old: Floats
    new: Floats
    ratio: Floats
    scatter: Floats
    steps: Floats

    def apply_at(self, at: Ints, x: Floats) -> Floats:
        """Where log scores x (m,) of the old weights lie with the new ones. at: (m,) places of their sensors."""
        moved: Floats = self.ratio[at] * (x - self.old[at]) + self.new[at]
        return moved


def measure(old: Floats, new: Floats) -> Move:
    """How scores move.

    old, new: (n, W) scores of the same W windows of n sensors, at least 0; a pair with a NaN does not count.
    """
    x, z = log_score(old), log_score(new)
    missing = np.isnan(x) | np.isnan(z)
    x, z = np.where(missing, np.nan, x), np.where(missing, np.nan, z)
    count = (~missing).sum(axis=1)
    known = count > 0
    old_median, new_median = _median(x, count), _median(z, count)
    dx, dz = x - old_median[:, None], z - new_median[:, None]
    old_mad, new_mad = _median(np.abs(dx), count), _median(np.abs(dz), count)
    measured = (count >= FEWEST) & (old_mad > FLATTEST) & (new_mad > FLATTEST)
    raw = np.where(measured, new_mad, 1.0) / np.where(measured, old_mad, 1.0)
    scatter = _median(np.abs(dz - raw[:, None] * dx), count) / np.maximum(new_mad, FLATTEST)
    unrelated = np.minimum(scatter, 1.0) ** 2
    variance = MAD_RATIO_VARIANCE * unrelated / np.maximum(count, 1)
    ratio = np.exp(np.log(raw) * PRIOR_VARIANCE / (PRIOR_VARIANCE + variance))
    with np.errstate(divide="ignore"):
        steps = np.maximum(count, 1) / unrelated
    return Move(known, old_median, new_median, ratio, scatter, steps)


def _median(x: Floats, count: Ints) -> Floats:
    """Median of each row's `count` numbers, NaN left out; 0 where there are none. x: (n, W)."""
    if not x.shape[1]:
        return np.zeros(len(x))
    ranked, rows = np.sort(x, axis=1), np.arange(len(x))  # NaN comes last
    lower, upper = (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, np.maximum(count - 1, 0)))
    middle: Floats = (ranked[rows, lower] + ranked[rows, upper]) / 2
    return np.where(count > 0, middle, 0.0)
