"""Blocks and epochs: what a sensor's past says of its threshold.

Works on the few sensors whose block ends; knows normalised scores only.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds.calibration import BLOCK, KEPT, Calibration, generic
from stream_detector.records import Bools, Floats, Floats32, Ints

FIRST_EPOCH = 32
"""Blocks after which a sensor's past is asked first, with a fleet to lean on; then at each doubling, up to L."""
FIRST_ALONE = 64
"""The same without a fleet."""
LONGEST_EPISODE = 16
"""Blocks of an episode of which only the first is learned; when there are more, this is how things are now."""
LOWEST_LIMIT = 1.0
"""No threshold lies lower: within a MAD of the median nothing is anomalous, above all not a constant score."""
NEAR = 0.25
"""Relative distance within which a kept maximum is taken to be the score that feedback speaks of."""

FIELDS: Fields = [
    ("th_floor", "<f4"),  # no threshold below this: feedback
    ("th_top", "<f4", (KEPT,)),  # largest block maxima of this epoch, falling
    ("th_length", "<i4"),  # blocks of this epoch when it is asked next
    ("th_left", "<i4"),  # blocks still to come until then
    ("th_run", "<i4"),  # flagged blocks in a row
    ("th_own", "<u1"),  # the threshold comes from the sensor's own past
]


class Fleet:
    """What the fleet offers, see `Calibration`. `weight` 0: its tails are unknown and `curve` is assumed."""

    def __init__(self, calibration: Calibration | None) -> None:
        known = calibration or generic()
        self.curve = known.curve
        self.level, self.spread = known.median, known.mad
        self.block, self.cap = known.block, known.cap
        self.excess, self.weight = known.excess, known.weight
        self.memory = known.memory

    def threshold(self, alpha_b: Floats) -> Floats32:
        """Normalised score that a block's maximum exceeds with probability alpha_b (n,) in the fleet."""
        return self.curve.score(self.block - np.log(alpha_b))

    def highest(self, alpha_b: Floats) -> Floats32:
        """The cap on a sensor's threshold, so that a past full of anomalies cannot hide all that follow.

        What the fleet's noisy sensors have, but no less than twice its threshold, for sensors unlike the fleet.
        """
        noisy = self.curve.score(self.block - self.cap * np.log(alpha_b))
        return np.maximum(noisy, 2 * self.threshold(alpha_b))


def blocks_of_epoch(alpha: Floats) -> Ints:
    """L = ceil(K / alpha_b) - 1, with alpha_b = G alpha the budget as a chance a block. alpha: (n,)."""
    blocks: Ints = np.minimum(np.ceil(KEPT / (BLOCK * alpha)) - 1, 2**31 - 1).astype(np.int64)
    return blocks


def open_first(state: State, sensor: Ints, fleet: Fleet) -> None:
    """Begin the first epoch of these sensors, under the fleet's threshold or, without a fleet, under none."""
    if not len(sensor):
        return
    alpha = state["th_alpha"][sensor].astype(np.float64)
    first = FIRST_EPOCH if fleet.weight else FIRST_ALONE
    _open(state, sensor, np.minimum(first, blocks_of_epoch(alpha)))
    if fleet.weight:
        set_limit(state, sensor, np.maximum(fleet.threshold(BLOCK * alpha), state["th_floor"][sensor]), fleet)


def ask(state: State, sensor: Ints, fleet: Fleet) -> None:
    """Take the threshold that the epoch so far gives; go on with it up to L blocks, or begin another."""
    if not len(sensor):
        return
    alpha = state["th_alpha"][sensor].astype(np.float64)
    length = state["th_length"][sensor].astype(np.int64)
    top = state["th_top"][sensor]
    limit = np.maximum(_threshold(top, length, BLOCK * alpha, fleet), np.float32(LOWEST_LIMIT))
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
    _open(state, sensor[~short], full[~short])


