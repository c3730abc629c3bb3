"""The models with one fault of the published code put back, written from a description of it.

With every switch off a class here is the mended model, which a test holds against the package's own.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stream_detector.models.anomaly_transformer import FAINTEST, AnomalyTransformer, discrepancy
from stream_detector.models.encoder import Encoder, EncoderConfig
from stream_detector.models.inception import convolve
from stream_detector.models.interface import Scores
from stream_detector.models.timesnet import TimesBlock, TimesNet, TimesNetConfig, fold
from stream_detector.models.tranad import Attention, TranAd, TranAdConfig


class WholeWindows(AnomalyTransformer):
    """Anomaly Transformer that scores steps where they stand in the window, later ones seen."""

    unbounded: ClassVar[bool] = False
    """Whether a step's weight may be as small as a float32 can hold, as published."""

    def score(self, windows: Tensor, steps: int) -> Scores:
        """The last `steps` of the window; with all of them nothing overlaps."""
        expected, associations = self._run(windows, last=False)
        apart = torch.stack([discrepancy(series, prior) for series, prior in associations]).sum(dim=0)
        weight = (-self.config.temperature * apart).log_softmax(dim=1)
        weight = (weight if self.unbounded else weight.clamp_min(FAINTEST)).exp()
        return _squared(windows, expected, steps, weight)


class Unbounded(WholeWindows):
    """The same with weights as small as they come."""

    unbounded = True


class SharpWeights(AnomalyTransformer):
    """Anomaly Transformer as mended, but for weights as small as they come."""

    def score(self, windows: Tensor, steps: int) -> Scores:
        """One step of each window."""
        expected, associations = self._run(windows, last=True)
        apart = torch.stack([discrepancy(series, prior) for series, prior in associations]).sum(dim=0)
        weight = (-self.config.temperature * apart).softmax(dim=1)[:, -1:]
        return _squared(windows, expected, 1, weight)


class FaultyTranAd(TranAd):
    """TranAD, without the contest, with switches.

    leaks: the decoders are asked with the step that they reconstruct. own_focus: the focus on a step holds its own
    error. last_only: only the last step of a window is learned. linear: the feedforward's bend is none. open: attention
    looks both ways.
    """

    leaks: ClassVar[bool] = False
    own_focus: ClassVar[bool] = False
    last_only: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    open: ClassVar[bool] = False

    def __init__(self, config: TranAdConfig) -> None:
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, nn.LeakyReLU) and self.linear:
                module.negative_slope = 1.0
            if isinstance(module, Attention) and self.open:
                module.__class__ = OpenAttention

    def _phases(self, windows: Tensor, last: bool) -> tuple[Tensor, Tensor]:
        seen, asked = self._seen(windows), windows[:, 1:]
        first = self._decode(self.first, seen, self._encode(seen, torch.zeros_like(seen)))
        focus = (first - asked).square()
        if not self.own_focus:
            focus = functional.pad(focus[:, :-1], (0, 0, 1, 0))
        return first, self._decode(self.second, seen, self._encode(seen, focus), last)

    def _seen(self, windows: Tensor) -> Tensor:
        return windows[:, 1:] if self.leaks else windows[:, :-1]

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """With the weights of `TranAd.loss`: w (E1 + E2) + (1 - w) E."""
        ranged = self._ranged(windows)
        seen, asked = self._seen(ranged), ranged[:, 1:]
        memory = self._encode(seen, torch.zeros_like(seen))
        both = [self._decode(decoder, seen, memory) for decoder in (self.first, self.second)]
        counted = slice(-1, None) if self.last_only else slice(None)
        errors = [(one - asked)[:, counted].square().mean() for one in (*both, self.forward(ranged)[1])]
        weight = 1 / (epoch + self.config.begun)
        return weight * (errors[0] + errors[1]) + (1 - weight) * errors[2]


class OpenAttention(Attention):
    """Attention without a mask."""

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """Every step among all."""
        ones = [super(OpenAttention, self).forward(asking[:, i : i + 1], asked) for i in range(asking.shape[1])]
        return torch.cat(ones, dim=1)


class LeakingTranAd(FaultyTranAd):
    """The identity leak."""

    leaks = True


class OwnFocusTranAd(FaultyTranAd):
    """The focus tells a step's value but for a sign."""

    own_focus = True


class LastOnlyTranAd(FaultyTranAd):
    """Learned from one step a window."""

    last_only = True


class LinearTranAd(FaultyTranAd):
    """`LeakyReLU(True)`: a slope of 1 on both sides."""

    linear = True


class PublishedTranAd(FaultyTranAd):
    """All of them."""

    leaks = own_focus = last_only = linear = open = True


class BatchPeriodBlock(TimesBlock):
    """Folds all windows of a batch by the strongest frequencies of their average."""

    def forward(self, x: Tensor, last: bool) -> Tensor:
        """As `TimesBlock`, plainly."""
        T = x.shape[1]
        amplitude = torch.fft.rfft(x, dim=1).abs().mean(dim=2)[:, 1:]
        common = amplitude.mean(dim=0).topk(min(self.periods, amplitude.shape[1])).indices
        weights = amplitude[:, common].softmax(dim=1)
        out = x
        for number, frequency in enumerate(common.tolist()):
            planes = fold(x, T // (frequency + 1))
            rows, columns = (range(size) for size in planes.shape[2:])
            hidden = functional.gelu(convolve(planes, self.first.fused(), rows, columns))
            made = convolve(hidden, self.second.fused(), rows, columns)
            out = out + made.flatten(2).transpose(1, 2)[:, :T] * weights[:, number, None, None]
        return out[:, -1:] if last else out


class BatchPeriods(TimesNet):
    """TimesNet whose periods are those of the batch."""

    def __init__(self, config: TimesNetConfig) -> None:
        super().__init__(config)
        for block in self.blocks:
            block.__class__ = BatchPeriodBlock


class WholeWindowsTimesNet(TimesNet):
    """TimesNet that scores steps where they stand in the window, later ones seen."""

    def score(self, windows: Tensor, steps: int) -> Scores:
        """The last `steps` of the window; with all of them nothing overlaps."""
        return _squared(windows, self.forward(windows), steps, torch.ones_like(windows[..., 0]))


class Copying(Encoder):
    """An encoder that sees, both ways, what it reconstructs; its squared error is the score."""

    def forward(self, windows: Tensor) -> Tensor:
        """The window as reconstructed, for each horizon alike: (B, T, H, C)."""
        hidden = self.encoder(self.embed(windows) + self.position[-windows.shape[1] :])
        made: Tensor = self.head(hidden)
        return made.unflatten(2, (len(self.horizons), windows.shape[2]))

    def _missed(self, windows: Tensor) -> list[Tensor]:
        return [(self.forward(windows)[:, :, 0] - windows).square()]

    def calibrate(self, windows: Tensor) -> None:
        """Nothing: the score is the plain error."""

    def score(self, windows: Tensor, steps: int) -> Scores:
        """One step of each window."""
        return _squared(windows, self.forward(windows)[:, -1:, 0], steps, torch.ones_like(windows[:, -1:, 0]))


class Unplaced(Encoder):
    """An encoder that does not know which step is where."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.position.requires_grad_(False).zero_()


def _squared(windows: Tensor, expected: Tensor, steps: int, weight: Tensor) -> Scores:
    """Weighted squared errors of the last steps. expected: (B, steps or more, C). weight: (B, as many)."""
    expected = expected[:, -steps:]
    error = (expected - windows[:, -steps:]).square() * weight[:, -steps:, None]
    return Scores(error.mean(dim=2), expected, expected, expected, error)
