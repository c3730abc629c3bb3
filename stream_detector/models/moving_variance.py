"""The moving variance: how much the values up to a step vary, whatever they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stream_detector.models.baseline import Baseline, trailing


@dataclass(frozen=True, slots=True)
class MovingVarianceConfig:
    """length: values that the variance is taken over, at most the window's."""

    window: int
    channels: int
    length: int = 100


class MovingVariance(Baseline):
    """Scores scaled windows (B, T, C) by the variance of their last values."""

    name: ClassVar[str] = "moving-variance"

    def surprise(self, windows: Tensor, steps: int) -> Tensor:
        """Variance of the values up to each step."""
        return trailing(windows, steps, self.config.length).var(dim=3, correction=0)
