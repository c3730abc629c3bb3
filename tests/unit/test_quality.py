"""Faults of the readings: silence, stuck and missing values, clocks; and above all what is none."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from stream_detector.records import Alert, Feedback, encode
from stream_detector.settings import IncidentSettings, QualitySettings
from tests.unit.plant import NO_INCIDENT, START_S, Plant, Row, at, steady

NAN = math.nan
DAY = 1440
STUCK = QualitySettings(silent_after=0, stuck_after=25)


def outline(alerts: list[Alert]) -> list[tuple[str, str, str, str | None]]:
    """Sensor, event, start and end of each."""
    return [(alert.sensor_id, alert.event, alert.starts_at, alert.ends_at) for alert in alerts]


def maintenance(begins: float, ends: float) -> Feedback:
    """One of the sensor a."""
    return Feedback(
        feedback_id="f", alert_id="x", verdict="maintenance", sensor_id="a", begins=at(begins), ends=at(ends)
    )


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_silence_is_noticed_by_the_others_and_ends_with_a_reading(batch: int) -> None:
    """Told with the first reading that is more than 20 usual intervals on, dated by the sensor's own times."""
    plant = Plant()
    assert plant.feed(steady("ab", 0, 60) + steady("b", 60, 80), batch) == []
    opened = plant.feed(steady("b", 80, 100), batch)
    closed = plant.feed(steady("ab", 100, 130), batch)
    assert outline(opened) == [("a", "opened", at(59), None)]
    assert outline(closed) == [("a", "closed", at(59), at(100))]
    assert (opened[0].kind, opened[0].seq, closed[0].seq) == ("sensor_silent", 0, 1)
    assert opened[0].alert_id == closed[0].alert_id
    assert closed[0].close_reason == "recovered"


def test_silence_is_the_same_whoever_notices_it() -> None:
    """Noticed by many readings of others or by a single one when it is over: the same two records."""
    early, late = Plant(), Plant()
    noticed = early.feed(steady("ab", 0, 60) + steady("b", 60, 100) + [("a", 100, 0.5)])
    returned = late.feed([*steady("ab", 0, 60), ("b", 99, 0.5), ("a", 100, 0.5)])
    mine = [[encode(alert) for alert in alerts if alert.sensor_id == "a"] for alerts in (noticed, returned)]
    assert mine[0] == mine[1]
    assert len(mine[0]) == 2


def test_a_sensor_alone_notices_its_own_silence() -> None:
    """Opened and closed by the reading with which it comes back."""
    told = Plant().feed(steady("a", 0, 60) + steady("a", 100, 110))
    assert outline(told) == [("a", "opened", at(59), None), ("a", "closed", at(59), at(100))]


def test_packets_do_not_flap() -> None:
    """Fifty readings at once, two sensors in turn: told once at most, before the packets are known, never again."""
    packets = [steady(name, k * 50, k * 50 + 50) for k in range(40) for name in "ab"]
    plant = Plant()
    for rows in packets:
        plant.feed(rows)
    assert len({alert.alert_id for alert in plant.told}) <= 1
    assert all(alert.starts_at <= at(100) for alert in plant.told)


