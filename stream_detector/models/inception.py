"""A sum of square convolutions of several sizes, computed as the one convolution that it is.

Kernels of 1, 3, 5, ... cells, each padded so that the plane keeps its size, are the same as their sum, each in the
middle of the largest: 286 multiplications a cell and pair of channels become 121 for six of them. Where a plane is
smaller than the kernel, the part of the kernel that would only meet padding is left out. Both are exact but for the
order of sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Inception(nn.Module):
    """Mean of convolutions with kernels of 1, 3, ..., 2 * kernels - 1 cells, each with its own weights and bias."""

    def __init__(self, inputs: int, outputs: int, kernels: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(inputs, outputs, 2 * i + 1) for i in range(kernels)]
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            nn.init.constant_(convolution.get_parameter("bias"), 0.0)
        self.convolutions = nn.ModuleList(convolutions)

    def fused(self) -> tuple[Tensor, Tensor]:
        """Weights (outputs, inputs, K, K) and bias (outputs,) of the one convolution, K = 2 * kernels - 1."""
        convolutions, reach = list(self.convolutions), len(self.convolutions) - 1
        weights = [functional.pad(c.get_parameter("weight"), [reach - i] * 4) for i, c in enumerate(convolutions)]
        biases: list[Tensor] = [c.get_parameter("bias") for c in convolutions]
        return torch.stack(weights).mean(dim=0), torch.stack(biases).mean(dim=0)


def convolve(planes: Tensor, kernel: tuple[Tensor, Tensor], rows: range, columns: range) -> Tensor:
    """The convolution's values at these rows and columns of planes (N, inputs, H, W), with zeros around the planes.

    Returns (N, outputs, rows, columns).
    """
    weight, bias = kernel
    H, W = planes.shape[2:]
    reach = weight.shape[2] // 2
    down, across = min(reach, H - 1), min(reach, W - 1)
    weight = weight[:, :, reach - down : reach + down + 1, reach - across : reach + across + 1]
    # What is needed of the planes: more than they have is padding, less is cut off.
    sides = (across - columns.start, columns.stop + across - W, down - rows.start, rows.stop + down - H)
    return functional.conv2d(functional.pad(planes, sides), weight, bias)


def around(cell: int, reach: int, size: int) -> range:
    """The cells of a row of `size` that lie within `reach` of one."""
    return range(max(0, cell - reach), min(size, cell + reach + 1))
