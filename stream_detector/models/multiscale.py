"""A memory of normal windows at several lengths, beside what their principal components leave unexplained.

Three kinds of members look at the last w values of a channel, at several lengths w:
- *near*: Euclidean distance to the nearest remembered window (k-NN of subsequences, k = 1);
- *shape*: the same of windows less their mean, over their deviation: the level does not matter;
- *rest*: squared length of what the principal components do not explain (Sub-PCA).
Short windows see spikes, long ones see rhythms that break; the raw ones see levels, the normalised ones forms that no
level explains. What each member says counts relative to what it says of held-out normal windows: above their middle,
in units of the way from there to their 99th percentile. Members are put together by root mean square of logarithms, so
that one that is sure is heard, and none drowns the others.

A channel's memory is a matrix, and all its distances are one product with the batch: the cost does not depend on how
many sensors share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from stream_detector.models.baseline import trailing
from stream_detector.models.interface import Scores

SEED = 0
FLATTEST = 0.1
"""A window flatter than this, in spreads of its sensor, is not stretched further: its noise is not a form."""
WIDE = 10
"""Channels from which on a channel remembers fewer windows."""
HIGH = 0.99
LEAST_SPAN = 1e-6
TOP = 0.1
"""Share of the channels that make the score, those most surprised, at least one: a fault seldom shows in all."""
COVERAGE = 0.95
"""Share of normal values inside the band."""
PART = 256
"""Windows looked at in one go while the members are calibrated."""


@dataclass(frozen=True, slots=True)
class MultiscaleConfig:
    """near, shape, rest: lengths of the windows that each kind of member looks at.

    memory, wide_memory: windows remembered of a channel, and that of many channels. kept, most: share of the variance
    that principal components explain, and their number at most, as a share of the length.
    """

    window: int
    channels: int
    near: tuple[int, ...] = (16, 32, 64, 128)
    shape: tuple[int, ...] = (32, 64, 128)
    rest: tuple[int, ...] = (16, 32, 64, 128)
    memory: int = 4096
    wide_memory: int = 1536
    kept: float = 0.9
    most: float = 0.5


class Multiscale(nn.Module):
    """Scores scaled windows (B, T, C) by their distance from what is remembered as normal."""

    name: ClassVar[str] = "multiscale"
    known: Tensor
    middle: Tensor
    span: Tensor
    half_band: Tensor

    def __init__(self, config: MultiscaleConfig) -> None:
        super().__init__()
        self.config = config
        T, C = config.window, config.channels
        self.near, self.shape, self.rest = (_within(of, T) for of in (config.near, config.shape, config.rest))
        self.longest = max(*self.near, *self.shape)
        memory = config.memory if C < WIDE else config.wide_memory
        members = len(self.near) + len(self.shape) + len(self.rest)
        self.register_buffer("known", torch.zeros(C, memory, self.longest))
        for w in self.rest:
            self.register_buffer(f"mean_{w}", torch.zeros(C, w))
            self.register_buffer(f"residual_{w}", torch.eye(w).repeat(C, 1, 1))
        self.register_buffer("middle", torch.zeros(members, C))
        self.register_buffer("span", torch.ones(members, C))
        self.register_buffer("half_band", torch.full((C,), 2.0))

    def prepare(self, windows: Tensor) -> None:
        """Remember some of the windows, each at most once, and find the components of all."""
        chance = torch.Generator().manual_seed(SEED)
        memory = self.known.shape[1]
        chosen = torch.randperm(len(windows), generator=chance)
        chosen = chosen.repeat(-(-memory // len(windows)))[:memory]
        self.known.copy_(windows[chosen, -self.longest :].permute(2, 0, 1))
        for w in self.rest:
            mean, residual = _components(windows[:, -w:].permute(2, 0, 1), self.config.kept, self.config.most)
            self.get_buffer(f"mean_{w}").copy_(mean)
            self.get_buffer(f"residual_{w}").copy_(residual)

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """Nothing is learned by gradients."""
        return windows.new_zeros(())

    def calibrate(self, windows: Tensor) -> None:
        """What each member says of normal windows; the band that holds `COVERAGE` of the values."""
        found = torch.cat([self._members(part, 1)[0][:, :, 0] for part in torch.split(windows, PART)], dim=1)
        middle = found.quantile(0.5, dim=1)
        span = found.quantile(HIGH, dim=1) - middle
        usual = torch.where(span > 0, span, torch.nan).nanmedian(dim=1, keepdim=True).values.nan_to_num(LEAST_SPAN)
        self.middle.copy_(middle)
        self.span.copy_(torch.maximum(span, usual).clamp_min(LEAST_SPAN))
        expected = torch.cat([self._members(part, 1)[1][:, 0] for part in torch.split(windows, PART)])
        self.half_band.copy_((expected - windows[:, -1]).abs().quantile(COVERAGE, dim=0))

    def score(self, windows: Tensor, steps: int) -> Scores:
        """Root mean square, over the members, of the logarithm of their surprise; see `Model.score`."""
        said, expected = self._members(windows, steps)
        surprise = ((said - self.middle[:, None, None]) / self.span[:, None, None]).clamp_min(0).log1p()
        part = surprise.square().mean(dim=0).sqrt()
        most = part.topk(max(1, round(TOP * windows.shape[2])), dim=2).values.mean(dim=2)
        return Scores(most.expm1(), expected, expected - self.half_band, expected + self.half_band, part)

    def _members(self, windows: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """What each member says of each of the last steps (members, B, steps, C), and the nearest form's last value."""
        said = []
        for w in self.near:
            seen = _by_channel(trailing(windows, steps, w))
            said.append(_distance(seen, self.known[..., -seen.shape[2] :])[0])
        for w in self.shape:
            seen, middle, deviation = _form(_by_channel(trailing(windows, steps, w)))
            distance, nearest = _distance(seen, _form(self.known[..., -seen.shape[2] :])[0])
            said.append(distance)
            if w == self.shape[len(self.shape) // 2]:
                expected = nearest[..., -1] * deviation + middle
        for w in self.rest:
            seen = _by_channel(trailing(windows, steps, w))
            missing = w - seen.shape[2]
            away = nn.functional.pad(seen - self.get_buffer(f"mean_{w}")[:, None, missing:], (missing, 0))
            said.append((away @ self.get_buffer(f"residual_{w}")).square().sum(dim=2))
        C, B = windows.shape[2], len(windows)
        by_step = torch.stack(said).reshape(len(said), C, B, steps)
        return by_step.permute(0, 2, 3, 1), expected.reshape(C, B, steps).permute(1, 2, 0)


def _within(lengths: Sequence[int], window: int) -> list[int]:
    """The lengths that fit the window; the window itself for those that do not."""
    return sorted({min(length, window) for length in lengths})


def _by_channel(seen: Tensor) -> Tensor:
    """(B, S, C, w) to (C, B * S, w)."""
    return seen.permute(2, 0, 1, 3).flatten(1, 2)


def _form(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Windows (..., w) less their mean, over their deviation; with both (...)."""
    mean = windows.mean(dim=-1)
    deviation = windows.std(dim=-1, correction=0).clamp_min(FLATTEST)
    return (windows - mean[..., None]) / deviation[..., None], mean, deviation


def _distance(seen: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance (C, N) of windows (C, N, w) to the nearest of those known (C, M, w), and that (C, N, w)."""
    # |a - b|^2 less |a|^2, which is the same for all b: enough to find the nearest, then measured exactly.
    near = torch.baddbmm(known.square().sum(dim=2)[:, None], seen, known.transpose(1, 2), alpha=-2).argmin(dim=2)
    nearest = known.gather(1, near[..., None].expand(-1, -1, known.shape[2]))
    return torch.linalg.vector_norm(seen - nearest, dim=2), nearest


def _components(windows: Tensor, kept: float, most: float) -> tuple[Tensor, Tensor]:
    """Mean (C, w) of windows (C, N, w), and the projection (C, w, w) on what the kept components leave out."""
    seen = windows.double()
    mean = seen.mean(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh((seen - mean).transpose(1, 2) @ (seen - mean) / seen.shape[1])
    falling = values.flip(1).clamp_min(0)
    # A component is kept when those before it do not explain enough yet.
    enough = falling.cumsum(dim=1) - falling < kept * falling.sum(dim=1, keepdim=True)
    enough[:, max(1, int(most * windows.shape[2])) :] = False
    components = vectors.flip(2) * enough[:, None]
    return mean[:, 0], torch.eye(windows.shape[2]).to(components) - components @ components.transpose(1, 2)
