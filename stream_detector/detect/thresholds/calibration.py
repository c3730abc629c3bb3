"""What a new sensor borrows from the fleet, measured by training on held-out scores.

Knows scores of many sensors, each in order; not where they come from. The result travels in the artifact as
plain JSON of a few kilobytes, whatever the size of the fleet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stream_detector.detect.thresholds.tail import (
    LOWEST,
    SHAPE_PRIOR,
    SHAPE_RANGE,
    DepthCurve,
    fit_pareto,
    pareto_knots,
    rising,
)
from stream_detector.detect.thresholds.track import FLATTEST, MEMORY, follow, log_score
from stream_detector.errors import ArtifactError
from stream_detector.records import Floats

BLOCK = 16
"""Steps of a block (G)."""
KEPT = 4
"""The threshold is the K-th largest block maximum of an epoch (K)."""
WARM_UP = 192
"""Steps, whole blocks, in which a sensor unknown to training finds its level; it does not alert before."""
FEWEST_BLOCKS = 16
"""With fewer block maxima, a fleet tells nothing of tails."""
PEAKS = (8, 500)
"""At least and at most so many of the largest block maxima make the tail."""
ENOUGH_SENSORS = 10
"""With fewer sensors, nothing is known of how much they differ."""
WEIGHTS = (2.0, 8.0, 30.0)
"""Trust in the fleet's tail as a number of excesses (a sensor has three of its own): at least, where it is not
known how alike sensors are, and at most."""
LONGEST_GAP = 255
"""Blocks; what a byte of state holds."""
MAD_VARIANCE = 1.5
"""Variance of the logarithm of a MAD, times the number of scores; 1.36 where they are bell-shaped."""
NO_CAP = 1e6
LOOSEST_CAP = 1.5
"""The cap on thresholds is at least so much deeper than the fleet's threshold; a past of K blocks scatters."""


