"""A mean over series, and how certain it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 10_000
COVERAGE = 0.95


def mean_with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over series and its bootstrap interval (percentiles, 95 %); NaN values are left out.

    The draws are the same on every call, so that the same scores give the same table.
    """
    known = np.array([value for value in values if value == value])
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    chosen = np.random.default_rng(0).integers(len(known), size=(DRAWS, len(known)))
    low, high = np.quantile(known[chosen].mean(axis=1), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(known.mean()), float(low), float(high)
