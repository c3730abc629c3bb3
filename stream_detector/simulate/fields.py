"""What each field measures: channels with their limits and possible faults, and the usual interval.

It knows no chance and no time: `signals` makes the values, `fleet` asks here what may happen to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream_detector.records import Floats, Ints
from stream_detector.simulate import signals
from stream_detector.simulate.faults import KINDS

COUNTED = ("spike", "level_shift", "drift", "stuck", "dropout", "correlation_break")
RARE = ("spike", "level_shift", "dropout")
SLOW = ("spike", "level_shift", "drift", "dropout")
BREATH = ("spike", "level_shift", "stuck", "dropout", "frequency_change")


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: how it is written, what it can be, and what can befall it.

    direction: 1 where only more is a fault (a count cannot fall far), -1 where only less is, 0 for both.
    event: the size of a single event where the values are sums of events (1 for counts), else 0.
    """

    name: str
    decimals: int
    low: float = -np.inf
    high: float = np.inf
    direction: int = 0
    event: float = 0.0
    kinds: tuple[str, ...] = KINDS


@dataclass(frozen=True, slots=True)
class Field:
    """One field: what its sensors are called, how often they speak, what they measure and what is normal.

    joint: kinds that befall all channels at once, because one cause drives them.
    """

    noun: str
    interval_ms: int
    longest_interval_ms: int  # beyond it the rhythm that the field is about cannot be seen
    channels: tuple[Channel, ...]
    joint: tuple[str, ...]
    signals: Callable[[Ints, np.random.Generator], Floats]

    def finish(self, values: Floats) -> Floats:
        """Hold (T, C) values to the channels' limits and round them to what is written; NaN stays."""
        finished = np.empty_like(values)
        for c, channel in enumerate(self.channels):
            # Adding 0.0 turns -0.0 into 0.0, which reads better.
            finished[:, c] = np.round(np.clip(values[:, c], channel.low, channel.high), channel.decimals) + 0.0
        return finished


FIELDS: dict[str, Field] = {
    "plant": Field(
        noun="machine",
        interval_ms=300_000,
        longest_interval_ms=3_600_000,
        channels=(
            Channel("temperature", 2),
            Channel("vibration", 3, low=0.0, direction=1),
            Channel("current", 2, low=0.0, direction=1),
            Channel("pressure", 3, low=0.0),
        ),
        joint=("frequency_change",),
        signals=signals.plant,
    ),
    "payments": Field(
        noun="account",
        interval_ms=300_000,
        longest_interval_ms=3_600_000,
        channels=(
            Channel("transactions", 0, low=0.0, direction=1, event=1.0, kinds=COUNTED),
            Channel("amount", 2, low=0.0, direction=1, event=30.0, kinds=COUNTED),
            Channel("declined", 0, low=0.0, direction=1, event=1.0, kinds=RARE),
        ),
        joint=("spike", "level_shift", "drift"),
        signals=signals.payments,
    ),
    "patients": Field(
        noun="patient",
        interval_ms=40,
        longest_interval_ms=100,
        channels=(
            Channel("ecg", 3),
            Channel("respiration", 3, kinds=BREATH),
            Channel("arterial_pressure", 1, low=0.0),
            Channel("spo2", 1, low=0.0, high=100.0, direction=-1, kinds=SLOW),
        ),
        joint=("frequency_change",),
        signals=signals.patients,
    ),
}
