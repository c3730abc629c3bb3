"""What is nothing to learn from: what people confirmed or called maintenance, and what detectors called abnormal.

Readings in between are left out with their times, so a window that spans them has a gap there and not a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from stream_detector.records import Alert, Bools, Feedback, parse_time
from stream_detector.training import sample
from stream_detector.training.sample import History

ABNORMAL = frozenset({"anomaly", "value_stuck"})
NEW_NORMAL = frozenset({"false_positive", "change_point", "timed_out"})
"""Incidents that ended so were normal operation, or have become it."""
LAST = "9999-12-31T00:00:00Z"


def without_faults(history: History, feedback: Sequence[Feedback]) -> History:
    """The history without what answers call an anomaly or a maintenance; false alarms stay in."""
    number = {sensor_id: i for i, sensor_id in enumerate(history.sensor_ids)}
    readings = history.readings
    kept: Bools = np.ones(len(readings), np.bool_)
    for sensor_id, begin, end in _spans(feedback):
        if sensor_id in number:
            inside = (readings.time_ms >= begin) & (readings.time_ms <= end)
            kept &= ~(inside & (readings.sensor == number[sensor_id]))
    return History(sample.select(readings, kept), history.sensor_ids, history.channels)


def _spans(feedback: Sequence[Feedback]) -> Iterator[tuple[str, int, int]]:
    for answer in feedback:
        if answer.verdict == "confirmed":
            begin, end = answer.starts_at, answer.ends_at or answer.as_of
        elif answer.verdict == "maintenance":
            begin, end = answer.begins, answer.ends
        else:
            continue
        for sensor_id in {answer.sensor_id, *answer.members}:
            if begin is not None and end is not None:
                yield sensor_id, parse_time(begin), parse_time(end)


def abnormal(alerts: Iterable[Alert], answers: Iterable[Feedback]) -> list[Feedback]:
    """What detectors called abnormal and nobody called normal, each as if a person had confirmed it.

    An incident that is still open reaches to the end of all times: what comes after it is not known to be normal.
    """
    latest: dict[str, Feedback | None] = {}
    for alert in alerts:
        if alert.kind in ABNORMAL:
            spared = alert.close_reason in NEW_NORMAL
            latest[alert.alert_id] = None if spared else _confirmed(alert)
    for answer in answers:
        if answer.verdict in NEW_NORMAL:
            latest.pop(answer.alert_id, None)
    return [one for one in latest.values() if one is not None]


def _confirmed(alert: Alert) -> Feedback:
    return Feedback(
        feedback_id=alert.alert_id,
        alert_id=alert.alert_id,
        verdict="confirmed",
        sensor_id=alert.sensor_id,
        members=alert.members,
        starts_at=alert.starts_at,
        ends_at=alert.ends_at or LAST,
    )
