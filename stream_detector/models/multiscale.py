"""A memory of normal windows at several lengths, and a Transformer that forecasts: the default.

Three kinds of members look at the last values of a channel:
- *near*: Euclidean distance of the last w to the nearest remembered window (`memory`), for several w;
- *shape*: the same of windows less their mean, over their deviation: the level does not matter;
- *missed*: root mean square of what a patch Transformer (`forecaster`) missed of the latest patches, each foretold from
  those before it, over several numbers of patches. It also says what a value should have been, having seen nothing of
  its patch, and with what band. Before there is anything to remember, this is all there is.
Short windows see spikes, long ones see rhythms that break; the raw ones see levels, the normalised ones forms that no
level explains, and the forecast what the window itself has promised. What each member says counts relative to what it
says of held-out normal windows: above their middle, in units of the way from there to their 99th percentile. Members
are put together by a power mean of logarithms, so that those that are sure are heard. Nothing bounds what a member
says: thresholds lie where the greatest scores of a sensor lie, and faults above all of those must still differ.

A channel's memory is a matrix, and all its distances are one product with the batch: the cost does not depend on how
many sensors share it. With `shared`, one memory and one scale serve every channel: they fit any number of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from stream_detector.models.baseline import trailing
from stream_detector.models.channels import most
from stream_detector.models.forecaster import SEQUENCES, Forecaster
from stream_detector.models.interface import Scores
from stream_detector.models.memory import Memory

SEED = 0
HIGH = 0.99
LEAST_SPAN = 1e-6
SHARP = 4.0
"""How sharply a member falls silent below its middle: not at once, or a quiet sensor's scores would all be 0."""
PART = 256
"""Windows looked at in one go while the members are calibrated."""


@dataclass(frozen=True, slots=True)
class MultiscaleConfig:
    """near, shape: lengths of the windows that each kind of member looks at.

    memory, remembered: windows remembered of a channel, and of all channels together, at most. recent: numbers of
    patches that *missed* looks at. power: of the mean over members. top: share of the channels that make the score,
    those most surprised, at least one: a fault seldom shows in all. coverage: share of normal values inside the band.
    patch to feedforward: the forecaster's.
    """

    window: int
    channels: int
    near: tuple[int, ...] = (16, 32, 64, 128)
    shape: tuple[int, ...] = (32, 64, 128)
    memory: int = 4096
    remembered: int = 40_000
    recent: tuple[int, ...] = (1, 4, 16)
    power: float = 3.0
    top: float = 0.1
    coverage: float = 0.95
    patch: int = 8
    width: int = 32
    layers: int = 2
    heads: int = 4
    feedforward: int = 64
    shared: bool = False


class Multiscale(nn.Module):
    """Scores scaled windows (B, T, C) by their distance from what is remembered and from what was foretold."""

    name: ClassVar[str] = "multiscale"
    rate: ClassVar[float] = 1e-3
    carried: ClassVar[str] = "forecaster."
    middle: Tensor
    span: Tensor
    half_band: Tensor

    def __init__(self, config: MultiscaleConfig) -> None:
        super().__init__()
        self.config = config
        T, C = config.window, 1 if config.shared else config.channels
        near, shape = (_within(lengths, T) for lengths in (config.near, config.shape))
        self.memory = Memory(C, min(config.memory, config.remembered // C), near, shape)
        self.forecaster = Forecaster(T, config.patch, config.width, config.layers, config.heads, config.feedforward)
        members = self.memory.members + len(config.recent)
        self.register_buffer("middle", torch.zeros(members, C))
        self.register_buffer("span", torch.ones(members, C))
        self.register_buffer("half_band", torch.full((C,), 2.0))

    def prepare(self, windows: Tensor) -> None:
        """Remember some of the windows."""
        self.memory.remember(self._by_channel(windows.transpose(1, 2)), torch.Generator().manual_seed(SEED))

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """The forecaster's mean squared error; the rest is not learned by steps."""
        return self.losses(windows).mean()

    def losses(self, windows: Tensor) -> Tensor:
        """The loss of each window, of some channels if there are many: (B,)."""
        B, T, C = windows.shape
        if B * C > SEQUENCES:
            some = torch.randperm(C)[: max(1, SEQUENCES // B)]
            windows = windows[:, :, some.to(windows.device)]
        return self.forecaster.losses(windows.transpose(1, 2).reshape(-1, T)).reshape(B, -1).mean(dim=1)

    def calibrate(self, windows: Tensor) -> None:
        """What each member says of normal windows; the band that holds `coverage` of the values."""
        looked = [self._look(part, 1) for part in torch.split(windows, PART)]
        said = torch.cat([members[:, :, 0] for members, _ in looked], dim=1)
        missed = (torch.cat([expected[:, 0] for _, expected in looked]) - windows[:, -1]).abs()
        if self.config.shared:
            said, missed = said.flatten(1)[..., None], missed.flatten()[:, None]
        middle = said.quantile(0.5, dim=1)
        span = said.quantile(HIGH, dim=1) - middle
        # A channel without any spread is held to what is usual in the others.
        usual = torch.where(span > 0, span, torch.nan).nanmedian(dim=1, keepdim=True).values.nan_to_num(LEAST_SPAN)
        self.middle[-len(said) :] = middle
        self.span[-len(said) :] = torch.maximum(span, usual).clamp_min(LEAST_SPAN)
        self.half_band.copy_(missed.quantile(self.config.coverage, dim=0))

    def score(self, windows: Tensor, steps: int) -> Scores:
        """Power mean, over the members, of the logarithm of their surprise; see `Model.score`."""
        said, expected = self._look(windows, steps)
        part = together(self.surprise(said), self.config.power)
        score = most(part, self.config.top).exp()
        # Not less 1: the thresholds look at the logarithm of a score, which is then what the members said on average.
        return Scores(score, expected, expected - self.half_band, expected + self.half_band, part)

    def surprise(self, said: Tensor) -> Tensor:
        """Logarithms (members, B, S, C) of how far above its middle is what each member said, in spans; at least 0."""
        middle, span = self.middle[-len(said) :, None, None], self.span[-len(said) :, None, None]
        return nn.functional.softplus((said - middle) / span, SHARP).log1p()

    def _look(self, windows: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """What each member says of each of the last steps (members, B, S, C), and what was expected there (B, S, C)."""
        B, T, C = windows.shape
        seen = trailing(windows, steps, self.memory.lengths[-1]).flatten(0, 1)
        distances = self.memory.distances(self._by_channel(seen))
        if not self.config.shared:
            distances = distances.transpose(1, 2)
        each = windows.transpose(1, 2).reshape(B * C, T)
        expected, missed = self.forecaster.looked_back(each, steps, self.config.recent)
        missed = missed.reshape(-1, B, C, steps).transpose(2, 3)
        said = torch.cat([distances.reshape(-1, B, steps, C), missed])
        return said, expected.reshape(B, C, steps).transpose(1, 2)

    def _by_channel(self, seen: Tensor) -> Tensor:
        """(N, C, w) to (C, N, w), or to (1, N * C, w) if all channels share."""
        return seen.flatten(0, 1)[None] if self.config.shared else seen.transpose(0, 1)


def together(surprise: Tensor, power: float) -> Tensor:
    """The power mean over the first dimension, the members."""
    return surprise.pow(power).mean(dim=0).pow(1 / power)


def _within(lengths: Sequence[int], window: int) -> list[int]:
    """The lengths that fit the window; the window itself for those that do not."""
    return sorted({min(length, window) for length in lengths})
