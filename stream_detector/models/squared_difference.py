"""The squared difference: how far a value jumps from the one before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stream_detector.models.baseline import Baseline


@dataclass(frozen=True, slots=True)
class SquaredDifferenceConfig:
    """Nothing to choose."""

    window: int
    channels: int


class SquaredDifference(Baseline):
    """Scores scaled windows (B, T, C) by the square of their last differences."""

    name: ClassVar[str] = "squared-difference"

    def surprise(self, windows: Tensor, steps: int) -> Tensor:
        """Square of each step's difference from the one before it."""
        return windows[:, -steps - 1 :].diff(dim=1).square()
