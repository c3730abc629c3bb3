"""Sensors of a group that fire together: one incident, with one id, one voice and all members named."""

from __future__ import annotations

import pytest

from stream_detector.records import SEVERITIES, Alert, encode
from stream_detector.settings import IncidentSettings, SensorSettings
from tests.unit.plant import Plant, Row, at, steady

HALL = SensorSettings(match="?", group="hall")
RULES = IncidentSettings(close_after=10, group_within="3s")
LARGE, SMALL = 50.0, 8.0
"""Values that are an error, and a little more than the threshold."""


def readings(names: str, faults: dict[tuple[str, int], float], stop_s: int = 100) -> list[Row]:
    """Noise, but for the faults given by sensor and second."""
    return [(name, t, faults.get((name, int(t)), value)) for name, t, value in steady(names, 0, stop_s)]


def outline(alerts: list[Alert]) -> list[tuple[str, int, str, list[str]]]:
    """Event, number of the step, the sensor that leads and the members of each."""
    return [(alert.event, alert.seq, alert.sensor_id, alert.members) for alert in alerts]


@pytest.mark.parametrize("batch", [1, 1000])
def test_sensors_that_fire_together_share_one_incident(batch: int) -> None:
    """The first gives id and start, the others join, it closes with the last of them and names all."""
    plant = Plant(HALL, incidents=RULES)
    told = plant.feed(readings("abcd", {("b", 60): LARGE, ("a", 61): LARGE, ("d", 63): LARGE}), batch)
    assert outline(told) == [
        ("opened", 0, "b", ["b"]),
        ("updated", 1, "b", ["a", "b"]),
        ("closed", 2, "b", ["a", "b", "d"]),
    ]
    assert len({alert.alert_id for alert in told}) == 1
    assert {alert.group for alert in told} == {"hall"}
    assert {alert.starts_at for alert in told} == {at(60)}
    assert (told[-1].close_reason, told[-1].ends_at) == ("recovered", at(63))
    assert told[-1].summary == "hall: 3 sensors, latest d is back to normal after 3 s"


def test_joins_are_told_at_powers_of_two() -> None:
    """Nine sensors: told with the first, second, fourth and eighth, and in the end."""
    names = "abcdefghi"
    told = Plant(HALL, incidents=RULES).feed(readings(names, {(name, 60): LARGE for name in names}))
    assert [len(alert.members) for alert in told] == [1, 2, 4, 8, 9]
    assert [alert.seq for alert in told] == [0, 1, 2, 3, 4]


def test_one_that_comes_too_late_is_another_incident() -> None:
    """More than the span behind the latest that joined: its own id; each within the span of the one before: one."""
    late = Plant(HALL, incidents=RULES).feed(readings("abc", {("a", 60): LARGE, ("b", 64): LARGE}))
    assert [(alert.event, alert.members) for alert in late] == [
        ("opened", ["a"]), ("opened", ["b"]), ("closed", ["a"]), ("closed", ["b"])
    ]  # fmt: skip
    assert len({alert.alert_id for alert in late}) == 2
    chain = Plant(HALL, incidents=RULES).feed(readings("abc", {("a", 60): LARGE, ("b", 63): LARGE, ("c", 66): LARGE}))
    assert len({alert.alert_id for alert in chain}) == 1


def test_others_are_not_in_it() -> None:
    """A sensor of no group, and one of another group, have incidents of their own, the first without members."""
    plant = Plant(
        SensorSettings(match="[ab]", group="hall"), SensorSettings(match="c", group="yard"), incidents=RULES
    )  # fmt: skip
    told = plant.feed(readings("abcd", {(name, 60): LARGE for name in "abcd"}))
    opened = [alert for alert in told if alert.event == "opened"]
    assert [(alert.sensor_id, alert.group, alert.members) for alert in opened] == [
        ("a", "hall", ["a"]),
        ("c", "yard", ["c"]),
        ("d", None, []),
    ]
    assert len({alert.alert_id for alert in told}) == 3


