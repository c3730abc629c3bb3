"""What people answer to alerts, taken into the state of the sensors that they are about.

A false alarm raises the sensor's threshold above that score, a confirmed anomaly is left out of what the threshold
learns from, a change point makes the sensor find its level anew, a maintenance silences alerts for its time. The
same answer twice changes nothing the second time.
"""

from __future__ import annotations

import numpy as np

from stream_detector.detect.changes import Change
from stream_detector.detect.due import Due
from stream_detector.detect.incidents import Incidents
from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds import Thresholds
from stream_detector.records import Bools, Feedback, parse_time

FIELDS: Fields = [
    ("fb_begins_ms", "<i8"),  # the latest maintenance; both 0: none
    ("fb_ends_ms", "<i8"),
    ("fb_changed_ms", "<i8"),  # start of the incident that was last answered as a change point
]


def muted(state: State, due: Due) -> Bools:
    """(B, S) whether a step lies in a maintenance of its sensor."""
    begins, ends = state["fb_begins_ms"][due.sensor], state["fb_ends_ms"][due.sensor]
    if not ends.any():
        return np.zeros(due.time_ms.shape, np.bool_)
    found: Bools = (due.time_ms >= begins[:, None]) & (due.time_ms < ends[:, None])
    return found


def apply(incidents: Incidents, thresholds: Thresholds, digest: str, row: int, feedback: Feedback) -> list[Change]:
    """Take an answer in for one sensor; the changes of its incident that follow.

    digest: of the weights in use. A score that other ones gave says nothing on this scale: then only the incident
    itself is answered.
    """
    state, sensor = incidents.table.state, np.array([row])
    start = None if feedback.starts_at is None else parse_time(feedback.starts_at)
    same_scale = feedback.model is not None and feedback.model.digest == digest
    score = np.array([feedback.peak_score]) if feedback.peak_score is not None and same_scale else None
    going_on = bool(state["in_open"][row]) and start is not None
    if feedback.verdict == "false_positive":
        if score is not None:
            thresholds.mark_false_positive(state, sensor, score)
        # A later incident is another story: its own score may lie above the raised threshold.
        mine = start in (state["in_start_ms"][row], state["gr_start_ms"][row])
        return incidents.close(row, "false_positive") if going_on and mine else []
    if feedback.verdict == "confirmed":
        if score is not None:
            thresholds.mark_confirmed(state, sensor, score)
        return []
    if feedback.verdict == "change_point":
        if start is None or start <= state["fb_changed_ms"][row]:
            return []
        state["fb_changed_ms"][row] = start
        thresholds.start(state, sensor)
        behind = start <= state["in_active_ms"][row]
        return incidents.close(row, "change_point") if going_on and behind else []
    begins, ends = parse_time(feedback.begins or ""), parse_time(feedback.ends or "")
    state["fb_begins_ms"][row], state["fb_ends_ms"][row] = begins, ends
    inside = begins <= state["in_active_ms"][row] < ends
    return incidents.close(row, "maintenance") if inside else []
