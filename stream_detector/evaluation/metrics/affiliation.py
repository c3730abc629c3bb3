"""Affiliation precision and recall: how much nearer than chance flags are to events, and events to flags.

Huet, Navarro and Rossi, KDD 2022 (https://arxiv.org/abs/2206.13167). A row is an interval of length 1. Time is cut
half way between events; in each zone a random flag is the yardstick: a flag's worth is the chance that a random one
lies further from the event, an event's moment's worth the chance that a random flag lies further from it than the
nearest flag. Precision is the mean over zones that have a flag, recall over all.
"""

from __future__ import annotations

import numpy as np

from stream_detector.evaluation.metrics.events import spans
from stream_detector.records import Bools, Floats, Ints

CELLS = 4
"""Parts of a row. Worth is linear between multiples of a quarter, so that midpoints of quarters give its exact mean."""


def affiliation(labels: Bools, flags: Bools) -> tuple[float, float, float]:
    """Precision, recall and F1; precision is NaN without a flag, all are without an event. labels, flags: (N,)."""
    events, flagged = spans(labels), spans(flags)
    if not len(events):
        return float("nan"), float("nan"), float("nan")
    cuts = (events[:-1, 1] + events[1:, 0]) / 2
    zones = np.stack([np.append(0.0, cuts), np.append(cuts, float(len(labels)))], axis=1)
    moments = _midpoints(flags)
    zone_of = np.searchsorted(cuts, moments)
    precisions, recalls = [], []
    for i, (event, zone) in enumerate(zip(events, zones, strict=True)):
        mine = moments[zone_of == i]
        if not len(mine):
            recalls.append(0.0)
            continue
        precisions.append(float(_worth_of_flags(mine, event, zone).mean()))
        recalls.append(float(_worth_of_event(event, flagged, zone).mean()))
    recall = float(np.mean(recalls))
    if not precisions:
        return float("nan"), recall, 0.0
    precision = float(np.mean(precisions))
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def _midpoints(marked: Bools) -> Floats:
    """Moments (n,) in the middle of each quarter of the marked rows."""
    quarters = (np.arange(CELLS) + 0.5) / CELLS
    found: Floats = (np.flatnonzero(marked)[:, None] + quarters).ravel()
    return found


def _worth_of_flags(moments: Floats, event: Ints, zone: Floats) -> Floats:
    """Chance that a random moment of the zone is further from the event than these are."""
    start, stop = event
    low, high = zone
    distance = np.maximum(np.maximum(start - moments, moments - stop), 0.0)
    nearer = (stop - start) + np.minimum(distance, min(start - low, high - stop)) + distance
    return np.where(distance > 0, 1 - nearer / (high - low), 1.0)


def _worth_of_event(event: Ints, flagged: Ints, zone: Floats) -> Floats:
    """Chance that a random moment of the zone is further from the event's moments than the nearest flag is."""
    low, high = zone
    inside = flagged[(flagged[:, 1] > low) & (flagged[:, 0] < high)]
    starts, stops = np.maximum(inside[:, 0], low), np.minimum(inside[:, 1], high)
    moments = ((np.arange(CELLS * event[0], CELLS * event[1]) + 0.5) / CELLS).astype(np.float64)
    at = np.searchsorted(starts, moments)
    behind = moments - np.append(-np.inf, stops)[at]
    ahead = np.append(starts, np.inf)[at] - moments
    distance = np.maximum(np.minimum(behind, ahead), 0.0)
    room = np.minimum(moments - low, high - moments)
    worth: Floats = 1 - (np.minimum(distance, room) + distance) / (high - low)
    return worth