REOPENED = {("a", 50): LARGE, ("b", 53): SMALL, ("c", 56): SMALL, ("d", 59): SMALL, ("a", 67): SMALL}
"""a is over at 60 and, smaller, back at 67, while d goes on."""


def test_its_severity_never_falls() -> None:
    """A small member joins a large one, and the large one comes back small: each step says the worst so far."""
    plant = Plant(HALL, incidents=RULES)
    told = plant.feed(readings("ab", {("a", 60): LARGE, ("b", 61): SMALL}))
    alone = Plant(incidents=RULES).feed(readings("b", {("b", 61): SMALL}))
    told += Plant(HALL, incidents=RULES).feed(readings("abcd", REOPENED))
    assert len({alert.alert_id for alert in told}) == 2
    assert {alert.severity for alert in told} == {"error"}
    assert SEVERITIES.index(alone[-1].severity) < SEVERITIES.index("error")


def test_a_worse_member_is_told_at_once() -> None:
    """The third to join would not be told, were it not worse than the first two."""
    faults = {("a", 60): SMALL, ("b", 60): SMALL, ("c", 61): LARGE}
    told = Plant(HALL, incidents=RULES).feed(readings("abc", faults))
    assert [(len(alert.members), alert.severity) for alert in told][2] == (3, "error")


@pytest.mark.parametrize("step", [3, 25])
@pytest.mark.parametrize(
    "faults",
    [
        {("b", 60): LARGE, ("a", 61): LARGE, ("d", 63): SMALL},
        {("a", 60): LARGE, ("b", 64): LARGE, ("c", 67): SMALL, ("d", 69): LARGE},
        {("a", 40): LARGE, ("b", 43): LARGE, ("a", 58): SMALL},
        REOPENED,
    ],
)
def test_a_restart_changes_nothing(faults: dict[tuple[str, int], float], step: int) -> None:
    """Processes that take over from each other every few readings tells the same."""
    rows = readings("abcd", faults, 90)
    whole = Plant(HALL, incidents=RULES).feed(rows)
    assert len(whole) >= 3
    plant = Plant(HALL, incidents=RULES)
    plant.feed(rows[: 4 * 38])
    for start in range(4 * 38, len(rows), step):
        plant.restart()
        plant.feed(rows[start : start + step])
    assert [encode(alert) for alert in plant.told] == [encode(alert) for alert in whole]


def test_partitions_tell_each_for_itself() -> None:
    """A group in two partitions is one incident in each."""
    plant = Plant(HALL, incidents=RULES, partition={"a": 0, "b": 0, "c": 1, "d": 1})
    told = plant.feed(readings("abcd", {(name, 60): LARGE for name in "abcd"}))
    assert [alert.members for alert in told if alert.event == "closed"] == [["a", "b"], ["c", "d"]]
    assert len({alert.alert_id for alert in told}) == 2


def test_a_member_that_falls_silent_leaves() -> None:
    """The group's incident goes on with the others; the silence is told for the sensor itself."""
    faults = {("a", 60): LARGE, ("b", 60): LARGE}
    rows = [row for row in readings("ab", faults) if row[0] == "b" or row[1] <= 62]
    plant = Plant(HALL, incidents=RULES.model_copy(update={"close_after": 30}))
    told = plant.feed(rows)
    assert [(alert.kind, alert.event, alert.close_reason, alert.members) for alert in told] == [
        ("anomaly", "opened", None, ["a"]),
        ("anomaly", "updated", None, ["a", "b"]),
        ("sensor_silent", "opened", None, []),
        ("anomaly", "closed", "recovered", ["a", "b"]),
    ]


def test_what_is_over_is_left_behind() -> None:
    """The next incident of the same sensors has another id and only the members of its own."""
    plant = Plant(HALL, incidents=RULES)
    told = plant.feed(readings("ab", {("a", 40): LARGE, ("b", 40): LARGE, ("b", 70): LARGE}))
    assert outline(told)[-2:] == [("opened", 0, "b", ["b"]), ("closed", 1, "b", ["b"])]
    assert len({alert.alert_id for alert in told}) == 2
