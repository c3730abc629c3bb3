"""The life of an incident, step by step."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.detect.incidents import FIELDS, IncidentRules, Life, Step
from stream_detector.settings import IncidentSettings
from tests.unit.plant import Plant, at, steady

RULES = IncidentRules(open_after=2, close_after=3, update_every=5, time_out=20)
HIGH, MIDDLE, CALM = "H", "m", "."


def walk(path: str, rules: IncidentRules = RULES, severity: int = 0) -> tuple[str, Life]:
    """Live through steps written as letters: H exceeds, m is neither, . is calm. Returns what was told at each."""
    life, told = Life(*([0] * len(FIELDS))), ""
    for number, letter in enumerate(path):
        change = life.walk(Step(number * 10, float(number), letter == HIGH, letter == CALM, severity), rules)
        told += {None: " ", "opened": "O", "updated": "U", "closed": "C"}[change[0] if change else None]
    return told, life


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("..H.H..", "       "),
        (".HH....", "  O  C "),
        (".HH.m...", "  O    C"),
        (".HH..H...", "  O    UC"),
        ("HHHHHHHHH...", " O    U    C"),
        ("HH" + "H" * 25 + ".HH", " O" + "    U" * 3 + "    C" + " " * 5 + "  O"),
    ],
)
def test_what_is_told(path: str, told: str) -> None:
    """Opens after two in a row, closes after three calm, is told again every five, times out once and waits."""
    assert walk(path)[0] == told


def test_dates_and_peak() -> None:
    """It starts at the first of the exceedances that opened it, ends at the last step that was not calm."""
    told, life = walk(".HH.m...")
    assert (told[-1], life.start_ms, life.active_ms, life.peak) == ("C", 10, 40, 7.0)


def test_only_worse_is_told_at_once() -> None:
    """A rise in severity is an update; an equal or lower one is not."""
    life = Life(*([0] * len(FIELDS)))
    told = [
        life.walk(Step(i, 1.0, True, False, severity), IncidentRules()) for i, severity in enumerate([1, 1, 2, 1, 2, 3])
    ]
    assert [change and change[0] for change in told] == ["opened", None, "updated", None, None, "updated"]


def test_a_row_holds_a_life() -> None:
    """What is stored in the sensor's row is read back the same."""
    rows = np.zeros(2, np.dtype(FIELDS))
    life = Life(1, 0, 2, 0, 1, 7, 3, 2, 4, 1_700_000_000_000, 1_700_000_000_500, 3.25)
    life.store(rows[1])
    assert Life.load(rows[1]) == life
    assert Life.load(rows[0]) == Life(*([0] * len(FIELDS)))


def test_a_minimum_gap_keeps_the_next_one_from_opening() -> None:
    """For so many steps after a close nothing opens; what still exceeds then does, whatever came between."""
    rules = IncidentRules(close_after=2, minimum_gap=4)
    told = [walk("H.." + "." * calm + "H" * 6, rules)[0].rstrip() for calm in (0, 2, 6)]
    assert told == ["O C    O", "O C    O", "O C      O"]


def test_an_end_from_outside_counts_as_a_close() -> None:
    """It ends what is open, once; the gap begins, and a run of exceedances begins anew."""
    rules = IncidentRules(open_after=2, minimum_gap=3)
    _, life = walk("HH", rules)
    assert life.end(rules)
    assert not life.end(rules)
    assert life.rest == 3
    _, life = walk("H", rules)
    assert not life.end(rules)
    assert life.walk(Step(100, 1.0, True, False, 0), rules) is None


LASTING = IncidentSettings(open_after=2, close_after=5, minimum_gap=10)


def test_a_gap_is_kept_among_readings() -> None:
    """The same in a fleet, where idle sensors are passed over: the second fault, within the gap, is not told."""
    rules = IncidentSettings(close_after=3, minimum_gap=40)
    plant = Plant(incidents=rules)
    faults = {60: 50.0, 90: 50.0, 120: 50.0}
    told = plant.feed([(name, t, faults.get(int(t), value)) for name, t, value in steady("a", 0, 150)])
    assert [(alert.event, alert.starts_at) for alert in told] == [
        ("opened", at(60)), ("closed", at(60)), ("opened", at(120)), ("closed", at(120))
    ]  # fmt: skip


def test_two_in_a_row_are_asked_for() -> None:
    """With open_after 2 a single exceedance opens nothing, two do, dated by the first of them."""
    plant = Plant(threshold="fixed:4", incidents=LASTING)
    faults = {40: 50.0, 80: 6.0, 81: 50.0}
    told = plant.feed([(name, t, faults.get(int(t), value)) for name, t, value in steady("a", 0, 120)])
    assert [(alert.event, alert.starts_at) for alert in told] == [("opened", at(80)), ("closed", at(80))]


def test_a_change_of_regime_is_told_once() -> None:
    """More alerts than their cap allows: one event, opened and resolved in one, and no alerts beyond the cap."""
    plant = Plant(threshold="block-maximum", budget="1 per 1000 readings")
    rows = [(name, t, 40.0 if t > 300 and t % 30 == 0 else value) for name, t, value in steady("a", 0, 1000)]
    told = plant.feed(rows)
    changes = [alert for alert in told if alert.kind == "regime_change"]
    assert len(changes) == 1
    assert (changes[0].event, changes[0].status, changes[0].seq) == ("opened", "resolved", 0)
    assert changes[0].starts_at == changes[0].ends_at
    opened = [alert for alert in told if alert.kind == "anomaly" and alert.event == "opened"]
    assert 3 <= len(opened) <= 6
    assert changes[0].alert_id not in {alert.alert_id for alert in opened}
