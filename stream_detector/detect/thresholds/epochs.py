"""Blocks and epochs: what a sensor's past says of its threshold.

Works on the few sensors whose block ends; knows normalised scores only.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds import limits
from stream_detector.detect.thresholds.calibration import BLOCK, KEPT, WARM_UP
from stream_detector.detect.thresholds.limits import Fleet
from stream_detector.records import Bools, Floats, Floats32, Ints

FIRST_EPOCH = 32
"""Blocks after which a sensor's past is asked first, with a fleet to lean on; then at each doubling, up to L."""
FIRST_ALONE = 64
"""The same without a fleet."""
LONGEST_EPISODE = 16
"""Blocks of an episode of which only the first is learned; when there are more, this is how things are now."""
LOWEST_LIMIT = 1.0
"""No threshold lies lower: within a MAD of the median nothing is anomalous, above all not a constant score."""
RESTARTED = 1.0
"""Block maxima that the past counts for after a regime change."""
BELL = 1.4826
"""Standard deviation of a bell-shaped distribution, in MADs."""
SMALLEST_UNIT = 1e-3
"""Normalised score of a unit of depth, at least."""
NEAR = 0.25
"""Relative distance within which a kept maximum is taken to be the score that feedback speaks of."""

MOST_OVER = np.iinfo(np.uint16).max

FIELDS: Fields = [
    ("th_floor", "<f4"),  # no threshold below this: feedback
    ("th_top", "<f4", (KEPT,)),  # largest block maxima of this epoch, falling
    ("th_length", "<i4"),  # blocks of this epoch when it is asked next
    ("th_left", "<i4"),  # blocks still to come until then
    ("th_over", "<u2"),  # clusters of this epoch above the threshold; so many at most
    ("th_run", "<u1"),  # flagged blocks in a row
    ("th_base", "<f4"),  # mean of the thresholds of the epochs before, normalised and without margin
    ("th_trust", "<f4"),  # block maxima that it is worth
    ("th_gone", "<f4", (KEPT,)),  # block maxima of this epoch that were confirmed to be anomalies
    ("th_mine", "<f4"),  # the maximum of the cluster at hand
    ("th_since", "<u1"),  # blocks since then, up to the gap
]


def blocks_of_epoch(alpha: Floats) -> Ints:
    """L = ceil(K / alpha_b) - 1, with alpha_b = G alpha the budget as a chance a block. alpha: (n,)."""
    blocks: Ints = np.minimum(np.ceil(KEPT / (BLOCK * alpha)) - 1, 2**31 - 1).astype(np.int64)
    return blocks


def open_first(state: State, sensor: Ints, fleet: Fleet) -> None:
    """Begin the first epoch of these sensors, under the fleet's threshold or, without a fleet, under none."""
    if not len(sensor):
        return
    alpha = state["th_alpha"][sensor].astype(np.float64)
    _open(state, sensor, np.minimum(_shortest(fleet), blocks_of_epoch(alpha)))
    use_fleet(state, sensor, fleet)


def use_fleet(state: State, sensor: Ints, fleet: Fleet) -> None:
    """Put these sensors under the fleet's threshold, if there is a fleet."""
    if not fleet.weight:
        return
    base = fleet.threshold(BLOCK * state["th_alpha"][sensor].astype(np.float64))
    state["th_base"][sensor] = base
    state["th_trust"][sensor] = min(fleet.weight, limits.FLEET_TRUST)
    set_limit(state, sensor, np.maximum(base, state["th_floor"][sensor]), fleet)


