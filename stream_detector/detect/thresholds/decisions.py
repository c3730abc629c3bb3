"""What a threshold method answers, and the interface that all methods share.

Knows the order in which due windows must be judged; not how.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stream_detector.detect.state import State
from stream_detector.records import Bools, Floats, Ints
from stream_detector.settings import Budget

SMALLEST_P = 1e-300
"""p-values are positive, so that their logarithm is finite."""
LOOSEST = 1 / 32
"""A budget that allows more alerts a step counts as one alert in 32 steps."""
TIGHTEST = 1e-12
"""A budget that allows fewer counts as this: no history is long enough to tell them apart."""
SEVERITY_TIMES = (10.0, 1e3, 1e6)
"""How many times rarer than the budget a step must be for warning, error and critical."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What was decided of B due windows' S freshest steps; one step of n sensors has shape (n,) instead of (B, S).

    p_value: float64 in [1e-300, 1], the chance that a normal step scores as high; NaN where the score is NaN.
    threshold: float64 in score units; inf while there is none yet.
    anomalous: bool, strictly above the threshold, countable, and within the hard cap on alerts.
    calm: bool, under the lower level that ends an incident: level < 1/2.
    alpha: float64, the budget as a chance a step: alerts / steps of the period.
    scope: uint8, 0 while the fleet's threshold is used, 1 when the sensor's own past sets it.
    regime_change: bool, alerts overflowed their hard cap; once an episode, the overflowing ones stay silent.
    """

    p_value: Floats
    threshold: Floats
    anomalous: Bools
    calm: Bools
    alpha: Floats
    scope: npt.NDArray[np.uint8]
    regime_change: Bools

    @property
    def level(self) -> Floats:
        """How far out a step lies: ln p / ln alpha. 0 is usual, 1 the threshold, higher more anomalous; NaN as p."""
        level: Floats = np.log(self.p_value) / np.log(self.alpha)
        return level

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Decisions:
        """Decisions of steps without a score: no p-value, no alert; to be filled in."""
        return cls(
            p_value=np.full(shape, np.nan),
            threshold=np.full(shape, np.nan),
            anomalous=np.zeros(shape, np.bool_),
            calm=np.zeros(shape, np.bool_),
            alpha=np.full(shape, np.nan),
            scope=np.zeros(shape, np.uint8),
            regime_change=np.zeros(shape, np.bool_),
        )

    @classmethod
    def unset(cls, shape: tuple[int, ...]) -> Decisions:
        """Decisions whose every step is still to be filled in."""
        p_value, threshold, alpha = (np.empty(shape) for _ in range(3))
        anomalous, calm, regime_change = (np.empty(shape, np.bool_) for _ in range(3))
        return cls(p_value, threshold, anomalous, calm, alpha, np.empty(shape, np.uint8), regime_change)

    def part(self, place: slice) -> Decisions:
        """The steps at `place`, as views: what is written there is written here."""
        return Decisions(*(getattr(self, f)[place] for f in _FIELDS))

    def put(self, place: object, part: Decisions) -> None:
        """Fill in what was decided of the steps at `place` (any numpy index)."""
        for f in _FIELDS:
            getattr(self, f)[place] = getattr(part, f)


_FIELDS = tuple(f.name for f in fields(Decisions))


class DueLike(Protocol):
    """The part of `detect.due.Due` that thresholds look at."""

    @property
    def sensor(self) -> Ints:
        """(B,) row of the sensor."""

    @property
    def interval_ms(self) -> Floats:
        """(B,) usual time between readings."""

    @property
    def settling(self) -> Bools:
        """(B, S) true just behind a gap."""

    @property
    def rounds(self) -> Sequence[Ints]:
        """Indices of the windows; within a round sensors are unique."""


class Thresholds(ABC):
    """A way to decide on scores. `state` is the sensors' structured array, `sensor` (n,) rows, unique in a call."""

    @abstractmethod
    def start(self, state: State, sensor: Ints, median: Floats | None = None, mad: Floats | None = None) -> None:
        """Make the rows of new sensors ready.

        median, mad: (n,) of the log scores of sensors that training has seen; NaN for those it has not.
        """

    @abstractmethod
    def decide_step(
        self, state: State, sensor: Ints, score: Floats, interval_ms: Floats, countable: Bools
    ) -> Decisions:
        """Judge one step of n sensors, then learn from it.

        score: (n,) at least 0, higher is more anomalous; NaN is neither judged nor learned. interval_ms: (n,)
        the sensor's usual time between steps. countable: (n,) false is given a p-value, but neither alerts nor
        is learned.
        """

    @abstractmethod
    def reseat(self, state: State, sensor: Ints, old: Floats, new: Floats) -> None:
        """Move to the scale of new weights: scores (n, W) of the same windows at hand with the old and the new ones.

        Raw scores, at least 0, window by window in the same places; about 25 windows a sensor do. A pair with a NaN
        does not count, and a sensor without a pair begins anew. Called on the method that was built for the new
        weights. Elementwise over sensors, so a large fleet can be moved in parts. Scores that are all multiplied by
        a number change no decision.
        """

    def renew(self, state: State, sensor: Ints, median: Floats, mad: Floats) -> None:  # noqa: B027
        """Let sensors begin anew whose past says little of the scores to come; called after `reseat`.

        median, mad: (n,) of the log scores with the new weights, as training has measured them. What people said and
        the cap on alerts stay; a sensor that was not warm yet is now. A method that borrows nothing from training goes
        on as it is.
        """

    @abstractmethod
    def mark_false_positive(self, state: State, sensor: Ints, score: Floats) -> None:
        """Learn that these scores (n,) were normal: the same normalised score does not alert again."""

    @abstractmethod
    def mark_confirmed(self, state: State, sensor: Ints, score: Floats) -> None:
        """Learn that these scores (n,) were anomalies: they are left out of what the threshold learns from."""

    def decide(self, state: State, due: DueLike, scores: Floats) -> Decisions:
        """Judge due windows in order: round by round, and the steps of a window one after another.

        scores: (B, S). The result does not depend on how windows were batched.
        """
        rounds = due.rounds
        if len(rounds) < 2:  # within a round the order is free
            return self._decide(state, rounds, due.sensor, due.interval_ms, due.settling, scores)
        order = np.concatenate(rounds)
        out = Decisions.unset(scores.shape)
        sensor, interval_ms, settling = due.sensor[order], due.interval_ms[order], due.settling[order]
        out.put(order, self._decide(state, rounds, sensor, interval_ms, settling, scores[order]))
        return out

    def _decide(
        self, state: State, rounds: Sequence[Ints], sensor: Ints, interval_ms: Floats, settling: Bools, scores: Floats
    ) -> Decisions:
        """`decide` on columns in which the windows of a round stand together, and numpy is quick to take them."""
        out = Decisions.empty(scores.shape)
        begin = 0
        for window in rounds:
            at = slice(begin, begin + len(window))
            for s in range(scores.shape[1]):
                judged = self.decide_step(state, sensor[at], scores[at, s], interval_ms[at], ~settling[at, s])
                out.put((at, s), judged)
            begin = at.stop
        return out


