"""Gradient steps: windows in, fitted weights out. Knows no readings, no sensors, no files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from stream_detector.errors import StreamDetectorError
from stream_detector.models.interface import Model

Progress: TypeAlias = Callable[[int, int, float], None]
"""Told after each step: steps done, steps in all, loss."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How long and how fast; `steps` wins over `epochs` where the data would ask for more."""

    epochs: int = 10
    steps: int = 400
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0


def fit(model: Model, windows: Tensor, options: FitOptions, progress: Progress) -> float:
    """Fit a model in place to windows (N, T, C) with Adam, a one-cycle rate and clipped gradients.

    Returns the mean loss of the last epoch. Raises StreamDetectorError when the loss is not a number.
    """
    model.prepare(windows)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        return 0.0
    per_epoch = math.ceil(len(windows) / options.batch)
    steps = max(min(options.steps, options.epochs * per_epoch), 1)
    optimiser = torch.optim.Adam(parameters, options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=steps)
    chance = torch.Generator().manual_seed(options.seed)
    model.train()
    recent: list[float] = []
    for done in range(1, steps + 1):
        chosen = torch.randint(len(windows), (options.batch,), generator=chance)
        loss = model.loss(windows[chosen].to(parameters[0].device), (done - 1) // per_epoch + 1)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        recent = [*recent[-per_epoch:], loss.item()]
        if not math.isfinite(recent[-1]):
            raise StreamDetectorError(f"training failed at step {done}: the loss is not a number; lower the rate")
        progress(done, steps, recent[-1])
    model.train(False)
    return sum(recent) / len(recent)
