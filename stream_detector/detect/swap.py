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
from stream_detector.records import Floats, Ints

SHARE = 4
"""One step in so many of the window at hand is scored: the freshest, which see three quarters of a window behind."""
CHUNK = 1024
"""Windows at a time, so that a large fleet needs no second copy of itself."""


def reseat(table: SensorTable, buffers: Buffers, thresholds: Thresholds, old: Scorer, new: Scorer, rows: Ints) -> None:
    """Score the windows at hand of these sensors with the old and the new weights; move thresholds and peaks by it.

    thresholds: as built for the new weights. Sensors without a full window find their level anew.
    """
    state, steps = table.state, max(1, buffers.window // SHARE)
    filled = state["fill"][rows] == buffers.window
    full = rows[filled]
    for start in range(0, len(full), CHUNK):
        some = full[start : start + CHUNK]
        due = buffers.at_hand(some, steps)
        before, after = (scorer.score(due).score for scorer in (old, new))
        thresholds.reseat(state, some, before, after)
        state["in_peak"][some] *= _factor(before, after)
    forget(table, thresholds, rows[~filled])


def forget(table: SensorTable, thresholds: Thresholds, rows: Ints) -> None:
    """Let these sensors find their level anew: nothing is at hand to compare by."""
    nothing = np.full((len(rows), 1), np.nan)
    thresholds.reseat(table.state, rows, nothing, nothing)


def _factor(before: Floats, after: Floats) -> Floats:
    """How much larger scores are now (n,): the median of the ratios; 1 where nothing is known. before: (n, S)."""
    known = np.isfinite(before) & np.isfinite(after)
    ratio = np.where(known, log_score(np.where(known, after, 1.0)) - log_score(np.where(known, before, 1.0)), 0.0)
    factor: Floats = np.exp(np.median(ratio, axis=1))
    return factor
