"""What is learned from: a bounded, stable sample of readings, without what was called abnormal."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.records import Alert, Feedback, Interval, Readings
from stream_detector.training import reservoir
from stream_detector.training.feedback import LAST, abnormal
from stream_detector.training.reservoir import Reservoir, rank


def readings(count: int, sensors: int, begin: int = 0) -> Readings:
    """Sensors in turn; the value says which sensor and when."""
    sensor, time_ms = np.arange(count) % sensors, begin + np.arange(count) // sensors
    return Readings(sensor, time_ms, (1000 * sensor + time_ms)[:, None].astype(float))


def names(count: int) -> list[str]:
    """Ids of sensors."""
    return [f"pump-{i}" for i in range(count)]


def test_all_is_kept_where_there_is_room() -> None:
    """In time order, whatever the order of arrival."""
    kept = Reservoir(("value",), 10, 1000)
    kept.add(names(3), readings(30, 3, begin=10))
    kept.add(names(3)[::-1], readings(30, 3))
    found = kept.history()
    assert sorted(found.sensor_ids) == names(3)
    assert len(found.readings) == 60
    assert (np.diff(found.readings.time_ms) >= 0).all()
    assert not kept.crowded_out


def test_the_same_sensors_are_kept_whatever_comes_first() -> None:
    """Those with the smallest hashes, each with all its readings, however many others come between."""
    ids = names(400)
    wanted = sorted(sorted(ids, key=rank)[:20])
    for order in (ids, ids[::-1]):
        kept = Reservoir(("value",), 20, 10_000)
        for at in range(0, 400, 50):
            kept.add(order[at : at + 50], readings(500, 50))
        found = kept.history()
        assert sorted(found.sensor_ids) == wanted
        assert np.bincount(found.readings.sensor).tolist() == [10] * 20
        assert kept.crowded_out


def test_readings_belong_to_their_sensors() -> None:
    """After sensors were crowded out and numbered anew, every value is still its sensor's."""
    ids, kept = names(60), Reservoir(("value",), 7, 100)
    for step in range(40):
        for at in range(0, 60, 20):
            part = readings(20, 20, begin=step)
            kept.add(ids[at : at + 20], Readings(part.sensor, part.time_ms, part.values + 1000 * at))
    found = kept.history()
    number = [int(found.sensor_ids[i].removeprefix("pump-")) for i in found.readings.sensor]
    assert np.array_equal(found.readings.values[:, 0], 1000 * np.array(number) + found.readings.time_ms)


def test_each_sensor_keeps_its_latest_share() -> None:
    """What one does not need is left to the others; never more than twice the readings are held meanwhile."""
    kept = Reservoir(("value",), 10, 300)
    kept.add(["rare"], readings(10, 1))
    for step in range(100):
        kept.add(["a", "b"], readings(40, 2, begin=20 * step))
        assert kept._held <= reservoir.SLACK * 300 + 40
    found = kept.history()
    counts = dict(zip(found.sensor_ids, np.bincount(found.readings.sensor).tolist(), strict=True))
    assert counts == {"rare": 10, "a": 145, "b": 145}
    of_a = found.readings.time_ms[found.readings.sensor == found.sensor_ids.index("a")]
    assert of_a.tolist() == list(range(2000 - 145, 2000))


def test_rather_fewer_sensors_than_shares_of_no_use() -> None:
    """As long as all fits, all sensors are kept; when their shares get too small, those with the smallest hashes."""
    ids, kept = names(40), Reservoir(("value",), 40, 400, least=50)
    kept.add(ids, readings(40 * 9, 40))
    assert len(kept.history().sensor_ids) == 40
    for step in range(20):
        kept.add(ids, readings(40 * 9, 40, begin=9 * (step + 1)))
    found = kept.history()
    assert sorted(found.sensor_ids) == sorted(sorted(ids, key=rank)[:8])
    assert np.bincount(found.readings.sensor).tolist() == [50] * 8
    assert kept.crowded_out


@pytest.mark.parametrize(
    ("counts", "most", "each"), [([5, 5], 10, 5), ([5, 50], 20, 15), ([1, 2, 3], 3, 1), ([9, 9, 9], 2, 1), ([], 5, 1)]
)
def test_share(counts: list[int], most: int, each: int) -> None:
    """The largest that fits, filled up from the sensors with few readings."""
    assert reservoir.share(np.array(counts, np.int64), most) == each


def alert(alert_id: str, kind: str = "anomaly", ends_at: str | None = None, reason: str | None = None) -> Alert:
    """A step of an incident."""
    return Alert(
        alert_id=alert_id,
        seq=0,
        kind=kind,
        event="closed" if ends_at else "opened",
        status="resolved" if ends_at else "firing",
        close_reason=reason,
        severity="warning",
        sensor_id="a",
        members=["a", "b"],
        labels={},
        summary="",
        starts_at="2026-01-05T00:00:00Z",
        ends_at=ends_at,
        window=Interval("2026-01-05T00:00:00Z", "2026-01-05T00:00:00Z"),
        detected_at=None,
        score=1.0,
        peak_score=1.0,
        p_value=0.1,
        threshold=None,
        channels=[],
        model=None,
    )


def test_incidents_are_left_out_unless_they_are_normal() -> None:
    """By their last step: not those that timed out or that people called normal, and no reports about regimes."""
    end = "2026-01-05T01:00:00Z"
    alerts = [
        alert("closed"),
        alert("closed", ends_at=end, reason="recovered"),
        alert("open"),
        alert("stuck", "value_stuck"),
        alert("timed out"),
        alert("timed out", ends_at=end, reason="timed_out"),
        alert("regime", "regime_change"),
        alert("silent", "sensor_silent"),
        alert("false"),
        alert("changed"),
        alert("confirmed"),
    ]
    answers = [
        Feedback(feedback_id=one, alert_id=one, verdict=verdict, sensor_id="a")
        for one, verdict in (("false", "false_positive"), ("changed", "change_point"), ("confirmed", "confirmed"))
    ]
    found = {one.alert_id: one for one in abnormal(alerts, answers)}
    assert set(found) == {"closed", "open", "stuck", "confirmed"}
    assert found["closed"].ends_at == end
    assert found["open"].ends_at == LAST
    assert {one.verdict for one in found.values()} == {"confirmed"}
    assert found["closed"].members == ["a", "b"]
