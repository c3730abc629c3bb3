"""Other weights for sensors that are being watched: their thresholds move to the new scores' scale.

Scores of two models are not on one scale. The windows at hand are scored with both; how the new scores lie to the
old, on the very same readings, is how the level and spread of each sensor's threshold move.

Where the new weights know a sensor as it is now, and the old ones never knew it (pretrained ones know none) or it had
left what they knew, its past says little of the scores to come, and one window less than training measured. It then
begins anew from that; its scale too, which would otherwise remember for weeks how far values used to swing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from stream_detector.detect.buffers import Buffers
from stream_detector.detect.due import Due
from stream_detector.detect.scoring import Scorer
from stream_detector.detect.seeds import seed_scale
from stream_detector.detect.state import SensorTable
from stream_detector.detect.thresholds import Thresholds, log_score
from stream_detector.detect.thresholds.track import FLATTEST
from stream_detector.models.artifact import SensorSeed
from stream_detector.records import Bools, Floats, Ints

SHARE = 4
"""One step in so many of the window at hand is scored: the freshest, which see three quarters of a window behind."""
CHUNK = 1024
"""Windows at a time, so that a large fleet needs no second copy of itself."""
SCALE = ("center", "spread", "folds")
"""What a sensor's row holds of its scale."""
UNUSUAL = 3.0
"""MADs above their usual level at which log scores are no longer those of what weights were trained on."""


@dataclass(frozen=True, slots=True)
class Side:
    """Weights at work, and what they know of each sensor."""

    scorer: Scorer
    seeds: Mapping[str, SensorSeed]


def reseat(table: SensorTable, buffers: Buffers, thresholds: Thresholds, old: Side, new: Side, rows: Ints) -> None:
    """Score the windows at hand of these sensors with the old and the new weights; move thresholds and peaks by it.

    thresholds: as built for the new weights. Sensors without a full window find their level anew.
    """
    state, steps = table.state, max(1, buffers.window // SHARE)
    filled = state["fill"][rows] == buffers.window
    full = rows[filled]
    for start in range(0, len(full), CHUNK):
        some = full[start : start + CHUNK]
        due = buffers.at_hand(some, steps)
        before = old.scorer.score(due).score
        begun, after = _begun(table, buffers, due, _left(table, some, before, old, new), new)
        thresholds.reseat(state, some, before, after)
        _renew(table, thresholds, some[begun], new)
        state["in_peak"][some] *= _factor(before, after)
    forget(table, thresholds, rows[~filled])


def _left(table: SensorTable, rows: Ints, before: Floats, old: Side, new: Side) -> Bools:
    """(n,) whether a sensor is not as the old weights know it, while the new ones know it in some way."""
    known = np.array([table.ids[row] in new.seeds for row in rows.tolist()], np.bool_)
    # Of a sensor that the old weights do not know, the distance is no number, and not usual either.
    return known & ~(_off(table, rows, before, old) <= UNUSUAL)


def _begun(table: SensorTable, buffers: Buffers, due: Due, left: Bools, new: Side) -> tuple[Bools, Floats]:
    """Which of the sensors that left (n,) the new weights know as they are now, and the new scores (n, S) of all.

    Those go on with the scale that training found; the new scores are on the scale that each sensor goes on with.
    """
    state, rows = table.state, due.sensor
    held = {name: state[name][rows] for name in SCALE}
    seed_scale(table, rows[left], new.seeds)
    after = new.scorer.score(replace(due, center=state["center"][rows], spread=state["spread"][rows])).score
    begun = left.copy()
    begun[left] = np.abs(_off(table, rows[left], after[left], new)) <= UNUSUAL
    back = left & ~begun
    if back.any():
        for name in SCALE:
            state[name][rows[back]] = held[name][back]
        after[back] = new.scorer.score(buffers.at_hand(rows[back], due.time_ms.shape[1])).score
    return begun, after


def _off(table: SensorTable, rows: Ints, scores: Floats, side: Side) -> Floats:
    """`above_usual` of each row (n,). scores: (n, S)."""
    off = np.full(len(rows), np.nan)
    for i, row in enumerate(rows.tolist() if side.seeds else ()):
        off[i] = above_usual(scores[i], side.seeds.get(table.ids[row]))
    return off


def _renew(table: SensorTable, thresholds: Thresholds, rows: Ints, new: Side) -> None:
    """Give these sensors what training knows of them."""
    seeds = [new.seeds[table.ids[row]] for row in rows.tolist()]
    median = np.array([seed.score_median for seed in seeds], np.float64)
    mad = np.array([seed.score_mad for seed in seeds], np.float64)
    thresholds.renew(table.state, rows, median, mad)


def above_usual(scores: Floats, seed: SensorSeed | None) -> float:
    """MADs that the middle of scores (T,) lies above the usual level of their logarithms; NaN where none is known."""
    if seed is None or seed.score_median is None or seed.score_mad is None:
        return float("nan")
    known = scores[np.isfinite(scores)]
    if not len(known):
        return float("nan")
    return (float(np.median(log_score(known))) - seed.score_median) / max(seed.score_mad, FLATTEST)


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