def severity(p_value: Floats, alpha: Floats) -> Ints:
    """Rank of an alert's severity by how much rarer than the budget its step is.

    p_value, alpha: any equal shape, as in `Decisions`. Returns 0 info (the budget alone is exceeded), 1 warning
    (at least 10 times rarer), 2 error (1,000 times), 3 critical (a million times: practically never by
    chance). NaN is 0. Far out, p-values are extrapolated: an order of magnitude, not a measurement.
    """
    with np.errstate(invalid="ignore"):
        times = np.log(alpha) - np.log(p_value)
        rank: Ints = np.sum([times >= math.log(limit) for limit in SEVERITY_TIMES], axis=0, dtype=np.int64)
    return rank


def alpha_of(budget: Budget, interval_ms: Floats) -> Floats:
    """The budget as a chance a step: interval_ms (n,) -> alpha (n,), between `TIGHTEST` and `LOOSEST`.

    An interval that is not a positive number counts as one second.
    """
    if budget.readings is not None:
        steps = np.full(len(interval_ms), budget.readings)
    else:
        known = np.isfinite(interval_ms) & (interval_ms > 0)
        steps = (budget.period_ms or 1.0) / np.where(known, interval_ms, 1000.0)
    alpha: Floats = np.clip(budget.alerts / steps, TIGHTEST, LOOSEST)
    return alpha
