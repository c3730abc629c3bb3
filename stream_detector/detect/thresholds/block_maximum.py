"""The default: a conformal threshold on block maxima that keeps a budget of false alerts.

A sensor's log scores are normalised by its running median and MAD. Its threshold is the K-th largest maximum of
blocks of G steps in the epoch before: if the blocks are exchangeable, the next one exceeds it with probability
K / (L + 1), and the epoch's length L is such that this is the budget. The first epoch is asked early and again
whenever it has doubled; what it has not seen yet is added along the fleet's depth curve. Until it is asked first,
the fleet's threshold is used. Without a fleet the sensor stays silent until then, and the missing depth is added
with the margin that its few maxima demand.

Everything is elementwise over sensors: no result depends on who else is in the call. What happens seldom (the end
of a block, an exceedance) is done on the few sensors that it happens to.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds import alarms, epochs
from stream_detector.detect.thresholds.calibration import BLOCK, WARM_UP, Calibration
from stream_detector.detect.thresholds.decisions import SMALLEST_P, Decisions, Thresholds, alpha_of
from stream_detector.detect.thresholds.epochs import Fleet
from stream_detector.detect.thresholds.track import FLATTEST, LOWEST_LOG, SLOWER, follow, log_score
from stream_detector.records import Bools, Floats, Floats32, Ints
from stream_detector.settings import Budget

CHUNK = 16384
"""Sensors judged at a time: their rows then stay in the processor's cache from the first field to the last."""
RESEATED = WARM_UP // 2
"""Steps that a level counts for which was found by scoring the windows at hand anew."""
LARGEST_LOG = 709.7
"""exp of this is still finite."""

FIELDS: Fields = [
    ("th_center", "<f8"),  # running median of ln score
    ("th_spread", "<f8"),  # running MAD
    ("th_clock", "<i8"),  # steps learned; 0 is a sensor without a level
    ("th_age", "<i4"),  # steps that level and spread rest on, up to what their gains depend on
    ("th_peak", "<f4"),  # maximum of the block so far
    ("th_limit", "<f4"),  # the threshold, normalised; inf is none yet
    ("th_calm", "<f4"),  # the lower level, normalised
    ("th_rate", "<f4"),  # -ln p of a unit of depth, so that p = alpha at the threshold
    ("th_alpha", "<f4"),  # the budget as a chance a step; 0 is a row that was never judged
    *epochs.FIELDS,
    *alarms.FIELDS,
]


