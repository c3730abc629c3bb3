"""Gradient steps: windows in, fitted weights out. Knows no readings and no sensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from stream_detector.errors import StreamDetectorError
from stream_detector.models.interface import Model
from stream_detector.training.checkpoint import Checkpoint, Progressed

Progress: TypeAlias = Callable[[int, int, float], None]
"""Told after each step: steps done, steps in all, loss."""
RATE = 2e-3
HELD_BATCH = 256
"""Held-out windows looked at in one go."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How long and how fast; `steps` wins over `epochs` where the data would ask for more.

    rate: the largest learning rate; None is the model's own, if it has an attribute `rate`, or else `RATE`.
    patience: looks at held-out windows without a better loss after which fitting stops; the best weights are then
    taken. 0 never looks. check_every: steps between two looks, and between two checkpoints.
    trim: share of each batch, the windows with the greatest losses, that teaches nothing: where nobody vouches for the
    history, there are faults among it that nobody has found, and what learns them no longer finds them. Of models that
    tell their loss by window (`losses`). What is computed
    in advance leaves out as many: those that the weights to begin with fit worst.
    widen: whether the windows are few beside those that the weights have learned from. What a model computed of those
    (a range) is then widened, where the model can (`widen`), and not computed anew.
    """

    epochs: int = 10
    steps: int = 400
    batch: int = 64
    rate: float | None = None
    seed: int = 0
    patience: int = 0
    check_every: int = 20
    trim: float = 0.0
    widen: bool = False


def fit(
    model: Model,
    windows: Tensor,
    options: FitOptions,
    progress: Progress,
    held: Tensor | None = None,
    checkpoint: Checkpoint | None = None,
) -> float:
    """Fit a model in place to windows (N, T, C) with Adam, a one-cycle rate and clipped gradients.

    held: (M, T, C) windows that early stopping looks at. The same training gives the same weights, also when it was
    cut off and taken up from its checkpoint. Returns the mean loss of the last epoch. Raises StreamDetectorError when
    the loss is not a number.
    """
    prepare = getattr(model, "widen", model.prepare) if options.widen else model.prepare
    prepare(_ordinary(model, windows, options.trim))
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        return 0.0
    run = _Run(model, parameters, windows, options)
    watch = None
    if held is not None and options.patience:
        watch = _Watch(model, held.to(parameters[0].device), options.trim)
    kept = checkpoint.load() if checkpoint else None
    if kept is not None and run.take_up(kept):
        if watch is not None:
            watch.take_up(kept)
    elif watch is not None:
        watch.look()
    while run.done < run.steps and (watch is None or watch.in_vain < options.patience):
        loss = run.step()
        progress(run.done, run.steps, loss)
        if run.done % options.check_every == 0 or run.done == run.steps:
            if watch is not None:
                watch.look()
            if checkpoint is not None:
                checkpoint.save(run.tensors() | (watch.best if watch else {}), run.facts() | _facts(watch))
    if watch is not None:
        watch.restore()
    model.train(False)
    return sum(run.recent) / len(run.recent)


def _ordinary(model: Model, windows: Tensor, trim: float) -> Tensor:
    """The windows without the share that fits the model worst as it is; all of a model that does not tell."""
    losses: Callable[[Tensor], Tensor] | None = getattr(model, "losses", None)
    if not trim or losses is None:
        return windows
    device = next(iter(model.parameters())).device
    with torch.inference_mode():
        loss = torch.cat([losses(part.to(device)).cpu() for part in torch.split(windows, HELD_BATCH)])
    return windows[loss <= loss.quantile(1 - trim)]


class _Run:
    """Steps of one training, and all that is needed to go on with it."""

    def __init__(self, model: Model, parameters: list[nn.Parameter], windows: Tensor, options: FitOptions) -> None:
        self._model, self._parameters, self._windows, self._options = model, parameters, windows, options
        self._per_epoch = math.ceil(len(windows) / options.batch)
        self.steps = max(min(options.steps, options.epochs * self._per_epoch), 1)
        rate: float = options.rate if options.rate is not None else getattr(model, "rate", RATE)
        self._optimiser = torch.optim.Adam(self._parameters, rate)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimiser, rate, total_steps=self.steps)
        self._chance = torch.Generator().manual_seed(options.seed)
        self.done = 0
        self.recent: list[float] = []

    def step(self) -> float:
        """One batch; its loss."""
        self._model.train()
        self.done += 1
        chosen = torch.randint(len(self._windows), (self._options.batch,), generator=self._chance)
        batch = self._windows[chosen].to(self._parameters[0].device)
        loss = _loss(self._model, batch, self._options.trim, (self.done - 1) // self._per_epoch + 1)
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        self._schedule.step()
        self.recent = [*self.recent[-self._per_epoch :], loss.item()]
        if not math.isfinite(self.recent[-1]):
            raise StreamDetectorError(f"training failed at step {self.done}: the loss is not a number; lower the rate")
        return self.recent[-1]

    def tensors(self) -> dict[str, Tensor]:
        """Weights, the optimiser's memory and the state of chance."""
        kept = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        for number, memory in self._optimiser.state_dict()["state"].items():
            kept |= {f"adam.{number}.{name}": tensor for name, tensor in memory.items()}
        return kept | {"chance": self._chance.get_state(), "torch": torch.get_rng_state()}

    def facts(self) -> dict[str, Any]:
        """What a later process must know beside the tensors."""
        group = self._optimiser.param_groups[0]
        return {
            "done": self.done,
            "steps": self.steps,
            "recent": self.recent,
            "rate": group["lr"],
            "betas": group["betas"],
        }

    def take_up(self, kept: Progressed) -> bool:
        """Go on with what was kept; False, and nothing is changed, where it does not fit."""
        facts, tensors = kept.facts, kept.tensors
        weights, own = _part(tensors, "model."), self._model.state_dict()
        if facts["steps"] != self.steps or _shapes(weights) != _shapes(own):
            return False
        self._model.load_state_dict(weights)
        memory: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "adam.").items():
            number, _, entry = name.partition(".")
            memory.setdefault(int(number), {})[entry] = tensor
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": memory})
        self._schedule.load_state_dict({"last_epoch": facts["done"], "_step_count": facts["done"] + 1})
        for group in self._optimiser.param_groups:
            group["lr"], group["betas"] = facts["rate"], tuple(facts["betas"])
        self._chance.set_state(tensors["chance"])
        torch.set_rng_state(tensors["torch"])
        self.done, self.recent = facts["done"], list(facts["recent"])
        return True


