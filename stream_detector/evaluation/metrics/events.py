"""Runs of marked rows."""

from __future__ import annotations

import numpy as np

from stream_detector.records import Bools, Ints


def spans(marked: Bools, gap: int = 1) -> Ints:
    """First row and the one behind the last (E, 2) of each run of marked rows (N,).

    Rows at most `gap` apart belong to one run.
    """
    rows = np.flatnonzero(marked)
    if not len(rows):
        return np.zeros((0, 2), np.int64)
    cuts = np.flatnonzero(np.diff(rows) > gap)
    return np.stack([rows[np.append(0, cuts + 1)], rows[np.append(cuts, len(rows) - 1)] + 1], axis=1)
