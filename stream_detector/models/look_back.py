"""Encoder layers of a Transformer whose steps look back only, for the models that foretell.

Layer norms stand before attention and feedforward (Xiong et al. 2020, https://arxiv.org/abs/2002.04745); no dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def layers(count: int, width: int, heads: int, feedforward: int) -> nn.TransformerEncoder:
    """So many layers for (B, T, width), to be called with a `mask`."""
    layer = nn.TransformerEncoderLayer(width, heads, feedforward, 0.0, _gelu, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, count, nn.LayerNorm(width), enable_nested_tensor=False)


def mask(steps: int) -> Tensor:
    """What is added to attention (T, T): -inf for the steps that come later."""
    return torch.full((steps, steps), -torch.inf).triu(1)


def _gelu(x: Tensor) -> Tensor:
    """PyTorch takes a fused path for layers with a gelu that it knows, which on a CPU takes 2 to 3 times as long."""
    return nn.functional.gelu(x)
