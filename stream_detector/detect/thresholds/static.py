"""Thresholds that do not learn: a fixed score, and a quantile of the training scores.

They know the level that a sensor had in training (else the fleet's) and stay with it: no budget holds when the
sensor drifts.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds import swap
from stream_detector.detect.thresholds.calibration import Calibration, generic
from stream_detector.detect.thresholds.decisions import SMALLEST_P, Decisions, Thresholds, alpha_of
from stream_detector.detect.thresholds.track import FLATTEST, log_score
from stream_detector.errors import ConfigError
from stream_detector.records import Bools, Floats, Ints
from stream_detector.settings import Budget

FIELDS: Fields = [
    ("th_level", "<f8"),  # median of ln score in training
    ("th_width", "<f8"),  # its MAD; 0 is a row that was never started
    ("th_raised_log", "<f8"),  # no threshold below this, in ln score: feedback
]


class Quantile(Thresholds):
    """A quantile of the training scores, moved to each sensor's level; without `value`, the budget's."""

    def __init__(self, budget: Budget, calibration: Calibration | None = None, value: float | None = None) -> None:
        if calibration is None:
            raise ConfigError("a quantile needs training scores: train the model, or choose another threshold method")
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"a quantile lies between 0 and 1, not at {value:g}: say quantile:0.999, for example")
        self.budget = budget
        self.value = value
        self.fleet = calibration
        self.curve = calibration.curve

    def start(self, state: State, sensor: Ints, median: Floats | None = None, mad: Floats | None = None) -> None:
        """See `Thresholds.start`."""
        state["th_level"][sensor] = self.fleet.median
        state["th_width"][sensor] = max(self.fleet.mad, FLATTEST)
        state["th_raised_log"][sensor] = -np.inf
        if median is not None and mad is not None:
            known = np.isfinite(median) & np.isfinite(mad)
            state["th_level"][sensor[known]] = median[known]
            state["th_width"][sensor[known]] = np.maximum(mad[known], FLATTEST)

    def decide_step(
        self, state: State, sensor: Ints, score: Floats, interval_ms: Floats, countable: Bools
    ) -> Decisions:
        """See `Thresholds.decide_step`; alpha is the chance that a step exceeds the threshold."""
        blank = sensor[state["th_width"][sensor] == 0]
        if len(blank):
            self.start(state, blank)
        out = Decisions.empty((len(sensor),))
        given = np.flatnonzero(~np.isnan(score))
        rows = sensor[given]
        x, level, width = log_score(score[given]), state["th_level"][rows], state["th_width"][rows]
        limit = np.maximum(self._limit(level, width, interval_ms[given]), state["th_raised_log"][rows])
        depth, deepest = self.curve.depth((x - level) / width), self.curve.depth((limit - level) / width)
        deepest = np.maximum(deepest, 1e-6)
        part = Decisions(
            p_value=np.maximum(np.exp(-depth), SMALLEST_P),
            threshold=np.exp(np.minimum(limit, 709.7)),
            anomalous=(x > limit) & countable[given],
            calm=depth < deepest / 2,
            alpha=np.maximum(np.exp(-deepest), SMALLEST_P),
            scope=np.zeros(len(rows), np.uint8),
            regime_change=np.zeros(len(rows), np.bool_),
        )
        out.put(given, part)
        return out

    def _limit(self, level: Floats, width: Floats, interval_ms: Floats) -> Floats:
        """Threshold in ln score."""
        alpha = alpha_of(self.budget, interval_ms)
        if self.value is not None:
            alpha = np.full(len(level), 1 - self.value)
        return level + width * self.curve.score(-np.log(alpha)).astype(np.float64)

    def reseat(self, state: State, sensor: Ints, old: Floats, new: Floats) -> None:
        """See `Thresholds.reseat`: the sensor's level moves, and with it a quantile and what feedback raised.

        A fixed threshold stays the number that its owner wrote: nobody else may change it. Where weights are
        refreshed, it must be set anew, or another method chosen.
        """
        move = swap.measure(old, new)
        known = np.flatnonzero(move.known)
        rows = sensor[known]
        for name in ("th_level", "th_raised_log"):
            state[name][rows] = move.apply_at(known, state[name][rows])
        state["th_width"][rows] = np.maximum(state["th_width"][rows] * move.ratio[known], FLATTEST)
        self.start(state, sensor[~move.known])

    def mark_false_positive(self, state: State, sensor: Ints, score: Floats) -> None:
        """See `Thresholds`; the threshold stays raised."""
        state["th_raised_log"][sensor] = np.fmax(state["th_raised_log"][sensor], log_score(score))

    def mark_confirmed(self, state: State, sensor: Ints, score: Floats) -> None:
        """Nothing to leave out: nothing is learned."""


class Fixed(Quantile):
    """The same score for every sensor; p-values are read off the fleet's curve, or a generic one."""

    def __init__(self, budget: Budget, calibration: Calibration | None = None, value: float | None = None) -> None:
        if value is None or not np.isfinite(value) or value <= 0:
            raise ConfigError("a fixed threshold needs a positive score: say fixed:3.5, for example")
        super().__init__(budget, calibration or generic())
        self.value = value
        self._log_value = float(log_score(np.array(value)))

    def _limit(self, level: Floats, width: Floats, interval_ms: Floats) -> Floats:
        return np.full(len(level), self._log_value)