def restart(state: State, sensor: Ints, fleet: Fleet) -> None:
    """Begin a short epoch at once, under the threshold at hand: what was learned before no longer holds."""
    length = state["th_length"][sensor].astype(np.int64)
    _open(state, sensor, np.minimum(length, FIRST_EPOCH if fleet.weight else FIRST_ALONE))


def _open(state: State, sensor: Ints, length: Ints) -> None:
    state["th_length"][sensor] = state["th_left"][sensor] = length
    state["th_top"][sensor] = -np.inf


def _threshold(top: Floats32, length: Ints, alpha_b: Floats, fleet: Fleet) -> Floats32:
    """Normalised score that a block exceeds with probability alpha_b, from an epoch's K largest maxima.

    top: (n, K) falling. length: (n,) blocks of the epoch. alpha_b: (n,). Where the epoch was long enough this is
    the K-th largest. Else the depth that is missing is added along the fleet's curve: depths above the K-th
    largest are exponential with mean b; given the sum S of the own K - 1 of them and a prior worth w of mean b0, a
    new one exceeds t with probability ((w b0 + S) / (w b0 + S + t))^(w + K - 1).
    """
    missing = np.maximum(KEPT / ((length + 1) * alpha_b), 1.0)
    y = fleet.curve.depth(top.ravel()).reshape(top.shape)
    beyond = (y[:, 0] - y[:, 3]) + (y[:, 1] - y[:, 3]) + (y[:, 2] - y[:, 3])
    weight = fleet.weight
    added = (weight * fleet.excess + beyond) * (missing ** (1 / (weight + KEPT - 1)) - 1)
    deep = y[:, -1] + added
    found = np.where(missing > 1, fleet.curve.score(deep), top[:, -1])
    return np.minimum(found, fleet.highest(alpha_b))


def set_limit(state: State, sensor: Ints, limit: Floats32, fleet: Fleet) -> None:
    """Use these normalised thresholds (n,), finite, and what follows from them."""
    depth = np.maximum(fleet.curve.depth(limit), 1e-6)
    state["th_limit"][sensor] = limit
    state["th_calm"][sensor] = np.minimum(fleet.curve.score(depth / 2), limit)
    state["th_rate"][sensor] = -np.log(state["th_alpha"][sensor].astype(np.float64)) / depth


def record(state: State, sensor: Ints) -> None:
    """Learn the maximum of the block that ends now; of an episode only the first block."""
    if not len(sensor):
        return
    peak, run = state["th_peak"][sensor], state["th_run"][sensor]
    flagged = peak > state["th_limit"][sensor]
    skipped = flagged & (state["th_began"][sensor] == 0) & (run < LONGEST_EPISODE)
    state["th_began"][sensor] = 0
    state["th_run"][sensor] = np.where(flagged, np.minimum(run + 1, LONGEST_EPISODE), 0)
    state["th_left"][sensor] -= ~skipped
    larger = np.flatnonzero(~skipped & (peak > state["th_top"][sensor, KEPT - 1]))
    if len(larger):
        rows = sensor[larger]
        ranked = np.sort(np.column_stack([state["th_top"][rows], peak[larger]]), axis=1)
        state["th_top"][rows] = ranked[:, :0:-1]


def same(kept: Floats32, r: Floats32) -> Bools:
    """Whether a kept maximum is near enough to be the score r, given that the trackers have moved since."""
    found: Bools = np.abs(kept - r) <= NEAR * np.abs(r)
    return found


def forget(state: State, sensor: Ints, r: Floats32) -> None:
    """Leave scores r (n,) out of the largest maxima; what then moves up is at most the K-th, so that one stays."""
    top = state["th_top"][sensor]
    distance = np.abs(top - r[:, None])
    nearest = np.argmin(distance, axis=1)
    hit = np.flatnonzero(same(top[np.arange(len(sensor)), nearest], r))
    for i in hit.tolist():
        rest = np.delete(top[i], nearest[i])
        state["th_top"][sensor[i]] = np.append(rest, rest[-1])
