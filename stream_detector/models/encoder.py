"""A plain Transformer encoder that reconstructs its window, each step from steps before it.

The classic set-up (encoder of Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, used as an autoencoder): embed
each step, add its position, some encoder layers, a linear head back to the channels, mean squared error, Adam. Where
this departs from it, and why:
- Attention looks back only, and a step is reconstructed from what was known some steps before it. A network that sees
  the value it has to reconstruct learns to copy it, also where it is anomalous. No score uses a later step, and one
  pass scores many steps.
- Each step is reconstructed from several distances, and errors at distance h are averaged over h steps with their
  signs: noise averages out, a shift or a drift stays. From one step away a jump is a surprise once; from further away a
  new level stays one for a while. Each counts relative to what is usual for its channel and distance.
- A network follows a level that it has never seen, and then its errors are small. So the recent values' distance from
  their channel's centre counts too, where it is more than the error of one step (`lasting`).
- Of the channels, those most surprised make the score: a fault seldom shows in all.
- With `shared`, the same weights foretell each channel on its own: they fit any number of channels, and see nothing of
  how channels hang together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from stream_detector.models import look_back
from stream_detector.models.channels import most
from stream_detector.models.interface import Scores

LEAST_ERROR = 1e-2
"""A channel that is foretold better than this, in spreads, is not judged more finely."""
USUAL = (0.9, 1.645)
"""The usual error is read off this quantile as if errors were normal: anomalies among the windows hardly count."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Shape of the network, and how errors become a score.

    horizons: steps between what is known and what is reconstructed, rising. recent, lasting: steps and weight of what
    is averaged without signs. top: share of the channels that count, at least one. coverage: share of normal values
    inside the band. shared: whether one set of weights serves every channel on its own.
    """

    window: int
    channels: int
    width: int = 32
    layers: int = 2
    heads: int = 2
    feedforward: int = 64
    horizons: tuple[int, ...] = (1, 8, 32)
    recent: int = 50
    lasting: float = 1.25
    top: float = 0.1
    coverage: float = 0.95
    shared: bool = False


class Encoder(nn.Module):
    """Foretells each step of scaled windows (B, T, C) from those before; the surprise is the score."""

    name: ClassVar[str] = "encoder"
    half_band: Tensor
    usual: Tensor
    look_back: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        T, C, width = config.window, 1 if config.shared else config.channels, config.width
        self.horizons = [h for h in config.horizons if h <= max(1, T // 3)]
        self.embed = nn.Linear(C, width)
        self.position = nn.Parameter(0.02 * torch.randn(T, width))
        self.encoder = look_back.layers(config.layers, width, config.heads, config.feedforward)
        self.head = nn.Linear(width, len(self.horizons) * C)
        self.register_buffer("half_band", torch.zeros(C))
        self.register_buffer("usual", torch.ones(len(self.horizons), C))
        self.register_buffer("look_back", look_back.mask(T), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """What is expected (B, T, H, C): at step t and horizon h, of step t + h."""
        seen, T = self._apart(windows), windows.shape[1]
        # A window shorter than those of the training ends at the same position.
        hidden = self.encoder(self.embed(seen) + self.position[-T:], mask=self.look_back[:T, :T])
        expected: Tensor = self.head(hidden).unflatten(2, (len(self.horizons), seen.shape[2]))
        if self.config.shared:
            B, T, C = windows.shape
            expected = expected.reshape(B, C, T, len(self.horizons)).permute(0, 2, 3, 1)
        return expected

    def _apart(self, windows: Tensor) -> Tensor:
        """Windows as the network takes them: with shared weights, every channel as a window of its own."""
        return windows.transpose(1, 2).flatten(0, 1).unsqueeze(2) if self.config.shared else windows

    def prepare(self, windows: Tensor) -> None:
        """Nothing is computed in advance."""

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """Mean squared error over all steps that can be foretold, and over the horizons."""
        return torch.stack([missed.mean() for missed in self._missed(windows)]).mean()

    def losses(self, windows: Tensor) -> Tensor:
        """The loss of each window: (B,)."""
        return torch.stack([missed.mean((1, 2)) for missed in self._missed(windows)]).mean(dim=0)

    def _missed(self, windows: Tensor) -> list[Tensor]:
        """Squared errors of all steps that can be foretold, by horizon h: (B, T - h, C)."""
        expected = self.forward(windows)
        return [(expected[:, :-h, i] - windows[:, h:]).square() for i, h in enumerate(self.horizons)]

    def calibrate(self, windows: Tensor) -> None:
        """Each channel's usual error by horizon, and the `coverage` quantile of its error at the longest."""
        windows = self._apart(windows)
        expected = self.forward(windows)
        usual = torch.quantile(self._errors(expected, windows, 1)[:, 0].abs(), USUAL[0], dim=0) / USUAL[1]
        self.usual.copy_(usual.clamp_min(LEAST_ERROR))
        error = (self._of_longest(expected, 1) - windows[:, -1:]).abs()[:, 0]
        self.half_band.copy_(torch.quantile(error, self.config.coverage, dim=0))

    def _errors(self, expected: Tensor, windows: Tensor, steps: int) -> Tensor:
        """Mean signed error over the h steps up to each of the last `steps`, for each horizon h: (B, steps, H, C)."""
        errors = []
        for i, h in enumerate(self.horizons):
            error = (expected[:, :-h, i] - windows[:, h:])[:, 1 - steps - h :]
            errors.append(error.unfold(1, h, 1).mean(dim=3))
        return torch.stack(errors, dim=2)

    def _of_longest(self, expected: Tensor, steps: int) -> Tensor:
        """What the longest horizon expected of the last `steps` steps: (B, steps, C)."""
        T, h = expected.shape[1], self.horizons[-1]
        return expected[:, T - steps - h : T - h, -1]

    def score(self, windows: Tensor, steps: int) -> Scores:
        """Mean surprise in the most surprised channels, about 3 when all is normal; see `Model.score`."""
        expected = self.forward(windows)
        surprise = (self._errors(expected, windows, steps).abs() / self.usual).mean(dim=2)
        part = surprise + self.config.lasting * self._lasting(expected, windows, steps)
        score = most(part, self.config.top)
        middle = self._of_longest(expected, steps)
        return Scores(score, middle, middle - self.half_band, middle + self.half_band, part)

    def _lasting(self, expected: Tensor, windows: Tensor, steps: int) -> Tensor:
        """Root mean square, over the recent steps, of the greater of one-step error and value: (B, steps, C)."""
        recent = min(self.config.recent, windows.shape[1] // 2)
        values = windows[:, 1 - steps - recent :]
        errors = (expected[:, :-1, 0] - windows[:, 1:])[:, 1 - steps - recent :] / self.usual[0]
        return torch.maximum(errors.square(), values.square()).unfold(1, recent, 1).mean(dim=3).sqrt()
