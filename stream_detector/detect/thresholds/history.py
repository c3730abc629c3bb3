"""How much history a budget needs, for messages: in readings, in time, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_detector.detect.thresholds.calibration import BLOCK, WARM_UP
from stream_detector.detect.thresholds.decisions import alpha_of
from stream_detector.detect.thresholds.epochs import blocks_of_epoch
from stream_detector.settings import Budget


@dataclass(frozen=True, slots=True)
class History:
    """Scored steps, and the time they take, after which a sensor's own past alone sets its threshold."""

    steps: int
    time_ms: float

    def __str__(self) -> str:
        return (
            f"needs {_span(self.time_ms)} of history of this sensor ({self.steps:,} readings); until then the "
            "fleet's threshold is used and gives way to the sensor's own as its history grows"
        )


def history_needed(budget: Budget, interval_ms: float) -> History:
    """What a budget needs of one sensor with a reading every `interval_ms`: four periods for one alert each."""
    steps = int(blocks_of_epoch(alpha_of(budget, np.array([interval_ms])))[0]) * BLOCK
    return History(steps, steps * interval_ms)


def shortfall(budget: Budget, interval_ms: float, readings_at_hand: float) -> str | None:
    """What a budget still lacks, for one sensor of a calibrated fleet: None when its own history suffices.

    interval_ms: the sensor's usual time between readings; one that is not a positive number counts as one second.
    readings_at_hand: scored readings of one sensor that its threshold has learned from, warm-up included.
    """
    interval_ms = interval_ms if np.isfinite(interval_ms) and interval_ms > 0 else 1000.0
    needed = history_needed(budget, interval_ms)
    lacking = needed.steps + WARM_UP - int(readings_at_hand)
    if lacking <= 0:
        return None
    return (
        f"the budget {budget.text!r} needs {_span(needed.time_ms)} of history of each sensor, and "
        f"{_span(lacking * interval_ms)} of it are still to come; until then thresholds lean on the whole fleet and "
        "are extrapolated, so false alerts may be more or fewer than the budget"
    )


def _span(time_ms: float) -> str:
    for unit, size_ms in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if time_ms >= 2 * size_ms:
            return f"{round(time_ms / size_ms):,} {unit}"
    return f"{round(time_ms / 1000):,} seconds"