def ask(state: State, sensor: Ints, fleet: Fleet) -> None:
    """Take the threshold that the epoch so far gives; go on with it up to L blocks, or begin another."""
    if not len(sensor):
        return
    alpha = state["th_alpha"][sensor].astype(np.float64)
    length = state["th_length"][sensor].astype(np.int64)
    found, unit = limits.from_maxima(state["th_top"][sensor], length, BLOCK * alpha, fleet)
    base, trust, over = (state[name][sensor] for name in ("th_base", "th_trust", "th_over"))
    limit, base, trust = limits.blend(found, unit, base, trust, over, length, BLOCK * alpha, fleet)
    limit = np.maximum(limit, np.float32(LOWEST_LIMIT))
    # A threshold that feedback raised comes down by half, not at once.
    floor = state["th_floor"][sensor]
    floor = np.where(floor > limit, (limit + floor) / 2, np.float32(LOWEST_LIMIT))
    state["th_floor"][sensor] = floor
    state["th_own"][sensor] = 1
    set_limit(state, sensor, np.maximum(limit, floor), fleet)
    full = blocks_of_epoch(alpha)
    short = length < full
    longer = np.minimum(2 * length, full)[short]
    state["th_left"][sensor[short]] = longer - length[short]
    state["th_length"][sensor[short]] = longer
    done = sensor[~short]
    state["th_base"][done] = base[~short]
    state["th_trust"][done] = np.minimum(trust[~short], limits.MOST_TRUST)
    _open(state, done, full[~short])


def restart(state: State, sensor: Ints, fleet: Fleet) -> None:
    """Begin a short epoch at once, under the threshold at hand: what was learned before hardly holds any more."""
    length = state["th_length"][sensor].astype(np.int64)
    _open(state, sensor, np.minimum(length, _shortest(fleet)))
    state["th_trust"][sensor] = np.minimum(state["th_trust"][sensor], RESTARTED)


def _shortest(fleet: Fleet) -> int:
    return FIRST_EPOCH if fleet.weight else FIRST_ALONE


def _open(state: State, sensor: Ints, length: Ints) -> None:
    state["th_length"][sensor] = state["th_left"][sensor] = length
    state["th_top"][sensor] = state["th_gone"][sensor] = state["th_mine"][sensor] = -np.inf
    state["th_over"][sensor] = 0


def refer(state: State, sensor: Ints, scatter: Floats, fleet: Fleet) -> None:
    """Go on under another fleet, measured with other weights: borrowed thresholds are its, own ones stay.

    scatter: (n,) MAD of new scores about what the old ones let expect, in MADs of the new ones. Bell-shaped scatter s
    on an exponential tail whose unit of depth is u lifts its quantiles by s^2 / 2u; own thresholds lie so much above
    their base, by 3 u at most, until their past is asked next. The base stays: were it lifted too, thresholds of
    sensors whose weights are refreshed every few hours would rise and rise. Both are held to what this fleet allows: a
    change that the old weights did not know has raised them, and would hide what comes after it.
    """
    judged = (state["th_alpha"][sensor] > 0) & (state["th_clock"][sensor] >= WARM_UP)
    borrowed = judged & (state["th_own"][sensor] == 0)
    use_fleet(state, sensor[borrowed], fleet)
    kept = judged & ~borrowed & np.isfinite(state["th_limit"][sensor])
    own, limit = sensor[kept], state["th_limit"][sensor[kept]]
    depth = fleet.curve.depth(limit)
    unit = np.maximum(fleet.curve.score(depth + 0.5) - fleet.curve.score(depth - 0.5), SMALLEST_UNIT)
    lift = np.minimum((BELL * np.minimum(scatter[kept], 1)) ** 2 / (2 * unit), 3 * unit).astype(np.float32)
    highest = fleet.highest(BLOCK * state["th_alpha"][own].astype(np.float64))
    base = state["th_base"][own] = np.minimum(state["th_base"][own], highest)
    limit = np.maximum(np.minimum(limit, highest), base + lift)
    set_limit(state, own, np.maximum(limit, state["th_floor"][own]), fleet)


def set_limit(state: State, sensor: Ints, limit: Floats32, fleet: Fleet) -> None:
    """Use these normalised thresholds (n,), finite, and what follows from them."""
    depth = np.maximum(fleet.curve.depth(limit), 1e-6)
    state["th_limit"][sensor] = limit
    state["th_calm"][sensor] = np.minimum(fleet.curve.score(depth / 2), limit)
    state["th_rate"][sensor] = -np.log(state["th_alpha"][sensor].astype(np.float64)) / depth