class BlockMaximum(Thresholds):
    """See the module's docstring; `calibration` None is a fleet that nothing is known of."""

    def __init__(self, budget: Budget, calibration: Calibration | None = None) -> None:
        self.budget = budget
        self.fleet = Fleet(calibration)

    def start(self, state: State, sensor: Ints, median: Floats | None = None, mad: Floats | None = None) -> None:
        """See `Thresholds.start`; a sensor with median and MAD is judged from its first step."""
        for name, *_ in FIELDS:
            state[name][sensor] = 0
        state["th_limit"][sensor] = np.inf
        state["th_calm"][sensor] = np.inf
        state["th_rate"][sensor] = 1
        state["th_floor"][sensor] = epochs.LOWEST_LIMIT
        state["th_spread"][sensor] = self.fleet.spread
        state["th_peak"][sensor] = state["th_top"][sensor] = -np.inf
        if median is not None and mad is not None:
            known = np.flatnonzero(np.isfinite(median) & np.isfinite(mad))
            state["th_center"][sensor[known]] = median[known]
            state["th_spread"][sensor[known]] = np.maximum(mad[known], FLATTEST)
            state["th_clock"][sensor[known]] = state["th_age"][sensor[known]] = WARM_UP

    def decide_step(
        self, state: State, sensor: Ints, score: Floats, interval_ms: Floats, countable: Bools
    ) -> Decisions:
        """See `Thresholds.decide_step`."""
        given = np.flatnonzero(~np.isnan(score))
        if len(given) == len(sensor) <= CHUNK:
            return self._judge(state, sensor, score, interval_ms, countable)
        out = Decisions.empty((len(sensor),))
        for start in range(0, len(given), CHUNK):
            # A slice where it can be one: numpy fills it faster.
            at = slice(start, start + CHUNK) if len(given) == len(sensor) else given[start : start + CHUNK]
            out.put(at, self._judge(state, sensor[at], score[at], interval_ms[at], countable[at]))
        return out

    def _judge(self, state: State, sensor: Ints, score: Floats, interval_ms: Floats, countable: Bools) -> Decisions:
        """`decide_step` where all scores are numbers."""
        x = log_score(score)
        alpha = state["th_alpha"][sensor]
        new = np.flatnonzero(alpha == 0)
        if len(new):
            self._begin(state, sensor[new], x[new], interval_ms[new])
            alpha = state["th_alpha"][sensor]
        center, spread, limit = state["th_center"][sensor], state["th_spread"][sensor], state["th_limit"][sensor]
        e = x - center
        r = (e / spread).astype(np.float32)  # compared, kept and ranked in one precision: ties stay ties
        surprise = self.fleet.curve.depth(r) * state["th_rate"][sensor]
        out = Decisions(
            p_value=np.maximum(np.exp(-surprise), SMALLEST_P),
            threshold=np.exp(np.minimum(center + spread * limit, LARGEST_LOG)),
            anomalous=(r > limit) & countable,
            calm=r < state["th_calm"][sensor],
            alpha=alpha.astype(np.float64),
            scope=state["th_own"][sensor],
            regime_change=np.zeros(len(sensor), np.bool_),
        )
        out.threshold[np.isinf(limit)] = np.inf
        if out.anomalous.any():
            alarms.ration(state, sensor, out)
            if out.regime_change.any():
                epochs.restart(state, sensor[out.regime_change], self.fleet)
        if countable.all():
            self._learn(state, sensor, e, r, spread, center, interval_ms)
        else:
            c = np.flatnonzero(countable)
            self._learn(state, sensor[c], e[c], r[c], spread[c], center[c], interval_ms[c])
        return out

    def _begin(self, state: State, sensor: Ints, x: Floats, interval_ms: Floats) -> None:
        """First step of these sensors: take the score as the level of those that have none, fix the budget."""
        blank = sensor[state["th_spread"][sensor] == 0]  # a row that `start` has not seen, say from an old layout
        if len(blank):
            self.start(state, blank)
        self._find_level(state, sensor, x)
        state["th_alpha"][sensor] = alpha_of(self.budget, interval_ms)
        known = state["th_clock"][sensor] >= WARM_UP
        epochs.open_first(state, sensor[known], self.fleet)

    def _find_level(self, state: State, sensor: Ints, x: Floats) -> None:
        """Start from the first score; from the fleet's level where that is 0, which says nothing of its scale."""
        fresh = state["th_clock"][sensor] == 0
        state["th_center"][sensor[fresh]] = np.where(x > LOWEST_LOG, x, self.fleet.level)[fresh]

    def _learn(
        self,
        state: State,
        sensor: Ints,
        e: Floats,
        r: Floats32,
        spread: Floats,
        center: Floats,
        interval_ms: Floats,
    ) -> None:
        """Move the trackers, and end the blocks that are full."""
        clock = state["th_clock"][sensor]
        age = state["th_age"][sensor]
        moved, spread = follow(e, spread, age, self.fleet.memory)
        state["th_age"][sensor] = np.minimum(age + 1, SLOWER * self.fleet.memory)
        state["th_center"][sensor] = center + moved
        state["th_spread"][sensor] = spread
        state["th_clock"][sensor] = clock = clock + 1
        state["th_peak"][sensor] = np.maximum(state["th_peak"][sensor], r)
        full = np.flatnonzero(clock % BLOCK == 0)
        if len(full):
            self._end_blocks(state, sensor[full], interval_ms[full])

    def _end_blocks(self, state: State, sensor: Ints, interval_ms: Floats) -> None:
        clock = state["th_clock"][sensor]
        epochs.record(state, sensor[clock > WARM_UP])
        over = (clock == WARM_UP) | ((clock > WARM_UP) & (state["th_left"][sensor] <= 0))
        if over.any():
            ending = sensor[over]
            state["th_alpha"][ending] = alpha_of(self.budget, interval_ms[over])
            first = clock[over] == WARM_UP
            epochs.open_first(state, ending[first], self.fleet)
            epochs.ask(state, ending[~first], self.fleet)
        state["th_peak"][sensor] = -np.inf

    def reseat(self, state: State, sensor: Ints, x_median: Floats, x_mad: Floats) -> None:
        """See `Thresholds.reseat`; thresholds, epochs and budgets go on as they are.

        The MAD of a hundred windows scatters by an eighth, more if they depend on each other, and one that is too
        small means false alerts: half of what it falls short of the old one is not believed.
        """
        known = np.isfinite(x_median) & np.isfinite(x_mad)
        rows, mad = sensor[known], np.maximum(x_mad[known], FLATTEST)
        state["th_center"][rows] = x_median[known]
        state["th_spread"][rows] = np.maximum(mad, np.sqrt(mad * state["th_spread"][rows]))
        # Level and spread rest on few windows now: let the next steps weigh accordingly.
        state["th_age"][rows] = np.minimum(state["th_age"][rows], RESEATED)
        self.start(state, sensor[~known])

    def mark_false_positive(self, state: State, sensor: Ints, score: Floats) -> None:
        """See `Thresholds`; the raised threshold comes down again by half with every epoch."""
        r = self._normalise(state, sensor, score)
        higher = r > state["th_limit"][sensor]
        rows = sensor[higher]
        state["th_floor"][rows] = r[higher]
        epochs.set_limit(state, rows, r[higher], self.fleet)

    def mark_confirmed(self, state: State, sensor: Ints, score: Floats) -> None:
        """See `Thresholds`; the kept maximum nearest to the score goes, if one is near enough to be it."""
        r = self._normalise(state, sensor, score)
        peak = state["th_peak"][sensor]
        state["th_peak"][sensor] = np.where(epochs.same(peak, r), -np.inf, peak)
        epochs.forget(state, sensor, r)

    @staticmethod
    def _normalise(state: State, sensor: Ints, score: Floats) -> Floats32:
        r: Floats = (log_score(score) - state["th_center"][sensor]) / state["th_spread"][sensor]
        return r.astype(np.float32)