class _Watch:
    """The best weights so far, by their loss on held-out windows. in_vain: looks since the last better one."""

    def __init__(self, model: Model, held: Tensor, trim: float) -> None:
        self._model, self._held, self._trim = model, held, trim
        self._least, self.in_vain = math.inf, -1
        self.best: dict[str, Tensor] = {}

    def look(self) -> None:
        """Take the weights as they are now for the best, if they are."""
        loss = mean_loss(self._model, self._held, self._trim)
        self.in_vain += 1
        if loss < self._least or not self.best:
            self._least, self.in_vain = loss, 0
            self.best = {f"best.{name}": tensor.clone() for name, tensor in self._model.state_dict().items()}

    def take_up(self, kept: Progressed) -> None:
        """Go on with what was kept."""
        self.best = {name: tensor for name, tensor in kept.tensors.items() if name.startswith("best.")}
        self._least, self.in_vain = kept.facts["least"], kept.facts["in_vain"]

    def restore(self) -> None:
        """Give the model the best weights."""
        self._model.load_state_dict(_part(self.best, "best."))

    def facts(self) -> dict[str, Any]:
        """What a later process must know beside the weights."""
        return {"least": self._least, "in_vain": self.in_vain}


def mean_loss(model: Model, windows: Tensor, trim: float = 0.0) -> float:
    """The model's loss on windows (N, T, C) that it is not fitted to, averaged; NaN if it is not a number."""
    model.train(False)
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(windows), HELD_BATCH):
            part = windows[start : start + HELD_BATCH]
            total += _loss(model, part, trim, 1).item() * len(part)
    return total / max(len(windows), 1)


def _loss(model: Model, windows: Tensor, trim: float, epoch: int) -> Tensor:
    """The loss, without that of the share `trim` of the windows that have the greatest."""
    by_window: Callable[[Tensor], Tensor] | None = getattr(model, "losses", None)
    if not trim or by_window is None:
        return model.loss(windows, epoch)
    kept = max(1, round((1 - trim) * len(windows)))
    return by_window(windows).topk(kept, largest=False).values.mean()


def _facts(watch: _Watch | None) -> dict[str, Any]:
    return watch.facts() if watch else {}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