def record(state: State, sensor: Ints, fleet: Fleet) -> None:
    """Learn the maximum of the block that ends now; of an episode only the first block.

    Of maxima less than `Fleet.apart` blocks apart the largest stands for all: extremes of scores that look at the same
    readings come in clusters, and an alert is one cluster ("declustering"; Coles 2001, An Introduction to Statistical
    Modeling of Extreme Values, section 5.3.2). Counted block by block, one bad hour would fill all K places.
    """
    if not len(sensor):
        return
    peak, run = state["th_peak"][sensor], state["th_run"][sensor]
    flagged = peak > state["th_limit"][sensor]
    skipped = flagged & (state["th_began"][sensor] == 0) & (run < LONGEST_EPISODE)
    state["th_began"][sensor] = 0
    state["th_run"][sensor] = np.where(flagged, np.minimum(run + 1, LONGEST_EPISODE), 0)
    state["th_left"][sensor] -= ~skipped
    mine, since = state["th_mine"][sensor], state["th_since"][sensor].astype(np.int64) + 1
    live = (since < fleet.apart(state["th_length"][sensor])) & (mine > -np.inf)
    counts = flagged & ~skipped & ~(live & (mine > state["th_limit"][sensor]))
    state["th_over"][sensor] += counts & (state["th_over"][sensor] < MOST_OVER)
    state["th_since"][sensor] = np.minimum(since, fleet.gap)
    larger = np.flatnonzero(~skipped & np.where(live, peak > mine, True))
    if len(larger):
        rows = sensor[larger]
        state["th_mine"][rows], state["th_since"][rows] = peak[larger], 0
        among = np.flatnonzero(peak[larger] > state["th_top"][rows, KEPT - 1])
        _keep(state, rows[among], peak[larger[among]], np.where(live, mine, np.float32(np.nan))[larger[among]])


def _keep(state: State, rows: Ints, peak: Floats32, instead: Floats32) -> None:
    """Put maxima (n,) among the K largest, if they are; in the place of others of the same cluster, NaN for none."""
    top = state["th_top"][rows]
    kept = top == instead[:, None]
    first = np.flatnonzero(kept.any(axis=1))
    top[first, kept[first].argmax(axis=1)] = -np.inf
    ranked = np.sort(np.column_stack([top, peak]), axis=1)
    state["th_top"][rows] = ranked[:, :0:-1]


def same(kept: Floats32, r: Floats32) -> Bools:
    """Whether a kept maximum is near enough to be the score r, given that the trackers have moved since."""
    found: Bools = np.abs(kept - r) <= NEAR * np.abs(r)
    return found


def forget(state: State, sensor: Ints, r: Floats32) -> None:
    """Leave scores r (n,) out of the maxima; said twice of a score, it is left out once.

    The maximum nearest to r goes, of the block at hand or of the K largest, if one is near enough to be it. What then
    moves up among these is at most the K-th, so that one stays.
    """
    gone, peak, top = (state["th_gone"][sensor], state["th_peak"][sensor], state["th_top"][sensor])
    kept = np.column_stack([gone, peak, top])
    nearest = np.argmin(np.abs(kept - r[:, None]), axis=1)  # of equals those that are gone already
    hit = np.flatnonzero(same(kept[np.arange(len(sensor)), nearest], r) & (nearest >= KEPT))
    for i in hit.tolist():
        place = int(nearest[i]) - KEPT - 1
        if place < 0:
            state["th_peak"][sensor[i]] = -np.inf
        else:
            rest = np.delete(top[i], place)
            state["th_top"][sensor[i]] = np.append(rest, rest[-1])
            state["th_over"][sensor[i]] = max(int(state["th_over"][sensor[i]]) - 1, 0)
        gone[i, np.argmin(gone[i])] = kept[i, nearest[i]]
        state["th_gone"][sensor[i]] = gone[i]
