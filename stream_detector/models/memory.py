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

CHUNK = 64
FLATTEST = 0.1
"""A window flatter than this, in spreads of its sensor, is not stretched further: its noise is not a form."""


class Memory(nn.Module):
    """Remembers at most `size` windows of each of C channels, in half precision; forgets them when others are given.

    near, shape: lengths, rising, that each kind of member looks at.
    """

    known: Tensor
    against: Tensor

    def __init__(self, channels: int, size: int, near: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.size, self.near, self.shape = size, list(near), list(shape)
        self.lengths = sorted({*near, *shape})
        self.register_buffer("known", torch.zeros(channels, 0, self.lengths[-1], dtype=torch.float16))
        self.register_buffer("against", torch.zeros(channels, self.lengths[-1], 0), persistent=False)
        self._sides: dict[tuple[int, bool, torch.device], list[Tensor]] = {}

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
        self.against = -self.known.float().transpose(1, 2).contiguous()
        self._sides = {}

    def _side(self, w: int, shape: bool) -> list[Tensor]:
        """What the last w values of the remembered windows bring to the bracket: addend, and of forms factor, shift.

        Worked out once for each length that is met: several steps of a window have a little less than all of it each.
        """
        key = w, shape, self.known.device
        if key not in self._sides:
            known = self.known[..., -w:].float()
            form, mean, deviation = formed(known)
            half = (form if shape else known).square().sum(dim=-1) / 2
            self._sides[key] = [half, 1 / deviation, mean / deviation] if shape else [half]
        return self._sides[key]

    def distances(self, seen: Tensor) -> Tensor:
        """Distance of windows (C, N, w) to the nearest remembered ones: (members, C, N), near before shape.

        Of windows shorter than a length, all there is is compared. No members where nothing is remembered yet.
        """
        if not self.known.shape[1]:
            return seen.new_zeros(0, *seen.shape[:2])
        size = CHUNK if seen.device.type == "cpu" else seen.shape[1]
        # In half precision the differences of large numbers would name any window as the nearest.
        with torch.autocast(seen.device.type, enabled=False):
            return torch.cat([self._distances(part) for part in torch.split(seen, size, dim=1)], dim=2)

    def _distances(self, seen: Tensor) -> Tensor:
        """The same of few enough windows that their products stay in the processor's cache."""
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
                found["near", length] = self._near(seen[..., -w:], products)
            if length in self.shape:
                found["shape", length] = self._shape(seen[..., -w:], products)
        return torch.stack([found["near", w] for w in self.near] + [found["shape", w] for w in self.shape])

    def _near(self, seen: Tensor, products: Tensor) -> Tensor:
        w = seen.shape[2]
        (half,) = self._side(w, shape=False)
        nearest = _least(products + half[:, None])
        distance: Tensor = torch.linalg.vector_norm(seen - self._taken(nearest, w), dim=2)
        return distance

    def _shape(self, seen: Tensor, products: Tensor) -> Tensor:
        w = seen.shape[2]
        form, _, deviation = formed(seen)
        half, by, mean_by = self._side(w, shape=True)
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


def _least(values: Tensor) -> Tensor:
    """Where the last dimension is least, the first of equals."""
    if values.device.type == "cpu":  # twenty times as fast as PyTorch's own
        return torch.from_numpy(values.numpy().argmin(axis=2))
    return values.argmin(dim=2)
