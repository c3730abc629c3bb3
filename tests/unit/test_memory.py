"""The memory of windows: its distances against plain computations, and what it keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stream_detector.models.memory import FLATTEST, Memory, formed

NEAR, SHAPE = (8, 16, 32), (16, 32)


def chance(seed: int) -> torch.Generator:
    """A source of chance of its own."""
    return torch.Generator().manual_seed(seed)


def walks(channels: int, windows: int, seed: int) -> Tensor:
    """Random walks (C, N, 32)."""
    return torch.randn(channels, windows, 32, generator=chance(seed)).cumsum(dim=2)


@pytest.fixture(scope="module")
def memory() -> Memory:
    """Three channels, 100 of 150 windows."""
    made = Memory(3, 100, NEAR, SHAPE)
    made.remember(walks(3, 150, 0), chance(1))
    return made


def plain(memory: Memory, seen: Tensor) -> Tensor:
    """The distances one length at a time, the long way."""
    known, w = memory.known.float(), seen.shape[2]
    near = [torch.cdist(seen[..., -min(n, w) :], known[..., -min(n, w) :]).amin(dim=2) for n in NEAR]
    forms = [
        torch.cdist(formed(seen[..., -min(n, w) :])[0], formed(known[..., -min(n, w) :])[0]).amin(dim=2) for n in SHAPE
    ]
    return torch.stack(near + forms)


@pytest.mark.parametrize("length", [32, 27, 16, 5, 1])
def test_distances_are_to_the_nearest_of_all(memory: Memory, length: int) -> None:
    """At each length, near before shape; of a short window as much as there is of it."""
    seen = walks(3, 40, 2)[..., -length:]
    torch.testing.assert_close(memory.distances(seen), plain(memory, seen), rtol=1e-3, atol=2e-3)


def test_what_is_remembered_is_no_distance_away(memory: Memory) -> None:
    """Exactly none, where the difference of large numbers would leave something."""
    seen = memory.known.float()
    assert memory.distances(seen).abs().max() < 1e-4
    assert memory.distances(seen + 0)[:3].max() == 0


def test_shape_knows_neither_level_nor_size(memory: Memory) -> None:
    """A window moved and stretched is as far from what is known; one too flat is not stretched to noise."""
    seen = walks(3, 40, 3)
    torch.testing.assert_close(memory.distances(seen * 3 + 5)[3:], memory.distances(seen)[3:], rtol=1e-3, atol=1e-2)
    flat = 2 + 0.01 * FLATTEST * torch.randn(3, 10, 32, generator=chance(4))
    assert formed(flat)[0].abs().max() < 0.1


def test_each_window_is_remembered_once_at_most(memory: Memory) -> None:
    """So many of them as there is room for; all, where there are fewer."""
    assert all(len(channel.unique(dim=0)) == 100 for channel in memory.known)
    small = Memory(1, 50, NEAR, SHAPE)
    small.remember(walks(1, 20, 5), chance(1))
    assert small.known.shape == (1, 20, 32)
    small.remember(walks(1, 70, 6), chance(1))
    assert small.known.shape == (1, 50, 32)


def test_a_copy_says_the_same(memory: Memory) -> None:
    """Whatever number of windows its weights hold."""
    copy = Memory(3, 4096, NEAR, SHAPE)
    copy.load_state_dict(memory.state_dict())
    seen = walks(3, 10, 7)
    assert torch.equal(copy.distances(seen), memory.distances(seen))


def test_less_precision_elsewhere_does_not_blur_it(memory: Memory) -> None:
    """Distances are the same where the rest of a model computes in half precision."""
    seen = walks(3, 10, 8)
    with torch.autocast("cpu", torch.bfloat16):
        blurred = memory.distances(seen)
    assert torch.equal(blurred, memory.distances(seen))


@pytest.mark.parametrize("shape", [(2, 100, 32), (3, 100, 16), (100, 32)])
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    """Channels and length must be the memory's own."""
    with pytest.raises(RuntimeError, match="size mismatch"):
        Memory(3, 100, NEAR, SHAPE).load_state_dict({"known": torch.zeros(shape, dtype=torch.float16)})
