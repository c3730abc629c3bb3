"""Spectral residual: what in a window its smoothed spectrum does not explain (Ren et al., KDD 2019,
https://arxiv.org/abs/1906.03821).

The window's log amplitudes less their moving average, transformed back with the phases as they were, make a saliency;
a step counts by its saliency relative to that of the steps before it. A few points that continue the trend before the
last step are set behind it, so that it is not at the edge. The paper lets the last step have a part in that trend; then
a spike raises the points behind it and hides among them. Nothing is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from stream_detector.models.baseline import Baseline, trailing

TINY = 1e-3
"""Amplitudes below this are noise of float arithmetic: a flat window has no spectrum."""
LEAST_SALIENCY = 1e-3


@dataclass(frozen=True, slots=True)
class SpectralResidualConfig:
    """smoothing: frequencies of the moving average. before: steps that a saliency is held against.

    trend: points whose mean slope is continued. added: points set behind the last step. All as in the paper.
    """

    window: int
    channels: int
    smoothing: int = 3
    before: int = 21
    trend: int = 5
    added: int = 5


class SpectralResidual(Baseline):
    """Scores scaled windows (B, T, C) by the saliency of their last steps."""

    name: ClassVar[str] = "spectral-residual"

    def surprise(self, windows: Tensor, steps: int) -> Tensor:
        """Saliency of each step, divided by the mean of those before it."""
        saliency = self._saliency(trailing(windows, steps, windows.shape[1]))
        last = -1 - self.config.added
        usual = saliency[..., last - self.config.before : last].mean(dim=3)
        return saliency[..., last] / usual.clamp_min(LEAST_SALIENCY)

    def _saliency(self, values: Tensor) -> Tensor:
        """(B, S, C, K + added) of values (B, S, C, K)."""
        added, trend = self.config.added, self.config.trend
        known = values[..., -trend - 2 : -1]
        slope = (known[..., -1:] - known[..., :-1]) / torch.arange(trend, 0, -1, device=values.device)
        # All of them have the value of the first: so they hide the edge, and do not run away with the trend.
        estimate = known[..., 1:2] + slope.mean(dim=3, keepdim=True) * trend
        spectrum = torch.fft.rfft(torch.cat([values, estimate.expand(*values.shape[:3], added)], dim=3))
        amplitude = spectrum.abs()
        log = (amplitude + TINY).log()
        side = self.config.smoothing // 2
        flat = functional.pad(log.flatten(0, 2).unsqueeze(1), (side, side), mode="reflect")
        mean = functional.avg_pool1d(flat, self.config.smoothing, 1).squeeze(1).view_as(log)
        unit = spectrum / (amplitude + TINY)
        back: Tensor = torch.fft.irfft(unit * (log - mean).exp(), values.shape[3] + added)
        return back.abs()
