"""The cheap detectors: answers worked out by hand or by another way, and anomalies that each is there to find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stream_detector.models import BASELINES, MODELS, UNTRAINED
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact, TrainedOn, build
from stream_detector.models.baseline import trailing

WINDOW = 100
NOTHING = TrainedOn("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", 0, 0)


def made(name: str, channels: int = 1, **config: Any) -> Any:
    """An unfitted model."""
    return build(name, {"window": WINDOW, "channels": channels, **config}).train(False)


def fitted(name: str, windows: torch.Tensor, **config: Any) -> Any:
    """A model that has taken from the windows what it computes."""
    model = made(name, windows.shape[2], **config)
    model.prepare(windows)
    model.calibrate(windows)
    return model


def waves(count: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """Windows of a noisy wave of period 25 at every phase."""
    chance = torch.Generator().manual_seed(seed)
    phase = torch.rand(count, 1, channels, generator=chance) * 25
    steps = torch.arange(WINDOW)[None, :, None]
    noise = 0.05 * torch.randn(count, WINDOW, channels, generator=chance)
    return torch.sin(2 * torch.pi * (steps + phase) / 25) + noise


def test_every_baseline_is_a_model() -> None:
    """All that the tables of results need, by the names that users know; two of them need training."""
    assert set(BASELINES) <= set(MODELS)
    assert set(BASELINES) - UNTRAINED == {"sub-pca", "knn"}
    assert all(MODELS[name][0].name == name for name in MODELS)


def test_trailing_values() -> None:
    """The last values up to each of the last steps; fewer where the window has no more."""
    windows = torch.arange(6.0).reshape(1, 6, 1)
    assert trailing(windows, 2, 3)[0, :, 0].tolist() == [[2, 3, 4], [3, 4, 5]]
    assert trailing(windows, 2, 99)[0, :, 0].tolist() == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert trailing(windows, 1, 1)[0, :, 0].tolist() == [[5]]


def test_squared_difference_by_hand() -> None:
    """The square of each of the last jumps."""
    windows = torch.zeros(1, WINDOW, 1)
    windows[0, -3:, 0] = torch.tensor([1.0, 3.0, 0.0])
    assert made("squared-difference").score(windows, 2).score.tolist() == [[4, 9]]


def test_moving_variance_by_hand() -> None:
    """The variance of the values up to the step."""
    windows = torch.zeros(1, WINDOW, 1)
    windows[0, -4:, 0] = torch.tensor([9.0, 1.0, 3.0, 5.0])
    got = made("moving-variance", length=3).score(windows, 2).score
    assert got.flatten().tolist() == pytest.approx([np.var([9, 1, 3]), np.var([1, 3, 5])])


def test_channels_most_surprised_make_the_score() -> None:
    """A tenth of them, at least one; and each counts relative to what is usual for it."""
    windows = torch.zeros(1, WINDOW, 20)
    windows[0, -1, 3:6] = torch.tensor([2.0, 3.0, 1.0])
    model = made("squared-difference", 20)
    assert model.score(windows, 1).score.item() == pytest.approx((9 + 4) / 2)
    model.usual[4] = 90.0
    scores = model.score(windows, 1)
    assert scores.score.item() == pytest.approx((4 + 1) / 2)
    assert scores.contribution[0, 0, 3:6].tolist() == pytest.approx([4, 0.1, 1])


def test_random_is_uniform_and_the_same_again() -> None:
    """Spread evenly, without memory, the same for the same window, another for a slightly other one."""
    windows = torch.randn(4000, WINDOW, 1, generator=torch.Generator().manual_seed(0))
    got = made("random").score(windows, 1).score[:, 0]
    counts = torch.histc(got, 10, 0, 1)
    assert ((counts - 400).abs() < 5 * 400**0.5).all()
    assert got.unique().numel() > 3990
    assert abs(np.corrcoef(got[:-1], got[1:])[0, 1]) < 0.08
    assert torch.equal(made("random").score(windows[7:8], 1).score[0], got[7:8])
    changed = windows[7:8].clone()
    changed[0, 3] += 1e-6
    assert made("random").score(changed, 1).score.item() != got[7].item()
    zero = torch.zeros(1, WINDOW, 1)
    assert torch.equal(made("random").score(zero, 1).score, made("random").score(-zero, 1).score)


def test_random_is_not_told_by_a_channel_that_begins_to_move() -> None:
    """Of many constant channels one moves: the mean stays what it is by chance, here and in no channel by itself."""
    windows = torch.full((2000, WINDOW, 20), 3.0)
    windows[:, :, 0] = torch.randn(2000, WINDOW, generator=torch.Generator().manual_seed(0))
    moved = windows.clone()
    moved[:, -1, 5] += torch.randn(2000, generator=torch.Generator().manual_seed(1))
    model = fitted("random", windows)
    for scores in (model.score(windows, 1), model.score(moved, 1)):
        assert scores.score.mean().item() == pytest.approx(1, abs=0.05)
        assert scores.contribution.std(dim=2).max().item() == 0


def test_knn_is_the_distance_to_the_nearest_remembered() -> None:
    """As measured one by one; 0 for one that is remembered."""
    windows = waves(300)
    model = fitted("knn", windows, length=32, memory=200)
    model.usual.fill_(1)
    fresh = waves(20, seed=1)
    every = (fresh[:, None, -32:, 0] - model.known[0][None]).norm(dim=2)
    assert torch.allclose(model.score(fresh, 1).score[:, 0], every.min(dim=1).values, atol=1e-5)
    own = torch.cat([torch.zeros(1, WINDOW - 32, 1), model.known[0, 5].reshape(1, 32, 1)], dim=1)
    assert model.score(own, 1).score.item() == pytest.approx(0, abs=1e-5)


def test_knn_remembers_each_window_once_while_it_can() -> None:
    """No more than `memory`, without a repetition; of fewer windows, all of them."""
    windows = waves(300)
    known = fitted("knn", windows, length=16, memory=200).known[0]
    assert known.unique(dim=0).shape[0] == 200
    few = fitted("knn", windows[:30], length=16, memory=200).known[0]
    assert few.unique(dim=0).shape[0] == 30


def test_sub_pca_is_what_the_components_leave_out() -> None:
    """The same as with numpy's singular values; a wave needs two components, noise half as many as it has values."""
    windows = waves(500)
    model = fitted("sub-pca", windows)
    model.usual.fill_(1)
    seen = windows[:, -32:, 0].double().numpy()
    mean = seen.mean(axis=0)
    _, sizes, shapes = np.linalg.svd(seen - mean, full_matrices=False)
    kept = int(np.searchsorted(np.cumsum(sizes**2) / np.sum(sizes**2), 0.9)) + 1
    assert kept == 2
    fresh = waves(10, seed=1)
    away = fresh[:, -32:, 0].double().numpy() - mean
    left = ((away - away @ shapes[:kept].T @ shapes[:kept]) ** 2).sum(axis=1)
    assert model.score(fresh, 1).score[:, 0].tolist() == pytest.approx(left.tolist(), rel=1e-3)
    noise = torch.randn(2000, WINDOW, 1, generator=torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(fitted("sub-pca", noise).residual[0], atol=1e-3).item() == 16


def test_spectral_residual_sees_a_spike_in_a_wave() -> None:
    """The saliency at a spike is far above that of the steps before it; in a flat window no step stands out."""
    windows = waves(50)
    spiked = windows.clone()
    spiked[:, -1] += 4
    model = made("spectral-residual")
    assert model.score(spiked, 1).score.min() > model.score(windows, 1).score.max()
    assert model.score(torch.full((1, WINDOW, 1), 7.0), 1).score.item() == pytest.approx(1, abs=1e-3)


ANOMALIES = {
    "moving-variance": lambda w: w * 3,
    "squared-difference": lambda w: torch.cat([w[:, :-1], w[:, -1:] + 3], dim=1),
    "sub-pca": lambda w: torch.cat([w[:, :-20], w[:, -20:].flip(1) * w[:, -20:].sign()], dim=1),
    "knn": lambda w: torch.cat([w[:, :-20], w[:, -1:].expand(-1, 20, -1)], dim=1),
}


@pytest.mark.parametrize("name", ANOMALIES)
def test_each_finds_what_it_is_there_for(name: str) -> None:
    """After training on normal windows an anomaly of its kind scores above nearly all normal ones."""
    model = fitted(name, waves(500, channels=2))
    normal = waves(200, channels=2, seed=1)
    usual = model.score(normal, 1).score[:, 0]
    unusual = model.score(ANOMALIES[name](normal), 1).score[:, 0]
    assert (unusual[:, None] > usual[None]).float().mean() > 0.95


@pytest.mark.parametrize("name", BASELINES)
def test_an_artifact_keeps_a_baseline(name: str, tmp_path: Path) -> None:
    """Written and read again it scores alike, and the band holds most normal values."""
    windows = waves(300, channels=2)
    model = fitted(name, windows)
    Artifact(model, ("a", "b"), {}, None, NOTHING).save(tmp_path / "one")
    read = artifacts.load(tmp_path / "one").model
    fresh = waves(400, channels=2, seed=1)
    scores = read.score(fresh, 1)
    assert torch.equal(scores.score, model.score(fresh, 1).score)
    last = fresh[:, -1:]
    inside = ((scores.lower <= last) & (last <= scores.upper)).float().mean().item()
    assert inside == pytest.approx(0.95, abs=0.03)
