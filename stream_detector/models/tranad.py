"""TranAD: reconstructs a window, then once more with an eye on where the first attempt failed.

After Tuli, Casale and Jennings, "TranAD: Deep Transformer Networks for Anomaly Detection in Multivariate Time Series
Data", VLDB 2022, https://arxiv.org/abs/2201.07284. Values lie in [0, 1] by the least and largest of the training. In
phase 1 an encoder sees the steps beside a focus of zeros, and two decoders reconstruct: O1 and O2. In phase 2 the focus
is (O1 - W)^2, and the second decoder reconstructs again: O2hat. Both decoders learn to reconstruct, and they contend:
the first to make the error of O2hat small, by the focus it gives, the second to make it large. The score is the mean of
both phases' squared errors, those of O1 and of O2hat.

Where this departs from the published code, and why:
- There the decoder is given the very values that it has to reconstruct, and learns to copy them, also where they are
  anomalous. Here step t is reconstructed from steps before it alone: encoder and decoders see the steps before the
  last, attention looks back only, and the query for step t is step t - 1 (with its position). So the focus stays what
  it is meant to be, errors of reconstruction, but of steps already past: an error of the step itself would tell its
  value but for a sign.
- All steps of the window but the first are reconstructed for the loss, as in the paper, not the last one alone.
- The contest of the decoders is in the paper only. See `TranAd.loss` for who gets which gradient. Small models are
  without it: the second decoder learns to reconstruct in phase 2 too, as in the published code.
- The second decoder learns phase 1 (O2) with and without the contest, as in the paper.
- Feedforward layers there are linear by mistake, here leaky; a score belongs to its own step, not to the next.
- A score is the mean error of some recent steps, in the channels where it is greatest, and not that of one step in all:
  what is wrong for a while, in a few channels, is then told from a noisy step.
- The paper's meta-learning is left out, as it is in the published code.
- As published, a step is as wide as twice the channels, with a head for each: 2 for one channel. Small models first map
  a step to a width of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from stream_detector.models.channels import most
from stream_detector.models.embedding import positions
from stream_detector.models.interface import Scores
from stream_detector.models.prefixes import by_window, ending_at_each

LEAST_SPAN = 0.1
"""A channel that moved less than this in training, in spreads, is taken to have moved as much."""
UNFITTED = 4.0
"""Before anything is fitted, values up to here on both sides count as usual, in spreads."""


@dataclass(frozen=True, slots=True)
class TranAdConfig:
    """context: steps at the end of a window that are seen, the one to be scored included, at least 2.

    width, heads: of a step inside the network; 0 for twice the channels, and for as many heads as channels. dropout:
    while training. contest: whether the second decoder learns to fail in phase 2. begun: how many epochs further the
    weights of the loss are than the training; with 0 the first epoch, often the only one, teaches no phase 2.
    recent: steps whose errors are averaged into a score, at most all of the context but the first. top: share of the
    channels that make it, those with the greatest errors, at least one; with 1 and 1.0 it is the published score.
    coverage: share of normal values inside the band.
    """

    window: int
    channels: int
    context: int = 10
    width: int = 32
    heads: int = 4
    feedforward: int = 64
    dropout: float = 0.0
    contest: bool = False
    begun: int = 1
    recent: int = 16
    top: float = 0.1
    coverage: float = 0.95


@dataclass(frozen=True, slots=True)
class TranAdPaperConfig(TranAdConfig):
    """As published."""

    width: int = 0
    heads: int = 0
    feedforward: int = 16
    dropout: float = 0.1
    contest: bool = True
    begun: int = 0
    recent: int = 1
    top: float = 1.0


class TranAd(nn.Module):
    """Reconstructs the last step of scaled windows (B, T, C) from those before it, twice; the error is the score."""

    name: ClassVar[str] = "tranad"
    half_band: Tensor
    least: Tensor
    span: Tensor
    position: Tensor

    def __init__(self, config: TranAdConfig) -> None:
        super().__init__()
        self.config = config
        C = config.channels
        width, heads = config.width or 2 * C, config.heads or C
        self.embed = nn.Linear(2 * C, width) if config.width else nn.Identity()
        self.encoder = EncoderLayer(width, heads, config.feedforward, config.dropout)
        self.first = DecoderLayer(width, heads, config.feedforward, config.dropout)
        self.second = DecoderLayer(width, heads, config.feedforward, config.dropout)
        self.head = nn.Sequential(nn.Linear(width, C), nn.Sigmoid())
        self.register_buffer("position", positions(max(config.context - 1, 1), width), persistent=False)
        self.register_buffer("half_band", torch.zeros(C))
        self.register_buffer("least", torch.full((C,), -UNFITTED))
        self.register_buffer("span", torch.full((C,), 2 * UNFITTED))

    @property
    def rate(self) -> float:
        """Adam's largest learning rate: the published widths are small and learn faster."""
        return 5e-3 if self.config.width == 0 else 2e-3

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """O1 and O2hat (B, K - 1, C), of all steps but the first of windows (B, K, C) with values in [0, 1]."""
        return self._phases(windows, last=False)

    def _phases(self, windows: Tensor, last: bool) -> tuple[Tensor, Tensor]:
        """Both phases' reconstructions; with `last`, O2hat of the last step alone, (B, 1, C)."""
        seen, asked = windows[:, :-1], windows[:, 1:]
        first = self._decode(self.first, seen, self._encode(seen, torch.zeros_like(seen)))
        # Of step t the error is known when the one after it is to be reconstructed; of the oldest there is none.
        focus = functional.pad((first - asked).square()[:, :-1], (0, 0, 1, 0))
        return first, self._decode(self.second, seen, self._encode(seen, focus), last)

    def _encode(self, seen: Tensor, focus: Tensor) -> Tensor:
        """What the encoder makes of steps (B, K - 1, C) and the focus on them: (B, K - 1, width)."""
        memory: Tensor = self.encoder(self._embedded(seen, focus))
        return memory

    def _decode(self, decoder: nn.Module, seen: Tensor, memory: Tensor, last: bool = False) -> Tensor:
        """The step after each of those seen, or with `last` after the last of them, in [0, 1]."""
        reconstructed: Tensor = self.head(decoder(self._embedded(seen, seen), memory, last))
        return reconstructed

    def _embedded(self, seen: Tensor, beside: Tensor) -> Tensor:
        """Steps and what stands beside them, as wide as the network, with positions that end at the same place."""
        together = torch.cat([seen, beside], dim=2) * math.sqrt(self.config.channels)
        embedded: Tensor = self.embed(together) + self.position[-seen.shape[1] :]
        return embedded

    def _ranged(self, windows: Tensor) -> Tensor:
        """The last `context` steps, on the scale on which the training's values lie in [0, 1]."""
        return (windows[:, -self.config.context :] - self.least) / self.span

    def prepare(self, windows: Tensor) -> None:
        """Each channel's least and largest value."""
        self._range(windows.amin(dim=(0, 1)), windows.amax(dim=(0, 1)))

    def widen(self, windows: Tensor) -> None:
        """Each channel's least and largest value, here or in what was learned from before.

        In few windows many a channel hardly moves. With the range of these alone the weights would no longer mean what
        they learned, and the first usual movement would be an error beyond all others.
        """
        least = torch.minimum(self.least, windows.amin(dim=(0, 1)).to(self.least))
        self._range(least, torch.maximum(self.least + self.span, windows.amax(dim=(0, 1)).to(self.least)))

    def _range(self, least: Tensor, largest: Tensor) -> None:
        self.least.copy_(least)
        self.span.copy_((largest - least).clamp_min(LEAST_SPAN))

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """The losses of both decoders in one, of mean squared errors over all steps but the first.

        With w = 1 / (epoch + begun) and the errors E1 of O1, E2 of O2 and E of O2hat, the paper has w E1 + (1 - w) E
        for the first decoder and w E2 - (1 - w) E for the second. What both share gets the gradients of both, and there
        E cancels. So E gives the first decoder its gradient, the second the opposite, and nothing else any; and as a
        number the sum is w (E1 + E2). Without the contest it is w (E1 + E2) + (1 - w) E for all.
        """
        ranged = self._ranged(windows)
        seen, asked = ranged[:, :-1], ranged[:, 1:]
        memory = self._encode(seen, torch.zeros_like(seen))
        both = [self._decode(decoder, seen, memory) for decoder in (self.first, self.second)]
        weight = 1 / (epoch + self.config.begun)
        plain = weight * torch.stack([(one - asked).square().mean() for one in both]).sum()
        if weight == 1:
            return plain
        parameters = self._contending() if self.config.contest else {}
        _first, again = functional_call(self, parameters, (ranged,))
        conditioned = (again - asked).square().mean()
        total: Tensor = plain + (1 - weight) * (
            conditioned - conditioned.detach() if self.config.contest else conditioned
        )
        return total

    def _contending(self) -> dict[str, Tensor]:
        """All parameters: the first decoder's, the second's with gradients turned round, the others' without any."""
        return {
            name: p if name.startswith("first.") else 2 * p.detach() - p if name.startswith("second.") else p.detach()
            for name, p in self.named_parameters()
        }

    def calibrate(self, windows: Tensor) -> None:
        """Each channel's `coverage` quantile of the last step's error in phase 1, in spreads."""
        first, _again = self._phases(self._ranged(windows), last=True)
        error = (first[:, -1] * self.span + self.least - windows[:, -1]).abs()
        self.half_band.copy_(torch.quantile(error, self.config.coverage, dim=0))

    def score(self, windows: Tensor, steps: int) -> Scores:
        """Mean over phases and recent steps of the squared error, in units of the training's range; see `Model.score`.

        The expectation is O1, as O2hat may have learned to fail. The contribution of a channel is its mean squared
        error; the channels with the greatest make the score. Where one step counts, the decoder of phase 2 works for
        that alone.
        """
        B, T, _C = windows.shape
        recent = ending_at_each(windows[:, -(self.config.context + steps - 1) :], steps)
        if steps == T:
            # Without any step before, the past is what is usual.
            recent = functional.pad(recent, (0, 0, 1, 0))
        ranged = self._ranged(recent)
        first, again = self._phases(ranged, last=self.config.recent == 1)
        last = slice(-min(self.config.recent, first.shape[1]), None)
        both = [(phase[:, last] - ranged[:, 1:][:, last]).square().mean(dim=1) for phase in (first, again)]
        error = by_window(torch.stack(both).mean(dim=0), B, steps)
        expected = by_window(first[:, -1] * self.span + self.least, B, steps)
        return Scores(
            most(error, self.config.top), expected, expected - self.half_band, expected + self.half_band, error
        )


