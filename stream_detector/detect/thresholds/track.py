"""A sensor's own level and spread of log scores, followed step by step.

Robust stochastic approximation of median and MAD: only signs of deviations count, so a score of any size moves
them by a bounded step. Elementwise over sensors.
"""

from __future__ import annotations

import numpy as np

from stream_detector.records import Floats, Ints

MEMORY = 400
"""Steps that the median looks back, roughly (H), for scores that say something new at every step."""
SLOWER = 5
"""The MAD looks back so many times further: a fault that grows slowly must not widen what it is measured by."""
RATE = 1.25
"""Gain times memory; near the optimum of both trackers for bell-shaped log scores."""
FLATTEST = 1e-3
"""Smallest spread: scores that move by less than a thousandth count as constant."""
_TINY = float(np.finfo(np.float64).tiny)
_HUGE = float(np.finfo(np.float64).max)
LOWEST_LOG = float(np.log(_TINY))
"""What `log_score` makes of 0."""


def log_score(score: Floats) -> Floats:
    """X = ln s of scores s >= 0, any shape: finite for 0 and infinity, NaN stays NaN.

    The floor is the smallest normal float64, so that it is out of the way on every scale of scores.
    """
    x: Floats = np.clip(score, _TINY, _HUGE)
    return np.log(x, out=x if isinstance(x, np.ndarray) else None)


def follow(e: Floats, spread: Floats, seen: Ints, memory: int = MEMORY) -> tuple[Floats, Floats]:
    """How far median and MAD move at a step, and the new MAD.

    e: (n,) x - median before the step. spread: (n,) MAD. seen: (n,) steps before this one. memory: H. Returns the
    change of the median and the new MAD, all in units of x. The gain falls as 1 / seen down to 1.25 / H, so that the
    trackers find a new sensor's level quickly: up to H steps each weighs alike, as in a sample median.
    """
    quick, slow = RATE / memory, RATE / (SLOWER * memory)
    gain: Floats | float
    wide: Floats | float
    if len(seen) and int(seen.min()) + 2 >= SLOWER * memory:  # the usual case, told apart for its speed
        gain, wide = quick, slow
    else:
        past = seen + 2.0
        gain, wide = np.maximum(RATE / past, quick), np.maximum(RATE / past, slow)
    moved = np.sign(e)
    moved *= spread
    moved *= gain
    wider = np.abs(e)
    wider -= spread
    np.sign(wider, out=wider)
    wider *= spread
    wider *= wide
    wider += spread
    return moved, np.maximum(wider, FLATTEST, out=wider)
