"""From the surprise of each channel to that of a reading."""

from __future__ import annotations

from torch import Tensor


def most(part: Tensor, top: float) -> Tensor:
    """Mean over the share `top` of the channels (..., C) that are most surprised, at least one: (...).

    A fault seldom shows in all channels, and the mean over many hides it.
    """
    count = max(1, round(top * part.shape[-1]))
    return part.topk(count, dim=-1).values.mean(dim=-1)
