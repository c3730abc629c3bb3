"""Anomaly Transformer against values computed by hand and against the plain computation of its paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stream_detector.models.anomaly_transformer import (
    FAINTEST,
    LEAST_SHARE,
    REACH,
    AnomalyTransformer,
    AnomalyTransformerConfig,
    AnomalyTransformerPaperConfig,
    deviation,
    discrepancy,
    prior,
)

T = 4


def plain_prior(sigma: Tensor) -> Tensor:
    """The paper's equation 2 as it stands there: (B, H, T, T)."""
    steps = sigma.shape[2]
    distance = (torch.arange(steps)[:, None] - torch.arange(steps)).square()
    density = torch.exp(-distance / (2 * sigma.square())[..., None]) / (math.sqrt(2 * math.pi) * sigma)[..., None]
    return density / density.sum(dim=3, keepdim=True)


def plain_discrepancy(series: Tensor, known: Tensor) -> Tensor:
    """The paper's equation 3, with the published least share: (B, T)."""
    there = known + LEAST_SHARE
    looked = series + LEAST_SHARE
    forth = (known * (there.log() - looked.log())).sum(dim=3)
    return (forth + (series * (looked.log() - there.log())).sum(dim=3)).mean(dim=1)


def small(window: int = 12, channels: int = 2, **more: float) -> AnomalyTransformer:
    """Fresh weights, always the same."""
    torch.manual_seed(0)
    model = AnomalyTransformer(
        AnomalyTransformerConfig(window, channels, width=8, layers=2, heads=2, feedforward=8, **more)  # type: ignore[arg-type]
    )
    model.train(False)
    return model


def test_the_prior_of_four_steps_by_hand() -> None:
    """Of deviation 1: weights 1, e^-1/2, e^-2, e^-9/2 by distance, over their sum."""
    found = prior(torch.ones(1, 1, T))[0, 0]
    one, two, three = math.exp(-0.5), math.exp(-2), math.exp(-4.5)
    first = torch.tensor([1, one, two, three]) / (1 + one + two + three)
    second = torch.tensor([one, 1, one, two]) / (1 + 2 * one + two)
    middle = T - 1  # of 2 * reach + 1 distances
    torch.testing.assert_close(found[0, middle:], first)
    torch.testing.assert_close(found[1, middle - 1 : middle + 3], second)
    assert found[0, :middle].tolist() == [0, 0, 0]


def test_the_discrepancy_of_four_steps_by_hand() -> None:
    """Attention that is even against a prior that sees the step alone: 3/4 (log 1/4 - log 0+) + 3/4 ..., both ways."""
    series = torch.full((1, 1, T, T), 0.25)
    known = prior(torch.full((1, 1, T), 1e-3))
    e = LEAST_SHARE
    own = (0.25 - 1) * (math.log(0.25 + e) - math.log(1 + e))
    others = 3 * 0.25 * (math.log(0.25 + e) - math.log(e))
    torch.testing.assert_close(discrepancy(series, known), torch.full((1, T), own + others))


@pytest.mark.parametrize("steps", [T, REACH + 1, 2 * REACH + 5, 60])
def test_what_is_near_is_all_that_matters(steps: int) -> None:
    """The prior and the discrepancy are those over all pairs of steps."""
    torch.manual_seed(1)
    sigma = deviation(torch.randn(2, 3, steps))
    series = (3 * torch.randn(2, 3, steps, steps)).softmax(dim=3)
    wanted = plain_discrepancy(series, plain_prior(sigma))
    torch.testing.assert_close(discrepancy(series, prior(sigma)), wanted, rtol=1e-4, atol=1e-5)


def test_the_deviation_is_the_published_one() -> None:
    """3^(sigmoid(5 x) + 1e-5) - 1, from about 1e-5 to 2."""
    x = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(deviation(x), 3 ** (torch.sigmoid(5 * x) + 1e-5) - 1, rtol=1e-4, atol=1e-6)


def test_the_loss_has_the_gradients_of_both_passes() -> None:
    """Minimax: one pass turns S away from a P that is held, the other turns P towards an S that is held."""
    model, windows = small(), torch.randn(5, 12, 2)
    torch.autograd.backward(model.loss(windows, 1))  # not training, so nothing is cropped
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    reconstructed, associations = model._run(windows, last=False)
    error = (reconstructed - windows).square().mean()
    away = torch.stack([discrepancy(s, p.detach()) for s, p in associations]).mean()
    towards = torch.stack([discrepancy(s.detach(), p) for s, p in associations]).mean()
    torch.autograd.backward((error - 3 * away) + (error + 3 * towards))
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(
                found[name], p.grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text
            )


def test_the_prior_s_parameters_learn_from_the_discrepancy_alone() -> None:
    """Sigma of the last layer is moved by the second pass; without a weight for the discrepancy by nothing."""
    windows = torch.randn(5, 12, 2)
    for weight, moved in ((3.0, True), (0.0, False)):
        model = small(weight=weight)
        torch.autograd.backward(model.loss(windows, 1))
        gradient = model.get_parameter("layers.1.sigma.weight").grad
        assert gradient is not None
        assert bool(gradient.abs().sum() > 0) == moved
        assert model.get_parameter("layers.1.query.weight").grad is not None


@pytest.mark.parametrize(("recent", "top"), [(1, 1.0), (5, 1.0), (16, 0.5)])
def test_a_score_is_the_plain_one(recent: int, top: float) -> None:
    """Squared error times the share in the softmax of negative discrepancies (equation 6), of the recent steps."""
    model, windows = small(recent=recent, top=top), torch.randn(6, 12, 2)
    with torch.inference_mode():
        reconstructed, associations = model._run(windows, last=False)
        apart = torch.stack([discrepancy(s, p) for s, p in associations]).sum(dim=0)
        weighted = (-0.1 * apart).softmax(dim=1)[..., None] * (reconstructed - windows).square()
        wanted = weighted[:, -recent:].mean(dim=1)
        found = model.score(windows, 1)
    torch.testing.assert_close(found.score[:, 0], wanted.mean(dim=1) if top == 1.0 else wanted.amax(dim=1))
    torch.testing.assert_close(found.expected[:, 0], reconstructed[:, -1])
    torch.testing.assert_close(found.contribution[:, 0], wanted)


def test_the_published_temperature_leaves_no_score_at_nothing() -> None:
    """With 50 most weights underflow; here the least is e^-60, and scores still differ."""
    model = small(window=30, temperature=500.0)
    with torch.inference_mode():
        score = model.score(torch.randn(20, 30, 2), 1).score
    assert (score > 0).all()
    assert len(score.unique()) == 20
    assert score.min() < math.exp(FAINTEST) * 100


def test_the_published_size() -> None:
    """512 wide, 3 layers, 8 heads; temperature 50, weight 3."""
    config = AnomalyTransformerPaperConfig(100, 38)
    assert (config.width, config.layers, config.heads, config.feedforward) == (512, 3, 8, 512)
    assert (config.temperature, config.weight) == (50.0, 3.0)
