"""The memory at several scales: its members against plain computations, and what they add up to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stream_detector.models.multiscale import FLATTEST, Multiscale, MultiscaleConfig

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
    config = MultiscaleConfig(WINDOW, 2, near=(8, 32), shape=(16,), rest=(8, 32), memory=200)
    model = Multiscale(config)
    model.prepare(waves(400, 2))
    with torch.inference_mode():
        model.calibrate(waves(300, 2, seed=1))
    return model


def test_near_is_the_distance_to_the_nearest_remembered(fitted: Multiscale) -> None:
    """Of the last 8 values, by channel."""
    windows = waves(20, 2, seed=2)
    said, _ = fitted._members(windows, 1)
    for c in range(2):
        seen, known = windows[:, -8:, c], fitted.known[c, :, -8:]
        torch.testing.assert_close(said[0, :, 0, c], torch.cdist(seen, known).amin(dim=1), rtol=1e-4, atol=1e-4)


def test_shape_knows_neither_level_nor_size(fitted: Multiscale) -> None:
    """A window moved and stretched is as far from what is known as before; one too flat is not stretched to noise."""
    windows = waves(20, 2, seed=2)
    said, _ = fitted._members(windows, 1)
    moved, _ = fitted._members(windows * 3 + 5, 1)
    torch.testing.assert_close(moved[2], said[2], rtol=1e-3, atol=1e-3)
    flat, _ = fitted._members(torch.full((1, WINDOW, 2), 2.0) + 0.1 * FLATTEST * torch.randn(1, WINDOW, 2), 1)
    assert (flat[2] < 6).all()


def test_rest_is_what_principal_components_leave(fitted: Multiscale) -> None:
    """Against the plain decomposition of the same windows."""
    train, windows = waves(400, 2)[:, -8:, 0].double(), waves(20, 2, seed=2)
    mean = train.mean(dim=0)
    values, vectors = torch.linalg.eigh((train - mean).T @ (train - mean))
    share = values.flip(0).cumsum(0) / values.sum()
    kept = min(int((share < 0.9).sum()) + 1, 4)
    components = vectors.flip(1)[:, :kept]
    away = windows[:, -8:, 0].double() - mean
    left = (away - away @ components @ components.T).square().sum(dim=1)
    said, _ = fitted._members(windows, 1)
    torch.testing.assert_close(said[3, :, 0, 0].double(), left, rtol=1e-3, atol=1e-4)


def test_the_memory_holds_each_window_once_at_most(fitted: Multiscale) -> None:
    """A random half of what there was; with too few windows some stand there again."""
    assert len(fitted.known[0].unique(dim=0)) == 200
    small = Multiscale(MultiscaleConfig(WINDOW, 1, memory=50))
    small.prepare(waves(20))
    assert len(small.known[0].unique(dim=0)) == 20


def test_many_channels_remember_less() -> None:
    """Ten channels have the smaller memory each."""
    assert Multiscale(MultiscaleConfig(WINDOW, 10)).known.shape[:2] == (10, 1536)
    assert Multiscale(MultiscaleConfig(WINDOW, 9)).known.shape[:2] == (9, 4096)


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


def test_several_steps_are_scored_one_at_a_time(fitted: Multiscale) -> None:
    """Of members that look at less than the window."""
    model = Multiscale(MultiscaleConfig(WINDOW, 1, near=(8,), shape=(16,), rest=(8,), memory=100))
    model.prepare(waves(300))
    windows = waves(10, seed=4)
    with torch.inference_mode():
        together = model.score(windows, 4)
        for i in range(4):
            alone = model.score(windows[:, : WINDOW - 3 + i], 1)
            torch.testing.assert_close(together.score[:, i], alone.score[:, 0], rtol=1e-3, atol=1e-3)


def test_the_band_holds_what_it_promises(fitted: Multiscale) -> None:
    """About 95 % of other normal values."""
    windows = waves(500, 2, seed=5)
    with torch.inference_mode():
        found = fitted.score(windows, 1)
    inside = (found.lower[:, 0] <= windows[:, -1]) & (windows[:, -1] <= found.upper[:, 0])
    assert 0.91 <= float(inside.float().mean()) <= 0.985
