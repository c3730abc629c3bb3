"""The life of an incident, step by step."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.detect.incidents import FIELDS, IncidentRules, Life, Step

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
    life = Life(1, 0, 2, 0, 1, 7, 3, 2, 1_700_000_000_000, 1_700_000_000_500, 3.25)
    life.store(rows[1])
    assert Life.load(rows[1]) == life
    assert Life.load(rows[0]) == Life(*([0] * len(FIELDS)))
