"""The moving z-score: how many deviations a value lies from the mean of the window before it.

Nothing is learned but the width of the band. It is the yardstick that other models must beat, and cheap enough for
readings that nobody wants to spend a Transformer on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from stream_detector.models.interface import Scores

LEAST_DEVIATION = 1e-3
"""A flatter window, in spreads of its sensor, is taken to be as wide as this."""


@dataclass(frozen=True, slots=True)
class MovingZConfig:
    """coverage: share of normal values inside the band."""

    window: int
    channels: int
    coverage: float = 0.95


class MovingZ(nn.Module):
    """Scores scaled windows (B, T, C) by the z-score of the most surprising channel."""

    name: ClassVar[str] = "moving-z"
    half_band: Tensor

    def __init__(self, config: MovingZConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("half_band", torch.full((config.channels,), 2.0))

    def prepare(self, windows: Tensor) -> None:
        """Nothing is computed in advance."""

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """Nothing is learned."""
        return windows.new_zeros(())

    def calibrate(self, windows: Tensor) -> None:
        """The `coverage` quantile of each channel's z-score."""
        mean, deviation = self._moments(windows, 1)
        z = ((windows[:, -1:] - mean) / deviation).abs()[:, 0]
        self.half_band.copy_(torch.quantile(z, self.config.coverage, dim=0))

    def score(self, windows: Tensor, steps: int) -> Scores:
        """The largest z-score over the channels; see `Model.score`."""
        mean, deviation = self._moments(windows, steps)
        z = ((windows[:, -steps:] - mean) / deviation).abs()
        half = self.half_band * deviation
        return Scores(z.amax(dim=2), mean, mean - half, mean + half, z)

    @staticmethod
    def _moments(windows: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, steps, C) of the T - steps values before each of the last steps."""
        before = windows[:, :-1].unfold(1, windows.shape[1] - steps, 1)
        return before.mean(dim=3), before.std(dim=3).clamp_min(LEAST_DEVIATION)
