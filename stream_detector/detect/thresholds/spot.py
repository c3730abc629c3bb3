"""SPOT and DSPOT: peaks over a threshold, as in the paper, for comparison and for those who know them.

Source: Siffer, Fouque, Termier, Largouet (2017), "Anomaly Detection in Streams with Extreme Value Theory", KDD.
Bounded here, where the paper keeps everything: the fit sees the latest 64 peaks, and is Zhang and Stephens'
instead of Grimshaw's. What exceeds the threshold is not learned, as in the paper: on normal data the threshold
then creeps down and false alerts come several times as often as asked for.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds import swap
from stream_detector.detect.thresholds.calibration import Calibration
from stream_detector.detect.thresholds.decisions import SMALLEST_P, Decisions, Thresholds, alpha_of
from stream_detector.detect.thresholds.tail import fit_pareto
from stream_detector.records import Bools, Floats, Ints
from stream_detector.settings import Budget

FIRST = 1000
"""Scores that the initial threshold is taken from."""
FIRST_PEAKS = 20
"""Of these lie above it: it is their 0.98 quantile."""
PEAKS = 64
"""Peaks that are kept."""
DEPTH = 20
"""Normal values whose mean DSPOT takes off (d)."""
HUGE = 1e300
"""Scores beyond are cut off, so that sums of them stay finite."""

SPOT_FIELDS: Fields = [
    ("th_seen", "<i8"),  # n, normal scores so far
    ("th_peaks", "<i8"),  # N_t, peaks so far
    ("th_start", "<f8"),  # t, the initial threshold
    ("th_quantile", "<f8"),  # z_q, the threshold
    ("th_shape", "<f8"),  # gamma
    ("th_size", "<f8"),  # sigma
    ("th_raised", "<f8"),  # no threshold below this: feedback
    ("th_excess", "<f8", (PEAKS,)),  # the latest peaks less t; until n = 1000, the largest scores
]
DSPOT_FIELDS: Fields = [*SPOT_FIELDS, ("th_count", "<i8"), ("th_recent", "<f8", (DEPTH,))]


class Spot(Thresholds):
    """SPOT, with the budget's chance a step as q; no alert within a sensor's first 1000 scores."""

    scaled: tuple[str, ...] = ("th_start", "th_quantile", "th_size", "th_raised", "th_excess")
    """Fields in units of the score."""

    def __init__(self, budget: Budget, calibration: Calibration | None = None) -> None:
        self.budget = budget

    def start(self, state: State, sensor: Ints, median: Floats | None = None, mad: Floats | None = None) -> None:
        """See `Thresholds.start`; what training knows is of no use here."""
        for name, *_ in SPOT_FIELDS:
            state[name][sensor] = 0
        state["th_excess"][sensor] = state["th_raised"][sensor] = -np.inf

    def decide_step(
        self, state: State, sensor: Ints, score: Floats, interval_ms: Floats, countable: Bools
    ) -> Decisions:
        """See `Thresholds.decide_step`."""
        out = Decisions.empty((len(sensor),))
        given = np.flatnonzero(~np.isnan(score))
        rows, learned = sensor[given], countable[given]
        base, known = self._baseline(state, rows)
        value = np.clip(score[given], 0, HUGE) - base
        alpha = alpha_of(self.budget, interval_ms[given])
        part = self._judge(state, rows, value, alpha)
        part.threshold[:] = part.threshold + base
        part.anomalous[:] &= learned
        out.put(given, part)
        normal = learned & ~part.anomalous
        self._shift(state, rows[normal], (value + base)[normal])
        self._learn(state, rows[normal & known], value[normal & known], alpha[normal & known])
        return out

    def _judge(self, state: State, sensor: Ints, value: Floats, alpha: Floats) -> Decisions:
        """Decisions on values (n,) less their baseline; `threshold` too is without it."""
        ready = state["th_seen"][sensor] >= FIRST
        t = state["th_start"][sensor]
        share = state["th_peaks"][sensor] / np.maximum(state["th_seen"][sensor], 1)
        limit = np.where(ready, np.maximum(state["th_quantile"][sensor], state["th_raised"][sensor]), np.inf)
        tail = share * survival(value - t, state["th_shape"][sensor], state["th_size"][sensor])
        # Below t the method has no model: a straight line from 1 at 0, for the order's sake.
        body = 1 - (1 - share) * np.clip(value / np.where(t > 0, t, 1.0), 0, 1) * (t > 0)
        p = np.where(ready, np.where(value > t, tail, body), 1.0)
        return Decisions(
            p_value=np.maximum(p, SMALLEST_P),
            threshold=limit,
            anomalous=value > limit,
            calm=~ready | (value <= t),
            alpha=alpha,
            scope=np.ones(len(sensor), np.uint8),
            regime_change=np.zeros(len(sensor), np.bool_),
        )

    def _baseline(self, state: State, sensor: Ints) -> tuple[Floats, Bools]:
        """What is taken off the scores, and where it is known."""
        return np.zeros(len(sensor)), np.ones(len(sensor), np.bool_)

    def _shift(self, state: State, sensor: Ints, score: Floats) -> None:
        """Follow the baseline of normal scores."""

    def _learn(self, state: State, sensor: Ints, value: Floats, alpha: Floats) -> None:
        """Count normal values; fit anew where one is a peak."""
        state["th_seen"][sensor] += 1
        seen = state["th_seen"][sensor]
        first = np.flatnonzero((seen <= FIRST) & (value > state["th_excess"][sensor, FIRST_PEAKS]))
        if len(first):
            rows = sensor[first]
            largest = np.column_stack([state["th_excess"][rows, : FIRST_PEAKS + 1], value[first]])
            state["th_excess"][rows, : FIRST_PEAKS + 1] = np.sort(largest, axis=1)[:, :0:-1]
        done = seen == FIRST
        self._take_first(state, sensor[done])
        peak = (seen > FIRST) & (value > state["th_start"][sensor])
        rows = sensor[peak]
        place = state["th_peaks"][rows] % PEAKS
        state["th_excess"][rows, place] = value[peak] - state["th_start"][rows]
        state["th_peaks"][rows] += 1
        self._fit(state, sensor[done | peak], alpha[done | peak])

    def _take_first(self, state: State, sensor: Ints) -> None:
        """Set the initial threshold: the 21st largest of the first 1000 values; the 20 above are the first peaks."""
        largest = state["th_excess"][sensor, : FIRST_PEAKS + 1]
        t = largest[:, -1]
        state["th_start"][sensor] = t
        state["th_excess"][sensor] = 0
        state["th_excess"][sensor, :FIRST_PEAKS] = largest[:, :-1] - t[:, None]
        state["th_peaks"][sensor] = FIRST_PEAKS

    def _fit(self, state: State, sensor: Ints, alpha: Floats) -> None:
        """Fit the peaks and set z_q; `Calc threshold` of the paper's algorithm 1."""
        if not len(sensor):
            return
        count = np.minimum(state["th_peaks"][sensor], PEAKS)
        excess = state["th_excess"][sensor]
        flat = excess.max(axis=1) <= 0  # tied scores: nothing lies above t
        shape, size = fit_pareto(np.where(flat[:, None], 1.0, excess), count)
        shape, size = np.where(flat, 0.0, shape), np.where(flat, 0.0, size)
        rarity = alpha * state["th_seen"][sensor] / state["th_peaks"][sensor]
        state["th_shape"][sensor], state["th_size"][sensor] = shape, size
        with np.errstate(over="ignore"):
            limit = state["th_start"][sensor] + quantile(np.minimum(rarity, 1.0), shape, size)
        state["th_quantile"][sensor] = np.minimum(limit, HUGE)

    def reseat(self, state: State, sensor: Ints, old: Floats, new: Floats) -> None:
        """See `Thresholds.reseat`: all that is kept is multiplied by what the median score was multiplied by.

        Peaks are differences of scores, so a change of shape cannot be followed: it shows as the peaks are replaced.
        """
        move = swap.measure(old, new)
        known = np.flatnonzero(move.known)
        rows, factor = sensor[known], np.exp((move.new - move.old)[known])
        for name in self.scaled:
            kept = state[name][rows]
            state[name][rows] = kept * (factor[:, None] if kept.ndim > 1 else factor)
        self.start(state, sensor[~move.known])

    def mark_false_positive(self, state: State, sensor: Ints, score: Floats) -> None:
        """See `Thresholds`; the threshold stays raised."""
        value = np.clip(score, 0, HUGE) - self._baseline(state, sensor)[0]
        state["th_raised"][sensor] = np.fmax(state["th_raised"][sensor], value)

    def mark_confirmed(self, state: State, sensor: Ints, score: Floats) -> None:
        """Nothing to leave out: what exceeds the threshold is never learned."""


