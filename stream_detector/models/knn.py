"""k-NN of subsequences, k = 1: the distance from a subsequence to the nearest of some normal ones.

Each channel remembers a random part of its training subsequences, at most `memory`: the bound on what a score costs.
Needs training: without it the only normal subsequence is a flat one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream_detector.models.baseline import Baseline, trailing

SEED = 0


@dataclass(frozen=True, slots=True)
class KnnConfig:
    """length: values of a subsequence, at most the window's. memory: subsequences remembered of each channel."""

    window: int
    channels: int
    length: int = 64
    memory: int = 1024


class Knn(Baseline):
    """Scores scaled windows (B, T, C) by the distance of their last subsequences to the nearest remembered ones."""

    name: ClassVar[str] = "knn"
    known: Tensor

    def __init__(self, config: KnnConfig) -> None:
        super().__init__(config)
        self.length = min(config.length, config.window)
        self.register_buffer("known", torch.zeros(config.channels, config.memory, self.length))

    def prepare(self, windows: Tensor) -> None:
        """Remember some of the windows' last subsequences, each at most once; with fewer than asked for, again."""
        chance = torch.Generator().manual_seed(SEED)
        chosen = torch.randperm(len(windows), generator=chance)
        chosen = chosen.repeat(-(-self.config.memory // len(windows)))[: self.config.memory]
        self.known.copy_(windows[chosen, -self.length :].permute(2, 0, 1))

    def surprise(self, windows: Tensor, steps: int) -> Tensor:
        """Euclidean distance to the nearest, over as many values as the window has up to a step."""
        seen = trailing(windows, steps, self.length)
        B, S, C, w = seen.shape
        seen = seen.permute(2, 0, 1, 3).reshape(C, B * S, w)
        known = self.known[:, :, self.length - w :]
        # |a - b|^2 less |a|^2, which is the same for all b: enough to find the nearest, then measured exactly.
        nearest = torch.baddbmm(known.square().sum(dim=2)[:, None], seen, known.transpose(1, 2), alpha=-2).argmin(dim=2)
        found = known.gather(1, nearest[..., None].expand(-1, -1, w))
        distance: Tensor = torch.linalg.vector_norm(seen - found, dim=2)
        return distance.reshape(C, B, S).permute(1, 2, 0)
