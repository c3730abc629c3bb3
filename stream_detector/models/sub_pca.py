"""Sub-PCA: how much of a subsequence lies outside the few shapes that normal subsequences are made of.

Each channel's training subsequences give principal components; what they do not explain of a subsequence, squared, is
its surprise. Needs training: without it nothing is explained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream_detector.models.baseline import Baseline, trailing


@dataclass(frozen=True, slots=True)
class SubPcaConfig:
    """length: values of a subsequence, at most the window's. kept: share of the variance that components explain.

    most: components, as a share of the length, at most.
    """

    window: int
    channels: int
    length: int = 32
    kept: float = 0.9
    most: float = 0.5


class SubPca(Baseline):
    """Scores scaled windows (B, T, C) by the squared residual of their last subsequences."""

    name: ClassVar[str] = "sub-pca"
    mean: Tensor
    residual: Tensor

    def __init__(self, config: SubPcaConfig) -> None:
        super().__init__(config)
        self.length = min(config.length, config.window)
        self.register_buffer("mean", torch.zeros(config.channels, self.length))
        self.register_buffer("residual", torch.eye(self.length).repeat(config.channels, 1, 1))

    def prepare(self, windows: Tensor) -> None:
        """Mean, and projection on what the components leave out, of each channel's last subsequences."""
        seen = windows[:, -self.length :].permute(2, 0, 1).double()
        mean = seen.mean(dim=1, keepdim=True)
        values, vectors = torch.linalg.eigh((seen - mean).transpose(1, 2) @ (seen - mean) / seen.shape[1])
        falling = values.flip(1).clamp_min(0)
        # A component is kept when those before it do not explain enough yet.
        before = falling.cumsum(dim=1) - falling
        kept = before < self.config.kept * falling.sum(dim=1, keepdim=True)
        kept[:, max(1, int(self.config.most * self.length)) :] = False
        components = vectors.flip(2) * kept[:, None]
        self.mean.copy_(mean[:, 0])
        self.residual.copy_(torch.eye(self.length).to(components) - components @ components.transpose(1, 2))

    def surprise(self, windows: Tensor, steps: int) -> Tensor:
        """Squared length of what the components do not explain."""
        # With more steps than the window has beyond a subsequence, the oldest values are missing: then the mean.
        seen = trailing(windows, steps, self.length)
        missing = self.length - seen.shape[3]
        away = torch.nn.functional.pad(seen - self.mean[:, missing:], (missing, 0))
        return torch.einsum("bscw,cvw->bscv", away, self.residual).square().sum(dim=3)