class Dspot(Spot):
    """DSPOT: SPOT on scores less the mean of the last 20 normal ones."""

    scaled = (*Spot.scaled, "th_recent")

    def start(self, state: State, sensor: Ints, median: Floats | None = None, mad: Floats | None = None) -> None:
        """See `Thresholds.start`."""
        super().start(state, sensor)
        state["th_count"][sensor] = 0
        state["th_recent"][sensor] = 0

    def _baseline(self, state: State, sensor: Ints) -> tuple[Floats, Bools]:
        mean: Floats = (state["th_recent"][sensor] / DEPTH).sum(axis=1)
        return mean, state["th_count"][sensor] >= DEPTH

    def _shift(self, state: State, sensor: Ints, score: Floats) -> None:
        count = state["th_count"][sensor]
        state["th_recent"][sensor, count % DEPTH] = score
        state["th_count"][sensor] = count + 1


def survival(excess: Floats, shape: Floats, size: Floats) -> Floats:
    """P(excess above) of generalised Pareto distributions, elementwise; 0 beyond the end of a bounded one.

    excess: units of size; below 0 counts as 0. shape 0 is the exponential distribution; size 0 has no tail.
    """
    scaled = np.maximum(excess, 0) / np.where(size > 0, size, 1.0)
    flat = np.abs(shape) < 1e-8
    inner = np.log(np.maximum(1 + shape * scaled, SMALLEST_P)) / np.where(flat, 1.0, shape)
    found: Floats = np.exp(-np.where(flat, scaled, inner))
    return np.where((size > 0) | (excess <= 0), found, 0.0)


def quantile(rarity: Floats, shape: Floats, size: Floats) -> Floats:
    """Excess that is exceeded with probability `rarity`: sigma / gamma (rarity^-gamma - 1), elementwise.

    The limit at gamma = 0 is -sigma ln(rarity), which moves with the unit of the scores as it must.
    """
    flat = np.abs(shape) < 1e-8
    grown = np.expm1(-np.log(rarity) * np.where(flat, 1.0, shape)) / np.where(flat, 1.0, shape)
    found: Floats = size * np.where(flat, -np.log(rarity), grown)
    return found
