"""What the largest block maxima of an epoch say of a threshold, and what that weighs against what was known.

Pure mathematics on arrays; knows neither the state nor when it is asked.

Depths above the K-th largest maximum are exponential, with a mean ("unit") that is the sensor's own. The depth of
that maximum scatters by half a unit, so one epoch alone makes a poor threshold: a high one overlooks anomalies, and
anomalies in the epoch raise it. What an epoch says is therefore averaged with the thresholds before it, each weighed
by the number of maxima that it rests on; what chance cannot explain replaces them.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.thresholds.calibration import KEPT, Calibration, generic
from stream_detector.records import Floats, Floats32, Ints

MOST_TRUST = 8.0
"""Block maxima that the past counts for at most: an epoch of K then weighs a third."""
FLEET_TRUST = 1.5
"""The same for the fleet's threshold: sensors differ, and those of a young fleet are measured more roughly."""
MEAN_LOG = 0.130
"""ln K - digamma(K): the K-th largest maximum lies so many units deep below the mean of its depth."""
HALF_VARIANCE = 0.142
"""trigamma(K) / 2: a threshold that scatters like one epoch's is exceeded so much more often, in ln."""
HIGHER, LOWER = 0.6, 1.8
"""Units by which an epoch may raise what was known at most, anomalies in it being the likely cause; and by which it
falls short of it by more than chance."""
ROOM = 4
"""An epoch has room for so many times K clusters."""
SMALLEST_UNIT = 0.1
"""Maxima that are tied say nothing of their scatter."""
DEEPEST_SPACING = 3.0
"""In the unit's estimate a maximum lies at most so many mean excesses above the next: beyond, it is an anomaly."""


class Fleet:
    """What the fleet offers, see `Calibration`. `weight` 0: its tails are unknown and `curve` is assumed."""

    def __init__(self, calibration: Calibration | None) -> None:
        known = calibration or generic()
        self.curve = known.curve
        self.level, self.spread = known.median, known.mad
        self.block, self.cap = known.block, known.cap
        self.excess, self.weight = known.excess, known.weight
        self.memory, self.gap = known.memory, known.gap

    def apart(self, length: Ints) -> Ints:
        """Blocks within which maxima are one cluster, in an epoch of so many blocks (n,).

        Less than `gap` in a short one: with hardly more clusters than places the K-th largest would be no extreme, and
        the fleet's tail says how extremes go on. Without a fleet much is added to a short epoch's anyway.
        """
        found: Ints = np.clip(length // (ROOM * KEPT), 1, self.gap)
        return found if self.weight else np.full_like(found, self.gap)

    def threshold(self, alpha_b: Floats) -> Floats32:
        """Normalised score that a block's maximum exceeds with probability alpha_b (n,) in the fleet."""
        return self.curve.score(self.block - np.log(alpha_b))

    def highest(self, alpha_b: Floats) -> Floats32:
        """The cap on a sensor's threshold, so that a past full of anomalies cannot hide all that follow.

        What the fleet's noisy sensors have, but no less than twice its threshold, for sensors unlike the fleet.
        """
        noisy = self.curve.score(self.block - self.cap * np.log(alpha_b))
        return np.maximum(noisy, 2 * self.threshold(alpha_b))


def from_maxima(top: Floats32, length: Ints, alpha_b: Floats, fleet: Fleet) -> tuple[Floats32, Floats]:
    """Normalised score that a block exceeds with probability alpha_b, from an epoch's K largest maxima; the unit.

    top: (n, K) falling. length: (n,) blocks of the epoch. alpha_b: (n,). Where the epoch was long enough this is
    the K-th largest. Else the depth that is missing is added along the fleet's curve: given the sum S of the own
    K - 1 depths above the K-th largest and a prior worth w of mean b0, a new one exceeds t with probability
    ((w b0 + S) / (w b0 + S + t))^(w + K - 1). unit: (n,) = (w b0 + S) / (w + K - 1).
    """
    missing = np.maximum(KEPT / ((length + 1) * alpha_b), 1.0)
    y = fleet.curve.depth(top.ravel()).reshape(top.shape)
    mass = np.full(len(y), fleet.weight * fleet.excess)
    for rank in range(1, KEPT):  # S as the sum of spacings, each times the maxima above it
        mass += np.minimum(rank * (y[:, rank - 1] - y[:, rank]), DEEPEST_SPACING * fleet.excess)
    degrees = fleet.weight + KEPT - 1
    added = mass * (missing ** (1 / degrees) - 1)
    found = np.where(missing > 1, fleet.curve.score(y[:, -1] + added), top[:, -1])
    return np.minimum(found, fleet.highest(alpha_b)), np.maximum(mass / degrees, SMALLEST_UNIT)


def blend(
    found: Floats32,
    unit: Floats,
    base: Floats32,
    trust: Floats,
    over: Ints,
    length: Ints,
    alpha_b: Floats,
    fleet: Fleet,
) -> tuple[Floats32, Floats32, Floats]:
    """Threshold, base and trust (n,) after an epoch that says `found`, before it base and trust.

    found, unit: as `from_maxima` gives them. base: normalised, the mean of what was known; trust: block maxima that
    it is worth, 0 for nothing. over: blocks of the epoch above the threshold. The base averages ln p; the threshold
    is the base with the margin that its scatter demands, so that the mean of p is the budget.
    """
    deep = fleet.curve.depth(found) - MEAN_LOG * unit
    before = np.where(trust > 0, fleet.curve.depth(base), deep)
    off = (deep - before) / unit
    expected = length * alpha_b
    refuted = (over > expected + 2.5 * np.sqrt(expected) + 1) | (off < -LOWER)
    trust = np.where(refuted, 0.0, trust)
    missing = np.log(np.maximum(KEPT / ((length + 1) * alpha_b), 1.0))
    worth = 1 / (1 / KEPT + missing**2 / (fleet.weight + KEPT - 1))
    step = np.where(trust > 0, np.minimum(off, HIGHER), off)
    after = before + unit * step * worth / (worth + trust)
    margin = unit * (HALF_VARIANCE * KEPT) / (worth + trust)
    highest = fleet.highest(alpha_b)
    limit, base = (np.minimum(fleet.curve.score(y), highest) for y in (after + margin, after))
    return limit, base, worth + trust