def test_a_nightly_rest_is_learned() -> None:
    """Twelve hours of silence every night for a month: told at most three times."""
    rows: list[Row] = []
    for minute in range(0, 30 * DAY, 5):
        rows += steady("ab" if minute % DAY < DAY // 2 else "b", minute * 60, minute * 60 + 1)
    told = Plant(threshold=NO_INCIDENT, stride=4).feed(rows)
    assert 1 <= len({alert.alert_id for alert in told}) <= 3


def test_a_rest_is_forgotten_again() -> None:
    """Long after one absence of ten minutes, one of half a minute is told again."""
    plant = Plant()
    plant.feed(steady("ab", 0, 60) + steady("b", 60, 660) + steady("ab", 660, 700) + steady("b", 700, 740))
    assert len(plant.told) == 2
    assert plant.feed(steady("ab", 740, 12_000) + steady("b", 12_000, 12_030))


def test_one_that_always_lags_is_not_silent() -> None:
    """A sensor whose readings are an hour old when they arrive has never been away."""
    rows = [row for t in range(1000) for row in (("a", t * 60, math.sin(t)), ("b", t * 60 - 3600, math.cos(t)))]
    assert Plant(threshold=NO_INCIDENT).feed(rows) == []


def test_silence_needs_a_full_window() -> None:
    """Nothing is usual yet after 15 readings; it is after 16."""
    assert Plant().feed(steady("ab", 0, 15) + steady("b", 15, 500)) == []
    assert Plant().feed(steady("ab", 0, 16) + steady("b", 16, 500))


def test_silence_can_be_switched_off() -> None:
    """silent_after = 0 tells of none."""
    plant = Plant(quality=QualitySettings(silent_after=0, stuck_after=0))
    assert plant.feed(steady("ab", 0, 60) + steady("b", 60, 600) + steady("ab", 600, 610)) == []


def test_silence_ends_an_open_anomaly() -> None:
    """The anomaly is closed for that reason, and ends with the last reading that was anomalous."""
    plant = Plant(incidents=IncidentSettings(close_after=10))
    told = plant.feed([*steady("ab", 0, 60), ("a", 60, 50.0), *steady("ab", 61, 63), *steady("b", 63, 100)])
    assert [(alert.kind, alert.event, alert.close_reason) for alert in told] == [
        ("anomaly", "opened", None),
        ("sensor_silent", "opened", None),
        ("anomaly", "closed", "silent"),
    ]
    assert (told[2].alert_id, told[2].ends_at, told[2].seq) == (told[0].alert_id, at(60), 1)


@pytest.mark.parametrize("batch", [1, 1000])
def test_nothing_is_told_in_a_maintenance(batch: int) -> None:
    """Silence, a stuck value and a wrong clock within a maintenance are not told; silence after it is."""
    plant = Plant(quality=QualitySettings(stuck_after=25, clock_ahead="1m"))
    plant.feed(steady("ab", 0, 60), batch, ahead_s={})
    assert plant.answer(maintenance(60, 300)) == []
    plant.feed(steady("b", 60, 160) + steady("ab", 160, 170), batch, ahead_s={})
    stuck = [row for t in range(170, 220) for row in [("a", t, 1.5), *steady("b", t, t + 1)]]
    plant.feed(stuck + steady("ab", 220, 230), batch, ahead_s={})
    plant.feed([("a", 9000, 1.0), *steady("ab", 230, 300)], batch, ahead_s={9000: 8770})
    assert plant.told == []
    assert outline(plant.feed(steady("ab", 300, 400) + steady("b", 400, 900), batch, ahead_s={})) == [
        ("a", "opened", at(399), None)
    ]


@pytest.mark.parametrize("batch", [1, 9, 1000])
@pytest.mark.parametrize(
    ("value", "kind", "after", "said"),
    [
        (1.5, "value_stuck", 25, "a: value has been exactly 1.5 for 24 s"),
        (NAN, "value_missing", 13, "a: value has been missing for 12 s"),
    ],
)
def test_a_value_that_is_stuck(batch: int, value: float, kind: str, after: int, said: str) -> None:
    """Told with the 25th equal reading, or the 13th missing one; dated from the first to the last of them."""
    plant = Plant(quality=STUCK, threshold=NO_INCIDENT)
    plant.feed(steady("a", 0, 100), batch)
    stuck: list[Row] = [("a", t, value) for t in range(100, 140)]
    assert plant.feed(stuck[: after - 1], batch) == []
    opened = plant.feed(stuck[after - 1 :], batch)
    closed = plant.feed(steady("a", 140, 150), batch)
    assert outline(opened + closed) == [("a", "opened", at(100), None), ("a", "closed", at(100), at(139))]
    assert {alert.kind for alert in opened + closed} == {kind}
    assert opened[0].alert_id == closed[0].alert_id
    assert opened[0].summary == said


def test_a_constant_channel_is_not_stuck() -> None:
    """What has never changed may stay as it is, also when it is always missing."""
    for value in (3.0, NAN):
        assert Plant(quality=STUCK).feed([("a", t, value) for t in range(1000)]) == []


def test_long_runs_by_nature_are_learned() -> None:
    """Counters that seldom count, switches, values missing by nature: told at most three times in 20,000 readings."""
    rng = np.random.default_rng(1)
    channels: dict[str, list[float]] = {}
    for chance in (0.3, 0.1, 0.02):
        steps = np.cumsum(rng.random(20_000) < chance)
        channels[f"counter {chance}"] = steps.astype(float).tolist()
        channels[f"switch {chance}"] = (steps % 2.0).tolist()
        channels[f"gaps {chance}"] = np.where(steps % 2 > 0, NAN, rng.normal(size=20_000)).tolist()
    plant = Plant(quality=STUCK, threshold=NO_INCIDENT, stride=4, channels=tuple(channels))
    told = plant.feed([("a", t, values) for t, values in enumerate(zip(*channels.values(), strict=True))])
    count = Counter(alert.channels[0].name for alert in told if alert.event == "opened")
    assert max(count.values()) <= 3, count


def test_channels_are_stuck_each_for_itself() -> None:
    """Two channels at once: two incidents with ids of their own, the channel named."""
    plant = Plant(quality=STUCK, threshold=NO_INCIDENT, channels=("x", "y"))
    plant.feed([("a", t, (v, 2 * v)) for _, t, v in steady("a", 0, 100) if isinstance(v, float)])
    told = plant.feed([("a", t, (1.0, NAN)) for t in range(100, 130)])
    assert [(alert.kind, alert.channels[0].name) for alert in told] == [("value_missing", "y"), ("value_stuck", "x")]
    assert len({alert.alert_id for alert in told}) == 2
    same = plant.feed([("a", t, (v, 2 * v)) for _, t, v in steady("a", 130, 160) if isinstance(v, float)])
    again = plant.feed([("a", t, (2.0, 2.0)) for t in range(160, 400)])
    assert {alert.event for alert in same} == {"closed"}
    assert {alert.channels[0].name for alert in again} == {"x", "y"}
    assert len({alert.alert_id for alert in again}) == 2


def test_missing_readings_between_are_no_run() -> None:
    """A value that alternates with missing ones is neither stuck nor missing."""
    plant = Plant(quality=STUCK, threshold=NO_INCIDENT)
    mixed: list[Row] = [("a", t, 1.5 if t % 2 else NAN) for t in range(100, 300)]
    assert plant.feed(steady("a", 0, 100) + mixed) == []


def test_runs_are_judged_after_two_windows() -> None:
    """Until the 33rd reading no run is a fault; a run that lasts until then is one."""
    plant = Plant(quality=QualitySettings(silent_after=0, stuck_after=10), threshold=NO_INCIDENT)
    assert plant.feed(steady("a", 0, 8) + [("a", t, 3.0) for t in range(8, 32)]) == []
    assert outline(plant.feed([("a", 32, 3.0)])) == [("a", "opened", at(8), None)]


def test_stuck_values_can_be_switched_off() -> None:
    """stuck_after = 0 tells of none."""
    plant = Plant(quality=QualitySettings(silent_after=0, stuck_after=0), threshold=NO_INCIDENT)
    assert plant.feed(steady("a", 0, 100) + [("a", t, 1.5) for t in range(100, 300)]) == []


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_clock_that_runs_ahead(batch: int) -> None:
    """Its readings are set aside and do not move the watermark; told with the first, over with the first good one."""
    plant = Plant(quality=QualitySettings(clock_ahead="1m", stuck_after=0))
    ahead_s = {5000.0: 4939.0, 5001.0: 4940.0}
    plant.feed(steady("ab", 0, 60), batch, ahead_s=ahead_s)
    opened = plant.feed([("a", 5000, 0.3), ("b", 60, 0.2), ("a", 5001, 0.4)], batch, ahead_s=ahead_s)
    detector = next(iter(plant.profiles.fleet.detectors.values()))
    if batch > 1:
        assert detector.set_aside is not None
        assert detector.set_aside.tolist() == [True, False, True]
    assert plant.profiles.fleet.watermarks.of[0] == (START_S + 60) * 1000
    closed = plant.feed(steady("ab", 61, 70), batch, ahead_s=ahead_s)
    assert outline(opened + closed) == [("a", "opened", at(61), None), ("a", "closed", at(61), at(61))]
    assert {alert.kind for alert in plant.told} == {"clock_skewed"}
    assert detector.buffers.counts.late == detector.buffers.counts.too_late == 0


def test_without_arrivals_no_clock_is_wrong() -> None:
    """Where it is not known when a reading came, its time is believed."""
    plant = Plant(quality=QualitySettings(clock_ahead="1m", silent_after=0, stuck_after=0))
    assert plant.feed([*steady("ab", 0, 60), ("a", 5000, 0.3)]) == []
    assert plant.profiles.fleet.watermarks.of[0] == (START_S + 5000) * 1000
