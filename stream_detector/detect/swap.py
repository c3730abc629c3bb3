"""Other weights for sensors that are being watched: their thresholds move to the new scores' scale.

Scores of two models are not on one scale. The windows at hand are scored with both; how the new scores lie to the
old, on the very same readings, is how the level and spread of each sensor's threshold move.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.buffers import Buffers
from stream_detector.detect.scoring import Scorer
from stream_detector.detect.state import SensorTable
from stream_detector.detect.thresholds import Thresholds, log_score
from stream_detector.records import Floats

SHARE = 4
"""One step in so many of the window at hand is scored: the freshest, which see three quarters of a window behind."""
CHUNK = 1024
"""Windows at a time, so that a large fleet needs no second copy of itself."""


def reseat(table: SensorTable, buffers: Buffers, thresholds: Thresholds, old: Scorer, new: Scorer) -> None:
    """Score the windows at hand with the old and the new weights, and move thresholds and peaks accordingly.

    thresholds: as built for the new weights. Sensors without a full window find their level anew.
    """
    state, steps = table.state, max(1, buffers.window // SHARE)
    full = np.flatnonzero(state["fill"] == buffers.window)
    for start in range(0, len(full), CHUNK):
        rows = full[start : start + CHUNK]
        due = buffers.at_hand(rows, steps)
        before, after = (scorer.score(due).score for scorer in (old, new))
        thresholds.reseat(state, rows, before, after)
        state["in_peak"][rows] *= _factor(before, after)
    rest = np.flatnonzero(state["fill"] < buffers.window)
    nothing = np.full((len(rest), 1), np.nan)
    thresholds.reseat(state, rest, nothing, nothing)


def _factor(before: Floats, after: Floats) -> Floats:
    """How much larger scores are now (n,): the median of the ratios; 1 where nothing is known. before: (n, S)."""
    known = np.isfinite(before) & np.isfinite(after)
    ratio = np.where(known, log_score(np.where(known, after, 1.0)) - log_score(np.where(known, before, 1.0)), 0.0)
    factor: Floats = np.exp(np.median(ratio, axis=1))
    return factor
