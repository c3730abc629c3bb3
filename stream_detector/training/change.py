"""When a fleet has changed: the moment that splits its readings best into a before and an after.

Level, spread and scores of each sensor are averaged over short parts of the time. A split explains of such a row of
averages what lies between the means of its two sides; the moment is the one that explains most over all sensors. It
counts where it explains a third of a row of a quarter of the sensors: else no moment stands out. Knows nothing of
whether that is drift; a champion that was trained on either side tells the two apart best.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from stream_detector.detect import scale, thresholds
from stream_detector.detect.scoring import Scorer
from stream_detector.models.artifact import Artifact
from stream_detector.records import Floats, Ints, Readings
from stream_detector.training import drift
from stream_detector.training.sample import History
from stream_detector.training.train import scored

PARTS = 64
"""Parts of the time; the moment is as exact as they are short."""
LEAST_PARTS = 4
"""On either side."""
EXPLAINED = 1 / 3
STRIDE = 4
"""A quarter of each window is scored at a time, as a detector may do: fewer windows do for all readings."""


def moment(
    recent: History, champion: Artifact, device: str = "cpu", pulse: Callable[[], None] = lambda: None
) -> int | None:
    """The time (ms) from which on sensors behave otherwise; None where there is none, or none can be told.

    recent: in time order, channels as the champion's. Of its sensors those that the champion knows are looked at.
    """
    part = drift.comparable(recent, champion)
    if not len(part.readings):
        return None
    window = champion.model.config.window
    scorer = Scorer(champion.model, torch.device(device), pulse)
    sensor, time_ms, score = scored(part, scorer, champion.scaler, max(1, window // STRIDE))
    edges = np.linspace(part.readings.time_ms.min(), part.readings.time_ms.max() + 1, PARTS + 1)
    known = np.unique(part.readings.sensor)
    rows = [_means(np.searchsorted(known, sensor), time_ms, thresholds.log_score(score), edges, len(known))]
    for values in _scaled(part.readings, part, champion).T:
        number = np.searchsorted(known, part.readings.sensor)
        level = _means(number, part.readings.time_ms, values, edges, len(known))
        square = _means(number, part.readings.time_ms, values**2, edges, len(known))
        rows += [level, square - level**2]
    explained = np.stack([_explained(row) for row in rows])  # (kinds of row, sensors, splits)
    at = int(explained.sum(axis=(0, 1)).argmax())
    if (explained[:, :, at].max(axis=0) > EXPLAINED).mean() < drift.SHARE:
        return None
    return int(edges[LEAST_PARTS + at])


def _scaled(readings: Readings, part: History, champion: Artifact) -> Floats:
    """Values (N, C) on each sensor's own scale, cut off so that single anomalies do not make a part."""
    seeds = [champion.scaler.get(sensor_id) for sensor_id in part.sensor_ids]
    none = np.full(len(part.channels), np.nan)
    center, spread = (
        np.array([none if seed is None else getattr(seed, name) for seed in seeds]) for name in ("center", "spread")
    )
    step = scale.unit(center, spread)
    scaled: Floats = (readings.values - center[readings.sensor]) / step[readings.sensor]
    return np.clip(scaled, -scale.CLIP, scale.CLIP)


def _means(sensor: Ints, time_ms: Ints, x: Floats, edges: Floats, sensors: int) -> Floats:
    """Means (S, PARTS) of x (N,) by sensor and part of the time; NaN where there is none."""
    known = np.isfinite(x)
    cell = sensor * PARTS + np.searchsorted(edges, time_ms, side="right") - 1
    count = np.bincount(cell[known], minlength=sensors * PARTS)
    total = np.bincount(cell[known], x[known], sensors * PARTS)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(sensors, PARTS)


def _explained(row: Floats) -> Floats:
    """Share (S, splits) of the variance of rows (S, PARTS) that lies between the two sides of each split."""
    known = np.isfinite(row)
    x = np.where(known, row, 0.0)
    count, total = known.cumsum(axis=1), x.cumsum(axis=1)
    n, mean = count[:, -1:], total[:, -1:] / np.maximum(count[:, -1:], 1)
    spread = (np.where(known, row - mean, 0.0) ** 2).sum(axis=1, keepdims=True)
    splits = slice(LEAST_PARTS - 1, PARTS - LEAST_PARTS)
    before, off = count[:, splits], total[:, splits] - count[:, splits] * mean
    enough = (before >= LEAST_PARTS) & (n - before >= LEAST_PARTS) & (spread > 0)
    between = off**2 * n / np.maximum(before * (n - before), 1)
    return np.where(enough, between / np.where(spread > 0, spread, 1.0), 0.0)
