"""What people's answers mean for training: confirmed anomalies and maintenance are nothing to learn from.

Readings in between are left out with their times, so a window that spans them has a gap there and not a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stream_detector.records import Bools, Feedback, parse_time
from stream_detector.training import sample
from stream_detector.training.sample import History


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
