"""The scale of a sensor: centre and spread of each channel, followed slowly and on its own readings alone.

Knows windows of values; not where they are kept.
"""

from __future__ import annotations

import numpy as np

from stream_detector.records import Floats, Floats32

MEMORY = 32.0
"""Windows after which the scale forgets: a plain mean over the first 32, exponential from then on."""
CLIP = 6.0
"""Spreads beyond which a value no longer widens the scale."""
FLAT = 1e-6
"""A spread below this share of the level is taken for a constant channel."""
LIMIT = 20.0
"""Scaled values are cut off here, so that a broken sensor cannot overflow a model."""


def fold(windows: Floats, center: Floats, spread: Floats, folds: Floats32) -> tuple[Floats, Floats, Floats32]:
    """Take one more window of each sensor into its scale (Chan's pairwise update, winsorised).

    windows: (n, W, C), NaN where missing. center, spread: (n, C). folds: (n, C) windows taken in so far.
    Returns the three anew; a channel without a single value in its window stays as it was.
    """
    known = folds > 0
    low = np.where(known, center - CLIP * spread, -np.inf)[:, None]
    high = np.where(known, center + CLIP * spread, np.inf)[:, None]
    # A channel that was constant so far has no spread to clip by.
    flat = (spread <= FLAT * np.abs(center))[:, None]
    values = np.where(flat, windows, np.clip(windows, low, high))
    present = np.isfinite(values)
    count = np.maximum(present.sum(axis=1), 1)
    mean = np.where(present, values, 0.0).sum(axis=1) / count
    variance = np.where(present, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / count
    weight = np.minimum(folds, MEMORY - 1).astype(np.float64)
    merged = (weight * center + mean) / (weight + 1)
    second = weight * (spread**2 + (center - merged) ** 2) + variance + (mean - merged) ** 2
    seen = present.any(axis=1)
    return (
        np.where(seen, merged, center),
        np.where(seen, np.sqrt(second / (weight + 1)), spread),
        np.where(seen, np.minimum(folds + 1, MEMORY), folds).astype(np.float32),
    )


def unit(center: Floats, spread: Floats) -> Floats:
    """What one scaled step means in the channel's own unit; for a constant channel, a tenth of its level.

    center, spread: any equal shape. Always positive.
    """
    level = np.abs(center)
    constant = np.where(level > 0, 0.1 * level, 1.0)
    return np.where(spread > FLAT * level, spread, constant)


def apply(values: Floats, center: Floats, step: Floats) -> Floats32:
    """Scaled values, cut off at +-LIMIT, as the models take them; NaN stays NaN.

    values: (B, T, C). center, step: (B, C).
    """
    scaled = values - center[:, None]
    scaled /= step[:, None]
    return np.clip(scaled, -LIMIT, LIMIT, out=scaled).astype(np.float32)
