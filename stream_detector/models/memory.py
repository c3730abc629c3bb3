"""A memory of normal windows, and how far away the nearest of them is, at several lengths at once.

The last w values of a window are compared with the last w of every remembered one, for several w: as they are (*near*),
and less their mean over their deviation (*shape*), where the level does not matter (k-NN of subsequences, k = 1).

With a the newest values and b what is remembered, |a - b|^2 / 2 = |a|^2 / 2 + (|b|^2 / 2 - ab): the nearest b has the
least bracket. Lengths are nested, so that the products of all of them are one product with the longest, stopped on the
way; and of normalised windows, ab is that product again, corrected by two numbers of each side. The distance to the
nearest is then measured exactly: the difference of large numbers would not tell a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

FLATTEST = 0.1
"""A window flatter than this, in spreads of its sensor, is not stretched further: its noise is not a form."""


class Memory(nn.Module):
    """Remembers at most `size` windows of each of C channels, in half precision; forgets them when others are given.

    near, shape: lengths, rising, that each kind of member looks at.
    """

    known: Tensor
    against: Tensor
    near_half: Tensor
    shape_by: Tensor
    shape_half: Tensor

    def __init__(self, channels: int, size: int, near: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.size, self.near, self.shape = size, list(near), list(shape)
        self.lengths = sorted({*near, *shape})
        self.register_buffer("known", torch.zeros(channels, 0, self.lengths[-1], dtype=torch.float16))
        # What is computed of it, once.
        for name in ("against", "near_half", "shape_by", "shape_half"):
            self.register_buffer(name, torch.zeros(0), persistent=False)

    @property
    def members(self) -> int:
        """How many distances there are of each window."""
        return len(self.near) + len(self.shape)

    def remember(self, windows: Tensor, chance: torch.Generator) -> None:
        """Keep some of the windows (C, N, L), each at most once, and nothing else."""
        chosen = torch.randperm(windows.shape[1], generator=chance)[: self.size].sort().values
        self.known = windows[:, chosen, -self.lengths[-1] :].to(self.known)
        self._compute()

    def _compute(self) -> None:
        known = self.known.float()
        self.against = -known.transpose(1, 2).contiguous()
        self.near_half = torch.stack([_half_square(known[..., -w:]) for w in self.near])
        by, half = [], []
        for w in self.shape:
            form, mean, deviation = formed(known[..., -w:])
            by.append(torch.stack([1 / deviation, mean / deviation]))
            half.append(_half_square(form))
        self.shape_by, self.shape_half = torch.stack(by), torch.stack(half)

    def distances(self, seen: Tensor) -> Tensor:
        """Distance of windows (C, N, w) to the nearest remembered ones: (members, C, N), near before shape.

        Of windows shorter than a length, all there is is compared. No members where nothing is remembered yet.
        """
        if not self.known.shape[1]:
            return seen.new_zeros(0, *seen.shape[:2])
        products: Tensor | None = None
        done, found = 0, {}
        for length in self.lengths:
            w = min(length, seen.shape[2])
            if w > done:
                part = seen[..., seen.shape[2] - w : seen.shape[2] - done]
                stop = self.against.shape[1] - done
                rest = self.against[:, stop - (w - done) : stop]
                products = torch.bmm(part, rest) if products is None else torch.baddbmm(products, part, rest)
                done = w
            if products is None:
                raise ValueError("a window has at least one value")
            if length in self.near:
                found["near", length] = self._near(seen[..., -w:], products, self.near.index(length))
            if length in self.shape:
                found["shape", length] = self._shape(seen[..., -w:], products, self.shape.index(length))
        return torch.stack([found["near", w] for w in self.near] + [found["shape", w] for w in self.shape])

    def _near(self, seen: Tensor, products: Tensor, i: int) -> Tensor:
        w = seen.shape[2]
        half = self.near_half[i] if w == self.near[i] else _half_square(self.known[..., -w:].float())
        nearest = _least(products + half[:, None])
        distance: Tensor = torch.linalg.vector_norm(seen - self._taken(nearest, w), dim=2)
        return distance

    def _shape(self, seen: Tensor, products: Tensor, i: int) -> Tensor:
        w = seen.shape[2]
        form, _, deviation = formed(seen)
        if w == self.shape[i]:
            (by, mean_by), half = self.shape_by[i], self.shape_half[i]
        else:
            known, mean, spread = formed(self.known[..., -w:].float())
            by, mean_by, half = 1 / spread, mean / spread, _half_square(known)
        # deviation * (half - form a * form b), where form b has no mean: a need not be normalised.
        ours = torch.stack([seen.sum(dim=2), deviation], dim=2)
        nearest = _least(torch.baddbmm(products * by[:, None], ours, torch.stack([mean_by, half], dim=1)))
        distance: Tensor = torch.linalg.vector_norm(form - formed(self._taken(nearest, w))[0], dim=2)
        return distance

    def _taken(self, which: Tensor, w: int) -> Tensor:
        """The last w values of the remembered windows with these numbers (C, N): (C, N, w)."""
        channel = torch.arange(len(which), device=which.device)[:, None]
        return self.known[channel, which, -w:].float()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Make room for as many windows as there are to load."""
        known = state_dict.get(f"{prefix}known")
        if known is not None and known.ndim == self.known.ndim:
            self.known = self.known.new_zeros(self.known.shape[0], known.shape[1], self.known.shape[2])
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._compute()


def formed(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Windows (..., w) less their mean, over their deviation; with both (...)."""
    mean = windows.mean(dim=-1)
    centred = windows - mean[..., None]
    deviation = centred.square().mean(dim=-1).sqrt().clamp_min(FLATTEST)
    return centred / deviation[..., None], mean, deviation


def _half_square(windows: Tensor) -> Tensor:
    return windows.square().sum(dim=-1) / 2


def _least(values: Tensor) -> Tensor:
    """Where the last dimension is least, the first of equals."""
    if values.device.type == "cpu":  # twenty times as fast as PyTorch's own
        return torch.from_numpy(values.numpy().argmin(axis=2))
    return values.argmin(dim=2)
