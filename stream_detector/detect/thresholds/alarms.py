"""The hard cap on alerts: a token bucket a sensor, and what counts as one episode.

Knows only which steps exceed the threshold. Works on the few sensors that do.

The bucket holds 3 alerts and fills at 3 times the budget. It is kept as one number, the time at which it will be
full again (the generic cell rate algorithm), so that nothing needs to be done while nothing happens.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds.decisions import Decisions
from stream_detector.records import Bools, Floats, Ints

CAPACITY = 3.0
"""Alerts that may come at once."""
REFILL = 3.0
"""Alerts that may come in the long run, as a multiple of the budget."""
EPISODE_GAP = 10
"""Exceedances at most so many steps apart are one episode, and cost one token."""

FIELDS: Fields = [
    ("th_flagged", "<i8"),  # clock of the last step above the threshold
    ("th_full", "<f8"),  # clock at which the bucket is full
    ("th_silent", "<u1"),  # the episode found the bucket empty: no alert for now
    ("th_began", "<u1"),  # an episode began in the block at hand
    ("th_regime", "<u1"),  # an overflow was told, and the bucket has not been full since
]


def ration(state: State, sensor: Ints, out: Decisions) -> None:
    """Silence alerts beyond the cap in `out`, in place, and mark the step at which they overflow.

    sensor: (n,) as in `out`; `out.anomalous` marks the steps above the threshold.
    """
    at = np.flatnonzero(out.anomalous)
    rows = sensor[at]
    now = state["th_clock"][rows]
    begins = (now - state["th_flagged"][rows] > EPISODE_GAP) | (state["th_flagged"][rows] == 0)
    state["th_flagged"][rows] = now
    state["th_began"][rows[begins]] = 1
    # A silenced episode asks again, so that what lasts is told as soon as there is a token for it.
    asks = begins | (state["th_silent"][rows] == 1)
    if asks.any():
        out.regime_change[at[asks]] = _take_tokens(state, rows[asks], now[asks].astype(np.float64))
    out.anomalous[at] = state["th_silent"][rows] == 0


def _take_tokens(state: State, sensor: Ints, now: Floats) -> Bools:
    """Take a token for each of these episodes; where there is none, silence it. True: an overflow to be told."""
    wait = 1 / (REFILL * state["th_alpha"][sensor].astype(np.float64))
    full = state["th_full"][sensor]
    state["th_regime"][sensor[full <= now]] = 0
    full = np.maximum(full, now) + wait
    empty = full - now > CAPACITY * wait * (1 + 1e-9)
    state["th_full"][sensor] = np.where(empty, full - wait, full)
    state["th_silent"][sensor] = empty
    told: Bools = empty & (state["th_regime"][sensor] == 0)
    state["th_regime"][sensor[told]] = 1
    return told
