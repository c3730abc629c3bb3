"""What every Transformer must manage: learn what it is shown, see a rhythm that changes, and survive odd windows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stream_detector.models.artifact import build
from stream_detector.models.interface import Model
from stream_detector.training.fit import FitOptions, fit

NAMES = ("encoder", "anomaly-transformer", "tranad", "timesnet")
WINDOW, PERIOD = 48, 13


def rhythm(windows: int, period: float = PERIOD, seed: int = 0, noise: float = 0.15) -> Tensor:
    """Windows (B, T, 1) of a wave of this period, at random phases, with noise."""
    chance = torch.Generator().manual_seed(seed)
    phase = torch.rand(windows, 1, generator=chance) * 2 * math.pi
    wave = torch.sin(2 * math.pi * torch.arange(WINDOW) / period + phase) * math.sqrt(2)
    return (wave + noise * torch.randn(windows, WINDOW, generator=chance))[..., None]


@pytest.fixture(scope="module")
def trained() -> dict[str, Model]:
    """Each model, fitted to the same rhythm; a moving z-score beside them."""
    found = {}
    for name in (*NAMES, "moving-z"):
        torch.manual_seed(0)
        model = build(name, {"window": WINDOW, "channels": 1})
        fit(model, rhythm(2000), FitOptions(epochs=100, steps=150), lambda *_: None)
        with torch.no_grad():
            model.calibrate(rhythm(1000, seed=1))
        model.train(False)
        found[name] = model
    return found


def scores(model: Model, windows: Tensor, steps: int = 1) -> Tensor:
    """Scores of the last step, or their mean over several."""
    with torch.inference_mode():
        return model.score(windows, steps).score.mean(dim=1)


def separation(model: Model, normal: Tensor, odd: Tensor) -> float:
    """How often an odd window scores above a normal one (the area under the ROC curve)."""
    one, other = scores(model, normal, 8), scores(model, odd, 8)
    return float((other[:, None] > one).float().mean() + 0.5 * (other[:, None] == one).float().mean())


def changed() -> Tensor:
    """The rhythm runs twice as fast in the last 16 steps; neither range nor deviation change."""
    windows = rhythm(400, seed=3, noise=0.0)
    fast = rhythm(400, PERIOD / 2, seed=4, noise=0.0)
    windows[:, -16:] = fast[:, -16:]
    return windows + 0.15 * torch.randn(windows.shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", NAMES)
def test_one_batch_is_learned_by_heart(name: str) -> None:
    """The loss falls to a fraction of what it was."""
    torch.manual_seed(0)
    model = build(name, {"window": WINDOW, "channels": 1})
    batch = rhythm(8, noise=0.0)
    model.prepare(batch)
    model.train(False)
    with torch.no_grad():
        before = model.loss(batch, 1).item()
    fit(model, batch, FitOptions(epochs=200, steps=200, batch=8), lambda *_: None)
    with torch.no_grad():
        assert model.loss(batch, 1).item() < before / 4


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_rhythm_is_seen(trained: dict[str, Model], name: str) -> None:
    """Which a moving z-score does not see, as no value is out of the ordinary."""
    normal, odd = rhythm(400, seed=2), changed()
    assert separation(trained["moving-z"], normal, odd) < 0.65
    assert separation(trained[name], normal, odd) > 0.75


@pytest.mark.parametrize("name", NAMES)
def test_the_band_holds_what_it_promises(trained: dict[str, Model], name: str) -> None:
    """About 95 % of other normal values lie in it."""
    windows = rhythm(1000, seed=7)
    with torch.inference_mode():
        found = trained[name].score(windows, 1)
    inside = (found.lower[:, 0] <= windows[:, -1]) & (windows[:, -1] <= found.upper[:, 0])
    assert 0.91 <= float(inside.float().mean()) <= 0.985


@pytest.mark.parametrize("name", NAMES)
def test_odd_windows_have_defined_scores(trained: dict[str, Model], name: str) -> None:
    """Constant, at the clip, zeros, and shorter than the model's: numbers, never NaN; the extreme ones score higher."""
    model = trained[name]
    normal = scores(model, rhythm(50, seed=8))
    for value in (0.0, 3.0, 20.0, -20.0):
        for length in (WINDOW, WINDOW // 2):
            found = scores(model, torch.full((2, length, 1), value))
            assert torch.isfinite(found).all()
            assert (found >= 0).all()
    spike = rhythm(50, seed=8)
    spike[:, -1] = 20.0
    assert (scores(model, spike) > normal.median()).float().mean() > 0.9
