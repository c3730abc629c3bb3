"""Drift: whether a fleet has moved away from what its weights were trained on.

A cheap test against what the artifact says of each sensor that training has seen: its centre and spread, and the level
of its log scores. A sensor has moved when its recent values lie a whole spread from its centre, scatter twice as
widely, or score more than three MADs above their usual level; drift is when a quarter of the sensors have. Lower and
narrower is no drift: a short stretch of a slow rhythm is always narrower than the whole. Knows nothing of when to
train; of sensors that training has not seen it knows nothing either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stream_detector.detect import scale, swap
from stream_detector.detect.scoring import Scorer
from stream_detector.models.artifact import Artifact, SensorSeed
from stream_detector.records import Floats, Ints
from stream_detector.training import sample
from stream_detector.training.sample import History
from stream_detector.training.train import consecutive_scores

LEVEL = 1.0
"""Spreads between a sensor's centre and the middle of its recent values."""
SPREAD = 2.0
"""Recent spread, as a multiple of the one it was trained on."""
SHARE = 0.25
"""Of the sensors that are known, those that must have moved."""
MOST_READINGS = 20_000
"""Readings that are looked at, over as many sensors as fit in."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What was measured. sensors: that could be compared. level, spread, score: how many of them have moved so."""

    seen: bool
    sensors: int
    moved: int
    level: int
    spread: int
    score: int

    @property
    def words(self) -> str:
        """One sentence with the numbers."""
        return (
            f"{self.moved} of {self.sensors} sensors have moved: the level of {self.level} by more than {LEVEL:g} "
            f"spread, the spread of {self.spread} beyond {SPREAD:g} times, the scores of {self.score} by more than "
            f"{swap.UNUSUAL:g} MAD; it is drift from {SHARE:.0%} on"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def measure(
    recent: History, champion: Artifact, device: str = "cpu", pulse: Callable[[], None] = lambda: None
) -> Drift | None:
    """Hold recent readings against what the weights know; None when they know none of these sensors.

    recent: in time order, channels as the champion's. Sensors with less than a window of readings are left out.
    pulse: called now and then while windows are scored.
    """
    part = comparable(recent, champion)
    numbers = np.unique(part.readings.sensor).tolist()
    if not numbers:
        return None
    scorer = Scorer(champion.model, torch.device(device), pulse)
    scores = consecutive_scores(part, scorer, champion.scaler)
    level, spread, score = (np.zeros(len(numbers), np.bool_) for _ in range(3))
    for at, number in enumerate(numbers):
        seed = champion.scaler[part.sensor_ids[number]]
        level[at], spread[at] = _inputs_moved(part.readings.values[part.readings.sensor == number], seed)
        known = scores.get(part.sensor_ids[number])
        score[at] = known is not None and swap.above_usual(known, seed) > swap.UNUSUAL
    moved = level | spread | score
    return Drift(
        seen=bool(moved.mean() >= SHARE),
        sensors=len(numbers),
        moved=int(moved.sum()),
        level=int(level.sum()),
        spread=int(spread.sum()),
        score=int(score.sum()),
    )


def comparable(recent: History, champion: Artifact) -> History:
    """The readings of known sensors with a full window, as many as are looked at."""
    window = champion.model.config.window
    known = np.array([sensor_id in champion.scaler for sensor_id in recent.sensor_ids], np.bool_)
    counts: Ints = np.bincount(recent.readings.sensor, minlength=len(known))
    known &= counts >= window
    counts = counts * known
    known &= np.cumsum(counts) - counts < MOST_READINGS
    readings = recent.readings[known[recent.readings.sensor]] if len(known) else recent.readings
    return History(sample.tail(readings, MOST_READINGS), recent.sensor_ids, recent.channels)


def _inputs_moved(values: Floats, seed: SensorSeed) -> tuple[bool, bool]:
    """Whether the level, and whether the spread of any channel has moved. values: (T, C), NaN where missing."""
    center, spread = np.array(seed.center), np.array(seed.spread)
    scaled = (values - center) / scale.unit(center, spread)
    level = widened = False
    for column in scaled.T:
        known = column[np.isfinite(column)]
        if len(known):
            middle = float(np.median(known))
            level |= abs(middle) > LEVEL
            # A few anomalies must not pass for a wider spread.
            widened |= float(np.clip(known - middle, -scale.CLIP, scale.CLIP).std()) > SPREAD
    return level, widened
