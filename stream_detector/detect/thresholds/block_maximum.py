"""The default: a conformal threshold on block maxima that keeps a budget of false alerts.

A sensor's log scores are normalised by its running median and MAD. Its threshold is the K-th largest maximum of blocks
of G steps in the epoch before: if the blocks are exchangeable, the next one exceeds it with probability K / (L + 1),
and the epoch's length L is such that this is the budget. Blocks whose scores look at the same readings exceed it
together, which is one alert: of their maxima the largest counts. Thresholds of several epochs are averaged, so that
they scatter less and single anomalies hardly raise them. The first epoch is asked early and again whenever it has
doubled; what it has not seen yet is added along the fleet's depth curve. Until it is asked first, the fleet's threshold
is used. Without a fleet the sensor stays silent until then, and the missing depth is added with the margin that its few
maxima demand.

What limits it: a score that is bounded just above its usual range (a uniform one) has its threshold closer to the
bound than the running median is certain. It then exceeds in groups, whenever the median is a little low: as often as
the budget says, but what the hard cap leaves of the groups are fewer alerts.

Everything is elementwise over sensors: no result depends on who else is in the call. What happens seldom (the end
of a block, an exceedance) is done on the few sensors that it happens to.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds import alarms, epochs, swap
from stream_detector.detect.thresholds.calibration import BLOCK, WARM_UP, Calibration
from stream_detector.detect.thresholds.decisions import SMALLEST_P, Decisions, Thresholds, alpha_of
from stream_detector.detect.thresholds.limits import Fleet
from stream_detector.detect.thresholds.track import FLATTEST, LOWEST_LOG, SLOWER, follow, log_score
from stream_detector.records import Bools, Floats, Floats32, Ints
from stream_detector.settings import Budget

Rows: TypeAlias = slice | Ints

CHUNK = 16384
"""Sensors judged at a time: their rows then stay in the processor's cache from the first field to the last."""
UNSETTLED = WARM_UP // 2
"""Steps that a level counts for, at most after a regime change and at least after a swap of weights."""
LARGEST_LOG = 709.7
"""exp of this is still finite."""

