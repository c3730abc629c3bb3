"""TimesNet: a window is folded by its own periods into planes, and images of them tell what it should look like.

After Wu et al., "TimesNet: Temporal 2D-Variation Modeling for General Time Series Analysis", ICLR 2023,
https://arxiv.org/abs/2210.02186. A window less its mean, over its deviation, is embedded (circular convolution and
sinusoidal position). Each block takes the strongest frequencies of what it gets, folds it by each of their periods
(one period a row: within a row the steps of a period, down a column the same phase of all periods), lets two Inceptions
with a GELU between them work on the planes, unfolds them, and adds their sum, weighted by the softmax of the
frequencies' amplitudes. LayerNorm, a linear layer back to the channels, mean and deviation given back; the loss is the
mean squared error. Where this departs from the published code, and why:
- Each window has its own periods. There they are averaged over the batch, so that a window's score depends on its
  neighbours. Here windows of the same period are worked on together, and a convolution never sees a batch of one:
  others are computed alike to the bit whatever their number is, that one is not.
- A step is scored as the last of a window that ends with it: the network itself looks both ways.
- Windows are cropped by chance while training, since a score may have to do with a shorter one.
- Two frequencies of the same period (T // f) are folded once, with the sum of their weights.
- A period whose weight is below what float32 can tell from nothing is left out. Softmax of amplitudes is sharp: often
  two of five are.
- A score is the mean error of some recent steps, in the channels where it is greatest, and not that of one step in all:
  what is wrong for a while, in a few channels, is then told from a noisy step.
- Where one step is needed: the last block computes its second Inception there alone, and its first one
  where the second one looks. Tests hold all four against the plain computation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stream_detector.models.channels import most
from stream_detector.models.embedding import TokenEmbedding, positions
from stream_detector.models.inception import Inception, around, convolve
from stream_detector.models.interface import Scores
from stream_detector.models.prefixes import by_window, cropped, ending_at_each

FLATTEST = 1e-5
"""Added to a window's variance: what is flat stays so."""
NEGLIGIBLE = 2.0**-24
"""Weight of a period, relative to all, that makes no difference: half a unit in the last place of a float32."""
TOGETHER = 8
"""Windows of one period are worked on in multiples of this many. Kernels divide other numbers among threads and vectors
in ways that round differently, and then a score would depend on how many windows have the same period."""
PART = 64
"""Windows looked at in one go while the band is measured."""


@dataclass(frozen=True, slots=True)
class TimesNetConfig:
    """width, feedforward: channels of the planes before and between the Inceptions. layers: blocks.

    periods: frequencies that a block takes, at most. kernels: convolutions of an Inception. recent: steps whose errors
    are averaged into a score. top: share of the channels that make it, those with the greatest errors, at least one;
    with 1 and 1.0 it is the published score. coverage: share of normal values inside the band. The defaults are meant
    for a small CPU.
    """

    window: int
    channels: int
    width: int = 16
    feedforward: int = 16
    layers: int = 2
    periods: int = 3
    kernels: int = 6
    dropout: float = 0.0
    recent: int = 16
    top: float = 0.1
    coverage: float = 0.95


@dataclass(frozen=True, slots=True)
class TimesNetPaperConfig(TimesNetConfig):
    """As published for a data set of server machines (SMD)."""

    width: int = 64
    feedforward: int = 64
    periods: int = 5
    dropout: float = 0.1
    recent: int = 1
    top: float = 1.0


