"""Chance: what any measure of quality gives to a detector that knows nothing.

The numbers are made of the window's own bits, so that a score is the same on every run and in every batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream_detector.models.baseline import Baseline, trailing

MULTIPLIERS = (-7046029254386353131, -4658895280553007687, -7723592293110705685)
"""Odd numbers that mix 64 bits well (golden ratio; and those of splitmix64)."""
BITS = 24
"""Bits that a float32 between 0 and 1 can hold."""


@dataclass(frozen=True, slots=True)
class RandomConfig:
    """Nothing to choose."""

    window: int
    channels: int


class Random(Baseline):
    """A number between 0 and 1 for each step, the same for the same window."""

    name: ClassVar[str] = "random"

    def surprise(self, windows: Tensor, steps: int) -> Tensor:
        """Uniform in [0, 1), as far as windows differ.

        One number of all channels together: a channel of its own would be told by a constant one that begins to move.
        """
        # -0.0 and 0.0 are the same value, and must be the same bits.
        values = trailing(windows.float() + 0.0, steps, windows.shape[1] - steps + 1).contiguous()
        bits = values.view(torch.int32).long()
        power = torch.arange(1, bits[0, 0].numel() + 1, device=bits.device) * MULTIPLIERS[0]
        mixed = (bits.flatten(2) * (_mix(power) | 1)).sum(dim=2, keepdim=True)
        chance = ((_mix(mixed) >> (64 - BITS)) & ((1 << BITS) - 1)) / float(1 << BITS)
        return chance.expand(-1, -1, windows.shape[2])


def _mix(bits: Tensor) -> Tensor:
    """Spread every bit over all others; products wrap around."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS[1:], strict=True):
        bits = (bits ^ ((bits >> shift) & ((1 << (64 - shift)) - 1))) * multiplier
    return bits ^ ((bits >> 31) & ((1 << 33) - 1))
