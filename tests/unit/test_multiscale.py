"""The default: its members, what they add up to, and what it says of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stream_detector.models.multiscale import Multiscale, MultiscaleConfig

WINDOW = 32


def waves(windows: int, channels: int = 1, seed: int = 0) -> Tensor:
    """Windows (B, T, C) of waves at random phases, with a little noise."""
    chance = torch.Generator().manual_seed(seed)
    phase = torch.rand(windows, 1, channels, generator=chance) * 2 * math.pi
    wave = torch.sin(torch.arange(WINDOW)[None, :, None] * 2 * math.pi / 16 + phase)
    return wave + 0.1 * torch.randn(windows, WINDOW, channels, generator=chance)


@pytest.fixture(scope="module")
def fitted() -> Multiscale:
    """Two channels, a memory of 200 of 400 windows, calibrated on others."""
    config = MultiscaleConfig(WINDOW, 2, near=(8, 32), shape=(16,), recent=(1, 2), memory=200)
    model = Multiscale(config)
    model.prepare(waves(400, 2))
    with torch.inference_mode():
        model.calibrate(waves(300, 2, seed=1))
    return model


def test_members_are_distances_and_what_was_missed(fitted: Multiscale) -> None:
    """In this order, by step and channel."""
    windows = waves(20, 2, seed=2)
    with torch.inference_mode():
        said, expected = fitted._look(windows, 3)
        assert said.shape == (2 + 1 + 2, 20, 3, 2)
        for c in range(2):
            foretold, missed = fitted.forecaster.looked_back(windows[..., c], 3, (1, 2))
            known = fitted.memory.known[c, :, -8:].float()
            near = torch.cdist(windows[:, -9:-1, c], known).amin(dim=1)
            torch.testing.assert_close(said[0, :, 1, c], near, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(said[3:, :, :, c], missed)
            torch.testing.assert_close(expected[..., c], foretold)


def test_one_memory_serves_any_number_of_channels(fitted: Multiscale) -> None:
    """With `shared`: a channel is judged alike whatever stands beside it."""
    model = Multiscale(MultiscaleConfig(WINDOW, 1, memory=100, shared=True))
    model.prepare(waves(300))
    with torch.inference_mode():
        model.calibrate(waves(200, seed=1))
        wide = Multiscale(MultiscaleConfig(WINDOW, 3, memory=100, shared=True))
        wide.load_state_dict(model.state_dict())
        windows = waves(20, 3, seed=2)
        together = wide.score(windows, 2)
        for c in range(3):
            alone = model.score(windows[:, :, c : c + 1], 2)
            torch.testing.assert_close(together.contribution[..., c], alone.contribution[..., 0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(together.expected[..., c], alone.expected[..., 0], rtol=1e-4, atol=1e-4)
    assert wide.memory.known.shape[0] == 1


def test_without_a_memory_the_forecast_judges_alone() -> None:
    """And a sensor that is quieter than those it was calibrated on still has scores that differ."""
    torch.manual_seed(0)
    model = Multiscale(MultiscaleConfig(WINDOW, 1, memory=0, recent=(1, 2)))
    model.prepare(waves(100))
    assert model.memory.known.shape[1] == 0
    quiet = 0.2 * waves(50, seed=2)
    with torch.inference_mode():
        model.calibrate(waves(100, seed=1))
        score = model.score(quiet, 1).score[:, 0]
    assert (score > 0).all()
    assert len(score.unique()) > 40


def test_many_channels_remember_less() -> None:
    """So that the memory of all together is bounded."""
    assert Multiscale(MultiscaleConfig(WINDOW, 9)).memory.size == 4096
    assert Multiscale(MultiscaleConfig(WINDOW, 100)).memory.size == 400


def test_far_away_windows_still_differ(fitted: Multiscale) -> None:
    """Twice as far away is clearly more: a threshold that lies among faults must still let greater ones through."""
    far = waves(1, 2) + torch.tensor([5.0, 10.0, 20.0])[:, None, None]
    with torch.inference_mode():
        score = fitted.score(far, 1).score[:, 0]
    assert (score[1:] > 1.5 * score[:-1]).all()


@pytest.mark.parametrize("what", ["level", "rhythm", "spike", "silence"])
def test_what_is_odd_scores_above_what_is_not(fitted: Multiscale, what: str) -> None:
    """And the channel where it is has the larger contribution."""
    normal, odd = waves(100, 2, seed=3), waves(100, 2, seed=3)
    if what == "level":
        odd[:, -12:, 1] += 2
    elif what == "spike":
        odd[:, -1, 1] += 4
    elif what == "silence":
        odd[:, -24:, 1] = 0.3
    else:
        odd[:, -24:, 1] = torch.sin(torch.arange(24) * 2 * math.pi / 6)
    with torch.inference_mode():
        usual, found = fitted.score(normal, 1), fitted.score(odd, 1)
    assert (found.score > usual.score.quantile(0.9)).float().mean() > 0.9
    assert (found.contribution[..., 1] > found.contribution[..., 0]).float().mean() > 0.95


def test_several_steps_are_scored_in_one_go() -> None:
    """The last as if it were alone; none of them uses what came after it."""
    model = Multiscale(MultiscaleConfig(WINDOW, 1, near=(8,), shape=(16,), recent=(1, 2), memory=100))
    model.prepare(waves(300))
    windows = waves(10, seed=4)
    later = windows.clone()
    later[:, -2:] += 3
    with torch.inference_mode():
        model.calibrate(waves(100, seed=1))
        together, alone, changed = model.score(windows, 4), model.score(windows, 1), model.score(later, 4)
    torch.testing.assert_close(together.score[:, 3], alone.score[:, 0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(changed.score[:, :2], together.score[:, :2], rtol=1e-4, atol=1e-4)
    assert (changed.score[:, 2:] > together.score[:, 2:]).all()


def test_the_band_holds_what_it_promises(fitted: Multiscale) -> None:
    """About 95 % of other normal values."""
    windows = waves(500, 2, seed=5)
    with torch.inference_mode():
        found = fitted.score(windows, 1)
    inside = (found.lower[:, 0] <= windows[:, -1]) & (windows[:, -1] <= found.upper[:, 0])
    assert 0.91 <= float(inside.float().mean()) <= 0.985
