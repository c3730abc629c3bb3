"""Anomaly Transformer: where a step looks, beside where its neighbourhood is, tells how normal it is.

After Xu et al., "Anomaly Transformer: Time Series Anomaly Detection with Association Discrepancy", ICLR 2022,
https://arxiv.org/abs/2110.02642. A window is embedded (circular convolution and sinusoidal position) and reconstructed
by layers of attention. Beside each layer's attention S (the series association) stands the prior association P: of
each step and head a Gaussian of the distance in time, whose width is learned. Their discrepancy, KL(P||S) + KL(S||P),
is small for steps that find nothing like them but their neighbours: anomalies. Training is a minimax: S moves away from
P, P follows S, both beside the mean squared error. The score of a step is its squared error times the softmax, over
the window's steps, of the negative discrepancy. Attention has no dropout, as published.

Where this departs from the published code, and why:
- A step is scored as the last of a window that ends with it: the network itself looks both ways. There, windows do not
  overlap, so scores from different places of a window, which are no measures of the same thing, stand in one row.
- One loss has the gradient of the two backward passes, see `loss`.
- The published temperature of the softmax, 50, leaves all the weight of a window to the few steps of least discrepancy;
  the weight of most others is less than a float32 can hold. Small models have 0.1, with which the error still counts,
  and a weight has a least value.
- Windows are cropped by chance while training, since a score may have to do with a shorter one.
- The prior is computed at distances up to `REACH` alone: beyond it is too small for a float32 to tell from nothing.
- A score is the mean weighted error of some recent steps, in the channels where it is greatest, and not that of one
  step in all: what is wrong for a while, in a few channels, is then told from a noisy step.
- Where one step is scored the last layer's values are mixed at the last step alone. The discrepancy is needed of all
  steps, for the softmax. Tests hold both against the plain computation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from stream_detector.models.channels import most
from stream_detector.models.embedding import TokenEmbedding, positions
from stream_detector.models.interface import Scores
from stream_detector.models.prefixes import by_window, cropped, ending_at_each

REACH = 15
"""Steps on either side beyond which the widest prior (a deviation of about 2 steps) adds nothing to `LEAST_SHARE`."""
LEAST_SHARE = 1e-4
"""Added to every share of attention before its logarithm is taken, as published."""
FAINTEST = -60.0
"""Logarithm of the least weight of a step: with less, products with small errors would be 0, all scores alike."""
PART = 16
"""Windows worked on in one go for a score: what attention takes of memory for more does not stay in a cache."""


@dataclass(frozen=True, slots=True)
class AnomalyTransformerConfig:
    """width, layers, heads, feedforward: shape of the network; the defaults are meant for a small CPU.

    weight: of the discrepancy in the loss. temperature: what the discrepancy is multiplied with before its softmax.
    recent: steps whose weighted errors are averaged into a score. top: share of the channels that make it, those with
    the greatest, at least one; with 1 and 1.0 it is the published score.
    coverage: share of normal values inside the band.
    """

    window: int
    channels: int
    width: int = 32
    layers: int = 2
    heads: int = 4
    feedforward: int = 64
    weight: float = 3.0
    temperature: float = 0.1
    recent: int = 16
    top: float = 0.1
    coverage: float = 0.95


@dataclass(frozen=True, slots=True)
class AnomalyTransformerPaperConfig(AnomalyTransformerConfig):
    """As published."""

    width: int = 512
    layers: int = 3
    heads: int = 8
    feedforward: int = 512
    temperature: float = 50.0
    recent: int = 1
    top: float = 1.0


class AnomalyTransformer(nn.Module):
    """Reconstructs scaled windows (B, T, C), and weighs the errors of the last steps by where attention looks."""

    name: ClassVar[str] = "anomaly-transformer"
    half_band: Tensor
    position: Tensor

    def __init__(self, config: AnomalyTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = TokenEmbedding(config.channels, config.width)
        self.layers = nn.ModuleList(
            AnomalyLayer(config.width, config.heads, config.feedforward) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.channels)
        self.register_buffer("position", positions(config.window, config.width), persistent=False)
        self.register_buffer("half_band", torch.zeros(config.channels))

    @property
    def rate(self) -> float:
        """Adam's largest learning rate: wide networks learn slower (the published one, 512 wide, at 1e-4)."""
        return 2e-3 * min(1.0, 32 / self.config.width)

    def forward(self, windows: Tensor) -> Tensor:
        """The windows as reconstructed, (B, T, C)."""
        return self._run(windows, last=False)[0]

    def _run(self, windows: Tensor, last: bool) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The reconstruction of all steps, (B, T, C), or of just the last, (B, 1, C); each layer's S and P."""
        # A window shorter than those of the training ends at the same position.
        hidden = self.embed(windows) + self.position[-windows.shape[1] :]
        associations = []
        for layer in self.layers:
            hidden, series, prior = layer(hidden, last and layer is self.layers[-1])
            associations.append((series, prior))
        return self.head(self.norm(hidden)), associations

    def prepare(self, windows: Tensor) -> None:
        """Nothing is computed in advance."""

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """Twice the mean squared error; the gradient is that of both passes of the minimax.

        With error E and mean discrepancy D(S, P), published are two backward passes into one step: of E - weight * D
        with P held (S moves away), and of E + weight * D with S held (P follows). Their sum has the value 2 E, for D
        cancels, and the gradient of 2 E + weight * D where that towards S is turned round.
        """
        windows = cropped(windows, self.training)
        reconstructed, associations = self._run(windows, last=False)
        apart = torch.stack([discrepancy(turned(series), prior) for series, prior in associations]).mean()
        return 2 * (reconstructed - windows).square().mean() + self.config.weight * (apart - apart.detach())

    def calibrate(self, windows: Tensor) -> None:
        """Each channel's `coverage` quantile of the last step's error."""
        found = [(self._run(part, last=True)[0] - part[:, -1:]).abs() for part in torch.split(windows, PART)]
        self.half_band.copy_(torch.quantile(torch.cat(found)[:, 0], self.config.coverage, dim=0))

    def score(self, windows: Tensor, steps: int) -> Scores:
        """Weighted squared errors of the recent steps, averaged; unweighted where the window has one step only.

        The expectation is the reconstruction, the contribution of a channel its weighted squared error. With several
        steps the softmax is over the T - steps + 1 of each step's own window. See `Model.score`.
        """
        found = [self._last(part) for part in torch.split(ending_at_each(windows, steps), PART)]
        expected, error = (by_window(torch.cat(parts), len(windows), steps) for parts in zip(*found, strict=True))
        return Scores(
            most(error, self.config.top), expected, expected - self.half_band, expected + self.half_band, error
        )

    def _last(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction of the last step of windows (B, T, C), and the recent steps' weighted error: (B, C) both."""
        reconstructed, associations = self._run(windows, last=self.config.recent == 1)
        apart = torch.stack([discrepancy(series, prior) for series, prior in associations]).sum(dim=0)
        last = slice(-min(self.config.recent, windows.shape[1]), None)
        weight = (-self.config.temperature * apart).log_softmax(dim=1)[:, last].clamp_min(FAINTEST).exp()
        error = (reconstructed[:, last] - windows[:, last]).square() * weight[..., None]
        return reconstructed[:, -1], error.mean(dim=1)


class AnomalyTransformerPaper(AnomalyTransformer):
    """Anomaly Transformer of the published size."""

    name: ClassVar[str] = "anomaly-transformer-paper"


class AnomalyLayer(nn.Module):
    """Attention whose shares are kept, with the prior beside it; feedforward; both added, then normalised."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.sigma = nn.Linear(width, heads)
        self.out = nn.Linear(width, width)
        self.attended = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width))
        self.fed = nn.LayerNorm(width)

    def forward(self, x: Tensor, last: bool) -> tuple[Tensor, Tensor, Tensor]:
        """All steps (B, T, width), or just the last (B, 1, width); S (B, H, T, T) and P (B, H, T, 2 * reach + 1)."""
        query, key, value = (self._by_head(to(x)) for to in (self.query, self.key, self.value))
        series = (query / math.sqrt(query.shape[3]) @ key.transpose(2, 3)).softmax(dim=3)
        mixed = (series[:, :, -1:] if last else series) @ value
        x_seen = x[:, -1:] if last else x
        hidden = self.attended(x_seen + self.out(mixed.transpose(1, 2).flatten(2)))
        return self.fed(hidden + self.feedforward(hidden)), series, prior(deviation(self.sigma(x)).transpose(1, 2))

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, H, T, width / H)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


def deviation(x: Tensor) -> Tensor:
    """The prior's deviation, in steps, of what the network says: 3^(sigmoid(5 x) + 1e-5) - 1, from 1e-5 to 2."""
    return torch.expm1(math.log(3) * ((5 * x).sigmoid() + 1e-5))


def nearby(T: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Distances (2 * reach + 1,) of the steps near one of T steps, and which steps these are, (T, 2 * reach + 1).

    Steps before the first or after the last have numbers of none.
    """
    reach = min(REACH, T - 1)
    distance = torch.arange(-reach, reach + 1, device=device)
    return distance, torch.arange(T, device=device)[:, None] + distance


def prior(sigma: Tensor) -> Tensor:
    """The prior association (B, H, T, 2 * reach + 1) of each step with those nearby; its deviations are (B, H, T).

    A Gaussian of the distance, of sum 1 over the steps of the window; 0 for those outside.
    """
    distance, step = nearby(sigma.shape[2], sigma.device)
    exponent = distance.square() / (-2 * sigma.square())[..., None]
    return exponent.masked_fill((step < 0) | (step >= len(step)), -torch.inf).softmax(dim=3)


def discrepancy(series: Tensor, prior: Tensor) -> Tensor:
    """KL(P||S) + KL(S||P) of each step (B, T), the mean over the heads, for S (B, H, T, T) and the P of those nearby.

    With `LEAST_SHARE` inside the logarithms both together are the sum of (S - P) (log S - log P). Where P is 0, as it
    is far from a step, the logarithms' difference is log(1 + S / LEAST_SHARE).
    """
    T = series.shape[3]
    _distance, step = nearby(T, series.device)
    inside = (step >= 0) & (step < T)
    near = series.gather(3, step.clamp(0, T - 1).expand(*series.shape[:2], -1, -1)) * inside
    # Of all steps as if the prior were 0 there; what that makes of those nearby is taken off again. In place, since
    # memory for another (B, H, T, T) takes longer to come by than its logarithms.
    apart = torch.einsum("bhts,bhts->bht", series, (series / LEAST_SHARE).log1p_())
    ratio = (near + LEAST_SHARE).log() - (prior + LEAST_SHARE).log()
    close = (near - prior) * ratio * inside - near * (near / LEAST_SHARE).log1p()
    return (apart + close.sum(dim=3)).mean(dim=1)


def turned(x: Tensor) -> Tensor:
    """The same values, with gradients of the opposite sign."""
    return 2 * x.detach() - x