FIELDS: Fields = [  # those that every step reads come first, and share cache lines
    ("th_center", "<f8"),  # running median of ln score
    ("th_spread", "<f8"),  # running MAD
    ("th_clock", "<i8"),  # steps learned; 0 is a sensor without a level
    ("th_age", "<i4"),  # steps that level and spread rest on, up to what their gains depend on
    ("th_peak", "<f4"),  # maximum of the block so far
    ("th_limit", "<f4"),  # the threshold, normalised; inf is none yet
    ("th_calm", "<f4"),  # the lower level, normalised
    ("th_rate", "<f4"),  # -ln p of a unit of depth, so that p = alpha at the threshold
    ("th_alpha", "<f4"),  # the budget as a chance a step; 0 is a row that was never judged
    ("th_own", "<u1"),  # the threshold comes from the sensor's own past
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
        for name in ("th_peak", "th_top", "th_gone", "th_mine"):
            state[name][sensor] = -np.inf
        if median is not None and mad is not None:
            known = np.flatnonzero(np.isfinite(median) & np.isfinite(mad))
            state["th_center"][sensor[known]] = median[known]
            state["th_spread"][sensor[known]] = np.maximum(mad[known], FLATTEST)
            state["th_clock"][sensor[known]] = state["th_age"][sensor[known]] = WARM_UP

    def decide_step(
        self, state: State, sensor: Ints, score: Floats, interval_ms: Floats, countable: Bools
    ) -> Decisions:
        """See `Thresholds.decide_step`."""
        n, missing = len(sensor), np.isnan(score)
        if missing.any():
            out = Decisions.empty((n,))
            given = np.flatnonzero(~missing)
            if len(given):
                parts = sensor[given], score[given], interval_ms[given], countable[given]
                out.put(given, self.decide_step(state, *parts))
            return out
        out = Decisions.unset((n,))
        # Rows in a row are taken as slices, which copy faster than indices do.
        ordered = n > 0 and sensor[-1] - sensor[0] == n - 1 and bool((sensor[1:] > sensor[:-1]).all())
        for begin in range(0, n, CHUNK):
            at = slice(begin, min(begin + CHUNK, n))
            first = int(sensor[begin])
            rows = slice(first, first + at.stop - begin) if ordered else sensor[at]
            self._judge(state, rows, sensor[at], score[at], interval_ms[at], countable[at], out.part(at))
        return out

    def _judge(
        self,
        state: State,
        rows: Rows,
        sensor: Ints,
        score: Floats,
        interval_ms: Floats,
        countable: Bools,
        out: Decisions,
    ) -> None:
        """`decide_step` where all scores are numbers, into `out`. rows: the same as `sensor`."""
        x = log_score(score)
        alpha = _column(state, "th_alpha", rows)
        new = np.flatnonzero(alpha == 0)
        if len(new):
            self._begin(state, sensor[new], x[new], interval_ms[new])
            alpha = _column(state, "th_alpha", rows)
        center, spread = _column(state, "th_center", rows), _column(state, "th_spread", rows)
        limit = _column(state, "th_limit", rows)
        e = np.subtract(x, center, out=x)
        r = np.divide(e, spread, out=out.p_value).astype(np.float32)  # in one precision throughout: ties stay ties
        surprise = self.fleet.curve.depth(r)
        surprise *= -_column(state, "th_rate", rows)
        np.exp(surprise, out=out.p_value)
        np.maximum(out.p_value, SMALLEST_P, out=out.p_value)
        threshold = np.multiply(spread, limit, out=out.threshold)
        threshold += center
        np.exp(np.minimum(threshold, LARGEST_LOG, out=threshold), out=threshold)
        none = np.isinf(limit)
        if none.any():
            threshold[none] = np.inf
        np.logical_and(r > limit, countable, out=out.anomalous)
        np.less(r, _column(state, "th_calm", rows), out=out.calm)
        out.alpha[:] = alpha
        out.scope[:] = state["th_own"][rows]
        out.regime_change[:] = False
        if out.anomalous.any():
            alarms.ration(state, sensor, out)
            if out.regime_change.any():
                self._unsettle(state, sensor[out.regime_change])
        if countable.all():
            self._learn(state, rows, sensor, e, r, spread, center, interval_ms)
        else:
            c = np.flatnonzero(countable)
            self._learn(state, sensor[c], sensor[c], e[c], r[c], spread[c], center[c], interval_ms[c])

    def _unsettle(self, state: State, sensor: Ints) -> None:
        """After a regime change the level is sought quickly again, and a short epoch begins."""
        epochs.restart(state, sensor, self.fleet)
        state["th_age"][sensor] = np.minimum(state["th_age"][sensor], UNSETTLED)

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
        rows: Rows,
        sensor: Ints,
        e: Floats,
        r: Floats32,
        spread: Floats,
        center: Floats,
        interval_ms: Floats,
    ) -> None:
        """Move the trackers, and end the blocks that are full."""
        age = _column(state, "th_age", rows)
        moved, spread = follow(e, spread, age, self.fleet.memory)
        oldest = SLOWER * self.fleet.memory
        if (age < oldest).any():
            state["th_age"][rows] = np.minimum(age + 1, oldest)
        center += moved
        state["th_center"][rows] = center
        state["th_spread"][rows] = spread
        clock = _column(state, "th_clock", rows)
        clock += 1
        state["th_clock"][rows] = clock
        state["th_peak"][rows] = np.maximum(_column(state, "th_peak", rows), r)
        full = np.flatnonzero((clock & (BLOCK - 1)) == 0)  # BLOCK is a power of 2
        if len(full):
            self._end_blocks(state, sensor[full], interval_ms[full])

    def _end_blocks(self, state: State, sensor: Ints, interval_ms: Floats) -> None:
        clock = state["th_clock"][sensor]
        epochs.record(state, sensor[clock > WARM_UP], self.fleet)
        over = (clock == WARM_UP) | ((clock > WARM_UP) & (state["th_left"][sensor] <= 0))
        if over.any():
            ending = sensor[over]
            state["th_alpha"][ending] = alpha_of(self.budget, interval_ms[over])
            first = clock[over] == WARM_UP
            epochs.open_first(state, ending[first], self.fleet)
            epochs.ask(state, ending[~first], self.fleet)
        state["th_peak"][sensor] = -np.inf

    def reseat(self, state: State, sensor: Ints, old: Floats, new: Floats) -> None:
        """See `Thresholds.reseat`; epochs and budgets go on as they are, in normalised scores.

        A sensor that still has the fleet's threshold gets that of this fleet. The more the new scores scatter about a
        linear map of the old ones (in logarithms), the higher own thresholds get, and the quicker the level is sought.
        """
        move = swap.measure(old, new)
        known = np.flatnonzero(move.known)
        rows = sensor[known]
        state["th_center"][rows] = move.apply_at(known, state["th_center"][rows])
        state["th_spread"][rows] = np.maximum(state["th_spread"][rows] * move.ratio[known], FLATTEST)
        certain = np.maximum(move.steps[known], UNSETTLED)
        state["th_age"][rows] = np.minimum(state["th_age"][rows], certain)
        epochs.refer(state, rows, move.scatter[known], self.fleet)
        self.start(state, sensor[~move.known])

    def renew(self, state: State, sensor: Ints, median: Floats, mad: Floats) -> None:
        """See `Thresholds.renew`: under the fleet's threshold again, where there is a fleet."""
        judged = (state["th_alpha"][sensor] > 0) & (state["th_clock"][sensor] >= WARM_UP)
        self.start(state, sensor[~judged], median[~judged], mad[~judged])
        rows = sensor[judged]
        if not self.fleet.weight or not len(rows):
            return
        state["th_center"][rows] = median[judged]
        state["th_spread"][rows] = np.maximum(mad[judged], FLATTEST)
        state["th_age"][rows] = WARM_UP
        state["th_peak"][rows] = -np.inf
        state["th_own"][rows] = state["th_run"][rows] = 0
        epochs.open_first(state, rows, self.fleet)

    def mark_false_positive(self, state: State, sensor: Ints, score: Floats) -> None:
        """See `Thresholds`; the raised threshold comes down again by half with every epoch."""
        r = self._normalise(state, sensor, score)
        higher = r > state["th_limit"][sensor]
        rows = sensor[higher]
        state["th_floor"][rows] = r[higher]
        epochs.set_limit(state, rows, r[higher], self.fleet)

    def mark_confirmed(self, state: State, sensor: Ints, score: Floats) -> None:
        """See `Thresholds`; the kept maximum nearest to the score goes, if one is near enough to be it."""
        epochs.forget(state, sensor, self._normalise(state, sensor, score))

    @staticmethod
    def _normalise(state: State, sensor: Ints, score: Floats) -> Floats32:
        r: Floats = (log_score(score) - state["th_center"][sensor]) / state["th_spread"][sensor]
        return r.astype(np.float32)


def _column(state: State, name: str, rows: Rows) -> npt.NDArray[Any]:
    """A copy of a field: contiguous, so that numpy is quick and rounds alike whatever the rows."""
    found: npt.NDArray[Any] = state[name][rows]
    return found.copy() if isinstance(rows, slice) else found
