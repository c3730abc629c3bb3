"""When a shadow is decided on, and how; the settings of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from stream_detector.settings import TrainerSettings
from stream_detector.streaming.registry import Tally
from stream_detector.streaming.registry.tally import total
from stream_detector.streaming.shadow_verdict import LEAST_WINDOWS, decide

ENOUGH: dict[str, Any] = {"windows": LEAST_WINDOWS, "sensors": 4, "span_ms": 4 * 3_600_000}


@pytest.mark.parametrize(
    ("counts", "passed"),
    [
        ({"windows": LEAST_WINDOWS - 1}, None),
        ({"span_ms": 4 * 3_600_000 - 4}, None),
        ({"sensors": 0, "span_ms": 0}, None),
        ({}, True),
        ({"challenger": 1}, False),  # where none is expected, one is too many
        ({"challenger": 1, "allowed": 0.2}, True),  # which chance brings in one of five such trials
        ({"challenger": 3, "allowed": 0.2}, False),
        ({"challenger": 130, "champion": 100}, True),  # 5 % of tolerance, and what chance does to 105
        ({"challenger": 131, "champion": 100}, False),
        ({"challenger": 131, "champion": 1, "allowed": 150.0}, True),
        ({"challenger": 0, "fault": "it is broken", "windows": 0}, False),
    ],
)
def test_the_rule(counts: dict[str, Any], passed: bool | None) -> None:
    """Nothing before enough was seen; then no more alarms than the champion or the budget, but for chance."""
    verdict = decide(Tally(trial=1, **{**ENOUGH, **counts}), TrainerSettings())
    assert (None if verdict is None else verdict.passed) is passed


def test_processes_of_one_slot_came_one_after_another() -> None:
    """Their sensors are the same ones; what they counted adds up. Another trial's counts are nobody's."""
    found = total(2, {"a:1": Tally(trial=2, windows=5, sensors=3), "a:2": Tally(trial=2, windows=6, sensors=4)})
    assert (found.windows, found.sensors) == (11, 4)
    found = total(2, {"a:1": Tally(trial=1, windows=5, sensors=3), "b:c:2": Tally(trial=2, windows=6, sensors=4)})
    assert found == Tally(trial=2, windows=6, sensors=4)


def test_settings_that_never_decide_are_refused() -> None:
    """A shadow that is replaced before it was seen enough is no use; without shadows it does not matter."""
    TrainerSettings(interval="1h", shadow_for="1h")
    TrainerSettings(interval="2h", shadow_for="1h", promotion="shadow")
    with pytest.raises(ValidationError, match=re.escape("shadow_for (1h) is not shorter than interval (60m)")):
        TrainerSettings(interval="60m", promotion="shadow")
    for share in (0, 1.1):
        with pytest.raises(ValidationError, match="shadow_share"):
            TrainerSettings(shadow_share=share)
    with pytest.raises(ValidationError, match="the span '0s' is nothing"):
        TrainerSettings(shadow_for="0s")