class TimesNet(nn.Module):
    """Reconstructs scaled windows (B, T, C); the squared error of the last steps is the score."""

    name: ClassVar[str] = "timesnet"
    half_band: Tensor
    position: Tensor

    def __init__(self, config: TimesNetConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = TokenEmbedding(config.channels, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            TimesBlock(config.width, config.feedforward, config.periods, config.kernels) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.channels)
        self.register_buffer("position", positions(config.window, config.width), persistent=False)
        self.register_buffer("half_band", torch.zeros(config.channels))

    @property
    def rate(self) -> float:
        """Adam's largest learning rate: wide networks learn slower."""
        return 2e-3 * min(1.0, 32 / self.config.width)

    def forward(self, windows: Tensor) -> Tensor:
        """The windows as reconstructed, (B, T, C)."""
        return self._reconstruct(windows, last=False)

    def _reconstruct(self, windows: Tensor, last: bool) -> Tensor:
        """All steps, (B, T, C), or just the last, (B, 1, C)."""
        mean = windows.mean(dim=1, keepdim=True)
        deviation = (windows.var(dim=1, keepdim=True, correction=0) + FLATTEST).sqrt()
        # A window shorter than those of the training ends at the same position.
        embedded = self.embed((windows - mean) / deviation) + self.position[-windows.shape[1] :]
        hidden = self.dropout(embedded)
        for block in self.blocks:
            # The same LayerNorm after every block, as published.
            hidden = self.norm(block(hidden, last and block is self.blocks[-1]))
        reconstructed: Tensor = self.head(hidden) * deviation + mean
        return reconstructed

    def prepare(self, windows: Tensor) -> None:
        """Nothing is computed in advance."""

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """Mean squared error of the reconstruction, over all steps."""
        windows = cropped(windows, self.training)
        return (self.forward(windows) - windows).square().mean()

    def calibrate(self, windows: Tensor) -> None:
        """Each channel's `coverage` quantile of the last step's error."""
        found = [(self._reconstruct(part, last=True) - part[:, -1:]).abs() for part in torch.split(windows, PART)]
        self.half_band.copy_(torch.quantile(torch.cat(found)[:, 0], self.config.coverage, dim=0))

    def score(self, windows: Tensor, steps: int) -> Scores:
        """Squared errors of the recent steps, averaged; expected is the reconstruction; see `Model.score`."""
        seen = ending_at_each(windows, steps)
        reconstructed = self._reconstruct(seen, last=self.config.recent == 1)
        expected = by_window(reconstructed[:, -1], len(windows), steps)
        last = slice(-min(self.config.recent, seen.shape[1]), None)
        error = by_window((reconstructed[:, last] - seen[:, last]).square().mean(dim=1), len(windows), steps)
        return Scores(
            most(error, self.config.top), expected, expected - self.half_band, expected + self.half_band, error
        )


class TimesNetPaper(TimesNet):
    """TimesNet of the published size."""

    name: ClassVar[str] = "timesnet-paper"


class TimesBlock(nn.Module):
    """Adds to each window (B, T, width) what two Inceptions make of it, folded by its strongest periods."""

    def __init__(self, width: int, feedforward: int, periods: int, kernels: int) -> None:
        super().__init__()
        self.periods = periods
        self.first = Inception(width, feedforward, kernels)
        self.second = Inception(feedforward, width, kernels)

    def forward(self, x: Tensor, last: bool) -> Tensor:
        """All steps (B, T, width), or just the last (B, 1, width)."""
        T = x.shape[1]
        weights = period_weights(x, self.periods)
        kernels = self.first.fused(), self.second.fused()
        reach = len(self.first.convolutions) - 1
        added = torch.zeros_like(x[:, -1:] if last else x)
        for period, windows in windows_by_period(weights):
            whole = -(-len(windows) // TOGETHER) * TOGETHER
            some = windows.repeat(-(-whole // len(windows)))[:whole]
            made = _transform(fold(x[some], period), kernels, (T - 1) % period if last else None, reach)
            steps = made.flatten(2).transpose(1, 2)[: len(windows), :T]
            added = added.index_add(0, windows, steps * weights[windows, period, None, None])
        return x[:, -added.shape[1] :] + added


def _transform(
    planes: Tensor, kernels: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], last: int | None, reach: int
) -> Tensor:
    """Two Inceptions on planes (N, width, H, W): all cells, or just that of the last row and column `last`."""
    first, second = kernels
    H, W = planes.shape[2:]
    if last is None:
        hidden = functional.gelu(convolve(planes, first, range(H), range(W)))
        return convolve(hidden, second, range(H), range(W))
    rows, columns = around(H - 1, reach, H), around(last, reach, W)
    hidden = functional.gelu(convolve(planes, first, rows, columns))
    row, column = H - 1 - rows.start, last - columns.start
    return convolve(hidden, second, range(row, row + 1), range(column, column + 1))


def period_weights(x: Tensor, most: int) -> Tensor:
    """The weight of each period 0 ... T in each window (B, T, width): (B, T + 1), 0 for those not taken.

    Taken are the `most` strongest frequencies by mean amplitude over the width, without the constant one; of equals
    the lower. Their weights are the softmax of the amplitudes; the period of frequency f is T // f.
    """
    T = x.shape[1]
    amplitude = torch.fft.rfft(x, dim=1).abs().mean(dim=2)[:, 1:]
    strongest, order = amplitude.sort(dim=1, descending=True, stable=True)
    period = T // (order[:, :most] + 1)
    return x.new_zeros(len(x), T + 1).scatter_add(1, period, strongest[:, :most].softmax(dim=1))


def windows_by_period(weights: Tensor) -> list[tuple[int, Tensor]]:
    """For each period that matters to any window, the indices of those windows."""
    taken = (weights > NEGLIGIBLE).T
    windows = torch.split(taken.nonzero()[:, 1], taken.sum(dim=1).tolist())
    return [(period, some) for period, some in enumerate(windows) if len(some)]


def fold(x: Tensor, period: int) -> Tensor:
    """Planes (B, width, T / period rounded up, period) of windows (B, T, width), filled up with zeros at their end."""
    B, T, width = x.shape
    rows = math.ceil(T / period)
    return functional.pad(x, (0, 0, 0, rows * period - T)).reshape(B, rows, period, width).permute(0, 3, 1, 2)