class TranAdPaper(TranAd):
    """TranAD of the published size, with the paper's contest."""

    name: ClassVar[str] = "tranad-paper"


class Attention(nn.Module):
    """Several heads that look from a step at those up to it; with a query of one step, at all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """What the steps asking (B, Q, width) find among those asked (B, K, width); Q is K or 1."""
        parts = ((self.query, asking), (self.key, asked), (self.value, asked))
        query, key, value = (to(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for to, x in parts)
        # PyTorch's fused attention rounds windows differently by their place in the batch.
        said = query / math.sqrt(query.shape[3]) @ key.transpose(2, 3)
        if asking.shape[1] > 1:
            said = said.masked_fill(torch.ones_like(said[0, 0], dtype=torch.bool).triu(1), -torch.inf)
        mixed = said.softmax(dim=3) @ value
        found: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return found


class EncoderLayer(nn.Module):
    """Attention and feedforward, each added to what it was given; nothing is normalised, as published."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.feedforward = feedforward_of(width, feedforward, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Steps (B, K, width), each with what came before it."""
        x = x + self.drop(self.attention(x, x))
        fed: Tensor = x + self.drop(self.feedforward(x))
        return fed


class DecoderLayer(nn.Module):
    """As the encoder's layer, with attention to what the encoder made between the two."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.across = Attention(width, heads)
        self.feedforward = feedforward_of(width, feedforward, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, last: bool) -> Tensor:
        """Queries and the encoder's steps, both (B, K, width), to (B, K, width), or just the last, (B, 1, width)."""
        asking = x[:, -1:] if last else x
        asking = asking + self.drop(self.attention(asking, x))
        asking = asking + self.drop(self.across(asking, memory))
        fed: Tensor = asking + self.drop(self.feedforward(asking))
        return fed


def feedforward_of(width: int, feedforward: int, dropout: float) -> nn.Sequential:
    """Two linear layers with a leaky one between."""
    return nn.Sequential(
        nn.Linear(width, feedforward), nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
    )