@dataclass(frozen=True)
class Calibration:
    """Score levels and tails of a fleet.

    median, mad: of ln score, the middle of the fleet's sensors. r, y: knots of the depth curve of normalised
    steps (see `tail.DepthCurve`). block: depth of a block's maximum less that of a step (ln 16 for independent
    steps, less where high scores come in groups). cap: ratio of the depth at which a noisy sensor (95th
    percentile of the fleet) has its threshold to the fleet's. excess: mean depth of a sensor's largest block maxima
    beyond its own K-th largest; 1 if all sensors are alike. weight: how far to trust that, as a number of such
    excesses; 0 where nothing is known. blocks: block maxima that this comes from.
    memory: steps that the running median looks back (H in `track`). gap: blocks whose scores look at some of the same
    readings, and exceed a threshold together; 1 if each tells something new.
    """

    median: float
    mad: float
    r: tuple[float, ...]
    y: tuple[float, ...]
    block: float
    cap: float
    excess: float
    weight: float
    blocks: int
    memory: int = MEMORY
    gap: int = 1

    @property
    def curve(self) -> DepthCurve:
        """The depth curve of normalised steps."""
        return DepthCurve(np.array(self.r), np.array(self.y))

    def to_json(self) -> dict[str, Any]:
        """Plain values for the artifact's manifest."""
        return {**self.__dict__, "r": list(self.r), "y": list(self.y)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_json` described; raises ArtifactError for anything else."""
        try:
            r, y = (tuple(float(value) for value in plain[name]) for name in ("r", "y"))
            numbers = [float(plain[name]) for name in ("median", "mad", "block", "cap", "excess", "weight")]
            median, mad, block, cap, excess, weight = numbers
            counts = [int(plain[name]) for name in ("blocks", "memory", "gap")]
            found = cls(median, mad, r, y, block, cap, excess, weight, *counts)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the thresholds' calibration cannot be read ({error}): train again") from error
        knots = np.array([r, y]) if len(r) == len(y) > 1 else np.zeros((2, 2))
        if not (np.isfinite([*numbers, *r, *y]).all() and (np.diff(knots) > 0).all()):
            raise ArtifactError("the thresholds' calibration is not a rising curve of numbers: train again")
        return found


def generic() -> Calibration:
    """Stands in where nothing is known: log scores with exponential tails (scores with Pareto tails)."""
    r = np.linspace(LOWEST, 0, 24)
    t, beyond = pareto_knots(0.0, 1 / np.log(2))
    y = np.concatenate([-np.log1p(-0.5 * 2.0**r), np.log(2) + t])
    r, y = rising(np.concatenate([r, beyond]), y)
    return Calibration(0.0, 0.5, tuple(r.tolist()), tuple(y.tolist()), float(np.log(BLOCK)), NO_CAP, 1.0, 0.0, 0)


def calibrate(scores: Sequence[Floats], memory: int = MEMORY, seen: int = 1) -> Calibration:
    """Measure levels and tails on consecutive held-out scores, one array a sensor.

    scores: each (T,) at least 0, higher is more anomalous; NaN steps are left out. Short arrays and a single
    sensor do; with fewer than 16 blocks of 16 steps in all, tails are assumed and sensors must warm up alone.
    memory: steps that the trackers look back; scores that look at many steps change slowly and need a long one. seen:
    steps that a score looks at. The fleet's tail is that of all blocks, also where extremes come in groups: of levels a
    short history tells little, and the first thresholds, a little high for it, make up for that.
    """
    gap = min(max(1, -(-seen // BLOCK)), LONGEST_GAP)
    logs = [log_score(s[~np.isnan(s)]) for s in (np.asarray(score, np.float64) for score in scores)]
    logs = [x for x in logs if len(x)]
    if not logs:
        return replace(generic(), memory=memory, gap=gap)
    median = np.array([np.median(x) for x in logs])
    mad = np.array([max(float(np.median(np.abs(x - m))), FLATTEST) for x, m in zip(logs, median, strict=True)])
    level, spread = float(np.median(median)), float(np.median(mad))
    steps = normalise(logs, median, _alike(mad, logs), memory)
    maxima = [s[: len(s) // BLOCK * BLOCK].reshape(-1, BLOCK).max(axis=1) for s in steps]
    tail = _fit_curve(np.concatenate(steps), np.concatenate(maxima))
    if tail is None:
        return replace(generic(), median=level, mad=spread, memory=memory, gap=gap)
    r, y, block = tail
    cap, excess, weight = _differences(DepthCurve(r, y), maxima, block)
    knots = tuple(r.tolist()), tuple(y.tolist())
    return Calibration(level, spread, *knots, block, cap, excess, weight, sum(map(len, maxima)), memory, gap)


def _alike(mad: Floats, logs: Sequence[Floats]) -> Floats:
    """MADs moved towards the fleet's as far as they differ by chance (James and Stein), in logarithms.

    The MAD of a short array scatters more than the tracker's of a long run, and that alone would make tails heavier
    than they are: thresholds would be too high.
    """
    if len(logs) < ENOUGH_SENSORS:
        return mad
    x = np.log(mad)
    chance = MAD_VARIANCE / np.array([len(log) for log in logs])
    between = max(float(x.var(ddof=1) - chance.mean()), 0.0)
    middle = float(np.median(x))
    found: Floats = np.exp(middle + (x - middle) * between / (between + chance))
    return found


def normalise(logs: Sequence[Floats], median: Floats, mad: Floats, memory: int) -> list[Floats]:
    """Log scores as the running median and MAD of their sensor would have normalised them, past their warm-up.

    logs: one array (T,) a sensor. median, mad: (n,) where the trackers start.
    """
    order = np.argsort([-len(x) for x in logs], kind="stable")
    lengths = np.array([len(logs[i]) for i in order])
    padded = np.zeros((int(lengths[0]), len(order)))
    for j, i in enumerate(order):
        padded[: lengths[j], j] = logs[i]
    center, spread = median[order], mad[order]
    out = np.empty_like(padded)
    for t, x in enumerate(padded):
        n = int(np.searchsorted(-lengths, -t))  # the longest come first: those that still have a score
        e = x[:n] - center[:n]
        out[t, :n] = e / spread[:n]
        moved, spread[:n] = follow(e, spread[:n], np.full(n, memory + t), memory)
        center[:n] += moved
    result = [np.empty(0)] * len(order)
    for j, i in enumerate(order):
        result[i] = out[: lengths[j], j].copy()
    return result


def _fit_curve(steps: Floats, maxima: Floats) -> tuple[Floats, Floats, float] | None:
    """Depth curve from steps in the body and block maxima in the tail, with the blocks' offset; None if too few.

    The tail is fitted to block maxima, since neighbouring steps may come in groups.
    """
    n = len(maxima)
    peaks = min(max(n // 10, PEAKS[0]), PEAKS[1], n // 2)
    ranked = np.sort(maxima)[::-1]
    if n < FEWEST_BLOCKS or ranked[0] <= ranked[peaks]:
        return None
    start = float(ranked[peaks])
    excess = ranked[:peaks] - start
    excess = excess[excess > 0]
    if len(excess) < PEAKS[0] // 2:
        return None
    fitted, _ = fit_pareto(excess[None], np.array([len(excess)]))
    shape = float(np.clip(fitted[0] * len(excess) / (len(excess) + SHAPE_PRIOR), *SHAPE_RANGE))
    scale = float(excess.mean()) * (1 - shape)
    above = max(float((steps > start).mean()), 0.5 / len(steps))
    share = np.append(1 - np.arange(1, 32) / 32, np.geomspace(1 / 32, above, 24)[1:-1] if above < 1 / 32 else [])
    share = share[share > above]
    body = np.quantile(steps, 1 - share)
    t, beyond = pareto_knots(shape, scale)
    r = np.concatenate([[LOWEST], np.maximum(body, LOWEST), [start], start + beyond])
    y = np.concatenate([[1e-6], -np.log(share), [-np.log(above)], -np.log(above) + t])
    return *rising(r, y), float(np.log(peaks + 1) - np.log(n + 1) - np.log(above))


def _differences(curve: DepthCurve, maxima: Sequence[Floats], block: float) -> tuple[float, float, float]:
    """How sensors differ from the fleet: the cap, the mean excess and its weight (see `Calibration`).

    Mean excesses of K - 1 exponential depths have a squared coefficient of variation of 1 / (K - 1) when sensors
    are alike; what is more is theirs, and the weight is that of the prior with this variation.
    """
    own = [m for m in maxima if len(m) >= 4 * KEPT]
    if not own:
        return LOOSEST_CAP, 1.0, WEIGHTS[1]
    top = curve.depth(np.array([np.sort(m)[-KEPT:] for m in own]).ravel()).reshape(-1, KEPT)
    ratio = (top[:, 0] - block) / np.log([(len(m) + 1) / KEPT for m in own])
    cap = max(float(np.quantile(ratio, 0.95)), LOOSEST_CAP)
    excess = (top[:, 1:] - top[:, :1]).mean(axis=1)
    mean = float(excess.mean())
    if len(own) < ENOUGH_SENSORS or mean <= 0:
        return cap, 1.0, WEIGHTS[1]
    within = 1 / (KEPT - 1)
    between = (float(excess.var(ddof=1)) / mean**2 - within) / (1 + within)
    return cap, mean, float(np.clip(1 + 1 / max(between, 1e-3), WEIGHTS[0], WEIGHTS[2]))
