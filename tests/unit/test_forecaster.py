"""The patch Transformer: what it may see, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stream_detector.models.forecaster import Forecaster


def small(window: int = 32) -> Forecaster:
    """Patches of four steps."""
    torch.manual_seed(0)
    return Forecaster(window, 4, 16, 1, 2, 32).eval()


def waves(count: int, window: int = 32) -> Tensor:
    """Waves of period 12 at random phases."""
    phase = torch.rand(count, 1, generator=torch.Generator().manual_seed(1)) * 2 * math.pi
    return torch.sin(torch.arange(window) * 2 * math.pi / 12 + phase)


def test_patches_end_where_the_window_ends() -> None:
    """What is left over at the start is not seen; a window too short for two begins with its first value."""
    made = small()
    assert made.patches(torch.arange(10.0)[None])[0].tolist() == [[2, 3, 4, 5], [6, 7, 8, 9]]
    assert made.patches(torch.tensor([[5.0, 6.0]]))[0].tolist() == [[5, 5, 5, 5], [5, 5, 5, 6]]


def test_no_patch_is_foretold_from_itself_or_what_follows() -> None:
    """Values of a patch change what is expected of later ones alone."""
    made, windows = small(), waves(5)
    before = made(windows)
    for k in range(1, 8):
        changed = windows.clone()
        changed[:, 4 * k : 4 * k + 4] += 1
        after = made(changed)
        assert torch.equal(after[:, :k], before[:, :k])
        assert k == 7 or (after[:, k] != before[:, k]).any()


@pytest.mark.parametrize("window", [32, 31, 12, 5, 1])
def test_shorter_windows_are_foretold_too(window: int) -> None:
    """Down to one value."""
    expected, missed = small().looked_back(waves(3)[:, -window:], 1, (1, 2))
    assert expected.shape == (3, 1)
    assert missed.shape == (2, 3, 1)
    assert torch.isfinite(expected).all()
    assert torch.isfinite(missed).all()


def test_it_learns_a_wave_and_misses_another() -> None:
    """After some steps it foretells the wave that it has seen, and not one twice as fast."""
    made = small()
    optimiser = torch.optim.Adam(made.parameters(), 5e-3)
    for _ in range(300):
        optimiser.zero_grad()
        torch.autograd.backward(made.losses(waves(64)).mean())
        optimiser.step()
    windows = waves(20)
    with torch.inference_mode():
        expected, missed = made.looked_back(windows, 1, (2,))
        _, strange = made.looked_back(windows[:, ::2].repeat(1, 2), 1, (2,))
    assert (expected[:, 0] - windows[:, -1]).abs().mean() < 0.1
    assert missed.mean() < 0.1 < 0.3 < strange.mean()


def test_several_steps_are_looked_back_upon_in_one_pass() -> None:
    """The last of them as if it were alone; none sees what came after it."""
    made, windows = small(), waves(5)
    expected, missed = made.looked_back(windows, 6, (1, 3))
    alone, missed_alone = made.looked_back(windows, 1, (1, 3))
    torch.testing.assert_close(expected[:, -1:], alone)
    torch.testing.assert_close(missed[..., -1:], missed_alone)
    errors = (made(windows).flatten(1) - windows[:, 4:]).square()
    torch.testing.assert_close(missed[1, :, 2], errors[:, -15:-3].mean(dim=1).sqrt())
    later = windows.clone()
    later[:, -2:] += 3
    after, missed_after = made.looked_back(later, 6, (1, 3))
    assert torch.equal(after[:, :4], expected[:, :4])
    assert torch.equal(missed_after[..., :4], missed[..., :4])
