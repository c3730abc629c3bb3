"""Training leaves out what people called a fault."""

from __future__ import annotations

import numpy as np

from stream_detector.records import Feedback, Readings, format_time
from stream_detector.training.feedback import without_faults
from stream_detector.training.sample import History

MINUTE = 60_000


def history() -> History:
    """Two sensors, a reading a minute, for an hour."""
    time_ms = np.arange(60).repeat(2) * MINUTE
    return History(Readings(np.tile([0, 1], 60), time_ms, np.zeros((120, 1))), ["a", "b"], ("value",))


def answer(verdict: str, **given: object) -> Feedback:
    """An answer to an alert of sensor a."""
    return Feedback(feedback_id="1", alert_id="2", verdict=verdict, sensor_id="a", **given)


def test_confirmed_and_maintenance_are_left_out() -> None:
    """Of the sensors that they are about, both ends included; an incident still open reaches as far as it was told."""
    confirmed = answer("confirmed", starts_at=format_time(10 * MINUTE), as_of=format_time(12 * MINUTE), members=["b"])
    maintenance = answer("maintenance", begins=format_time(30 * MINUTE), ends=format_time(34 * MINUTE))
    left = without_faults(history(), [confirmed, maintenance]).readings
    of_a, of_b = (left.time_ms[left.sensor == sensor] // MINUTE for sensor in (0, 1))
    assert set(range(60)) - set(of_a.tolist()) == {10, 11, 12, 30, 31, 32, 33, 34}
    assert set(range(60)) - set(of_b.tolist()) == {10, 11, 12}


def test_false_alarms_are_learned() -> None:
    """A false alarm and a change of regime are how things are: nothing is left out, nor for other sensors."""
    span = {"starts_at": format_time(0), "ends_at": format_time(60 * MINUTE)}
    others = [answer("false_positive", **span), answer("change_point", **span)]
    assert len(without_faults(history(), others).readings) == 120
