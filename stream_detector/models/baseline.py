"""What the cheap detectors have in common: yardsticks that other models must beat, and good enough for some readings.

Each says how surprising a step is in each channel; here surprises become a score, and the values before a step become
the band around it. Nothing is learned by gradients. Knows nothing of how surprise is measured.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stream_detector.models.channels import most
from stream_detector.models.interface import Scores

LEAST_DEVIATION = 1e-3
"""A flatter window, in spreads of its sensor, is taken to be as wide as this."""
LEAST_USUAL = 1e-6
TOP = 0.1
"""Share of the channels that make the score, those most surprised, at least one: a fault seldom shows in all."""
COVERAGE = 0.95
"""Share of normal values inside the band."""


class Baseline(nn.Module):
    """Scores scaled windows (B, T, C) by the surprise of the most surprised channels.

    A surprise counts relative to what is usual for its channel, as far as `calibrate` has seen it.
    """

    half_band: Tensor
    usual: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("half_band", torch.full((config.channels,), 2.0))
        self.register_buffer("usual", torch.ones(config.channels))

    def surprise(self, windows: Tensor, steps: int) -> Tensor:
        """How unusual each of the last steps is in each channel, (B, steps, C), at least 0; looks back only."""
        raise NotImplementedError

    def prepare(self, windows: Tensor) -> None:
        """Nothing is computed in advance."""

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """Nothing is learned."""
        return windows.new_zeros(())

    def calibrate(self, windows: Tensor) -> None:
        """Each channel's mean surprise, and the `COVERAGE` quantile of its distance from the mean before it."""
        found = [self.surprise(part, 1)[:, 0] for part in torch.split(windows, 64)]
        self.usual.copy_(torch.cat(found).mean(dim=0).clamp_min(LEAST_USUAL))
        mean, deviation = _moments(windows, 1)
        distance = ((windows[:, -1:] - mean) / deviation).abs()[:, 0]
        self.half_band.copy_(torch.quantile(distance, COVERAGE, dim=0))

    def score(self, windows: Tensor, steps: int) -> Scores:
        """Mean surprise of the most surprised channels; see `Model.score`."""
        surprise = self.surprise(windows, steps) / self.usual
        mean, deviation = _moments(windows, steps)
        half = self.half_band * deviation
        return Scores(most(surprise, TOP), mean, mean - half, mean + half, surprise)


def trailing(windows: Tensor, steps: int, length: int) -> Tensor:
    """The last `length` values up to each of the last steps, or as many as there are: (B, steps, C, length)."""
    length = min(length, windows.shape[1] - steps + 1)
    return windows[:, 1 - steps - length + windows.shape[1] :].unfold(1, length, 1)


def _moments(windows: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, steps, C) of the T - steps values before each of the last steps."""
    before = windows[:, :-1].unfold(1, windows.shape[1] - steps, 1)
    return before.mean(dim=3), before.std(dim=3).clamp_min(LEAST_DEVIATION)
