"""How steps of a window become vectors: a short convolution over time, and a sinusoidal position.

Shared by models that embed alike (Anomaly Transformer, TimesNet). The convolution is circular: the first step has the
last one as its neighbour, as published. So nothing here is causal on its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def positions(T: int, width: int) -> Tensor:
    """Sinusoids (T, width): sine and cosine by turns, of wavelengths from 2 pi to 10,000 * 2 pi steps.

    After Vaswani et al. 2017, section 3.5, https://arxiv.org/abs/1706.03762.
    """
    step = torch.arange(T, dtype=torch.float32)[:, None]
    turn = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    return torch.stack([torch.sin(step * turn), torch.cos(step * turn)], dim=2).flatten(1)[:, :width]


class TokenEmbedding(nn.Module):
    """Windows (B, T, channels) to (B, T, width): circular convolution over three steps, without bias."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, width, 3, bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")

    def forward(self, windows: Tensor) -> Tensor:
        """Each step with its neighbours, in the circle."""
        around = functional.pad(windows.transpose(1, 2), (1, 1), mode="circular")
        embedded: Tensor = self.convolution(around)
        return embedded.transpose(1, 2)
