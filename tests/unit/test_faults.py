"""The faults that a benchmark puts back into the models: what each breaks, and that nothing else is changed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from stream_detector.models.anomaly_transformer import AnomalyTransformer, AnomalyTransformerConfig
from stream_detector.models.encoder import Encoder, EncoderConfig
from stream_detector.models.timesnet import TimesNet, TimesNetConfig
from stream_detector.models.tranad import TranAd, TranAdConfig
from tests.benchmarks import faults
from tests.benchmarks.mended import PUBLISHED, adjusted, f1

T, C = 40, 2


def made(model_class: type[Any], config: Any) -> Any:
    """Fresh weights, the same for all classes."""
    torch.manual_seed(0)
    model = model_class(config)
    model.train(False)
    return model


def windows(count: int = 6) -> Tensor:
    """Waves with noise."""
    torch.manual_seed(1)
    wave = (2 * math.pi * torch.arange(T) / 8).sin()[None, :, None]
    return wave + 0.3 * torch.randn(count, T, C)


def test_without_a_fault_tranad_is_the_mended_one() -> None:
    """The switches' class with every switch off: equal loss, equal scores."""
    plain, switched = (made(one, TranAdConfig(T, C)) for one in (TranAd, faults.FaultyTranAd))
    torch.testing.assert_close(switched.loss(windows(), 3), plain.loss(windows(), 3))
    torch.testing.assert_close(switched.score(windows(), 1).score, plain.score(windows(), 1).score)


@pytest.mark.parametrize(
    ("fault", "sees"),
    [
        (faults.FaultyTranAd, False),
        (faults.LeakingTranAd, True),
        (faults.OwnFocusTranAd, False),
        (faults.LinearTranAd, False),
        (faults.PublishedTranAd, True),
    ],
)
def test_what_leaks_expects_what_it_sees(fault: type[TranAd], sees: bool) -> None:
    """Moving the last step moves its expectation only where the decoder is asked with it."""
    model, changed = made(fault, TranAdConfig(T, C)), windows()
    changed[:, -1] += 1
    before, after = (model.score(some, 1).expected for some in (windows(), changed))
    assert torch.equal(before, after) != sees


def test_its_own_error_in_the_focus_tells_the_second_phase() -> None:
    """O2hat of a step depends on the step itself, O1 does not."""
    model, changed = made(faults.OwnFocusTranAd, TranAdConfig(T, C)), windows()
    changed[:, -1] += 1
    (first, again), (first_after, again_after) = (model._phases(some[:, -10:], False) for some in (windows(), changed))
    assert torch.equal(first, first_after)
    assert not torch.equal(again[:, -1], again_after[:, -1])


def test_a_linear_feedforward_bends_nothing() -> None:
    """A layer of twice the input is twice the layer, less the bias."""
    layer = made(faults.LinearTranAd, TranAdConfig(T, C)).encoder.feedforward
    x = torch.randn(5, 32)
    zero = layer(torch.zeros_like(x))
    torch.testing.assert_close(layer(2 * x) - zero, 2 * (layer(x) - zero))


def test_periods_of_the_batch_make_scores_depend_on_others() -> None:
    """The mended model's do not."""
    beside = 10 * (2 * math.pi * torch.arange(T) / 5).sin()[None, :, None].expand(58, -1, C)
    for model_class, depends in ((TimesNet, False), (faults.BatchPeriods, True)):
        model = made(model_class, TimesNetConfig(T, C, periods=1))
        alone, among = (model.score(torch.cat([windows(), some]), 1).score[:6] for some in (beside, windows(58)))
        assert torch.equal(alone, among) != depends


def test_one_window_has_the_periods_of_its_batch() -> None:
    """Where the batch is the window, the average is its own."""
    plain, batch = (made(one, TimesNetConfig(T, C)) for one in (TimesNet, faults.BatchPeriods))
    torch.testing.assert_close(batch.forward(windows(1)), plain.forward(windows(1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fault", "model", "config"),
    [
        (faults.WholeWindows, AnomalyTransformer, AnomalyTransformerConfig(T, C, **PUBLISHED)),
        (faults.WholeWindowsTimesNet, TimesNet, TimesNetConfig(T, C, **PUBLISHED)),
    ],
)
def test_whole_windows_score_with_later_steps(fault: type[Any], model: type[Any], config: Any) -> None:
    """The last step is scored as by the mended model, the first differently when the last one moves."""
    whole, changed = made(fault, config), windows()
    changed[:, -1] += 1
    torch.testing.assert_close(
        whole.score(windows(), T).score[:, -1], made(model, config).score(windows(), 1).score[:, 0]
    )
    assert not torch.equal(whole.score(windows(), T).score[:, 0], whole.score(changed, T).score[:, 0])


def test_sharp_weights_go_below_the_least() -> None:
    """With a temperature of 50 as published; with a mild one they are the mended model's."""
    mild = AnomalyTransformerConfig(T, C, **PUBLISHED)
    torch.testing.assert_close(
        made(faults.SharpWeights, mild).score(windows(), 1).score,
        made(AnomalyTransformer, mild).score(windows(), 1).score,
    )


def test_an_encoder_without_position_and_one_that_copies() -> None:
    """Position is nothing and stays so; what copies expects what it sees."""
    unplaced = made(faults.Unplaced, EncoderConfig(T, C))
    assert not unplaced.position.any()
    assert not unplaced.position.requires_grad
    copying, changed = made(faults.Copying, EncoderConfig(T, C)), windows()
    changed[:, -1] += 1
    assert not torch.equal(copying.score(windows(), 1).expected, copying.score(changed, 1).expected)
    mended = made(Encoder, EncoderConfig(T, C))
    assert torch.equal(mended.score(windows(), 1).expected, mended.score(changed, 1).expected)


def test_point_adjustment_makes_one_hit_a_whole_event() -> None:
    """One flag in an event of four, one beside: F1 of 1/3 becomes 8/9."""
    labels = torch.tensor([0, 1, 1, 1, 1, 0, 0]).bool().numpy()
    flags = torch.tensor([0, 0, 1, 0, 0, 0, 1]).bool().numpy()
    assert f1(labels, flags) == pytest.approx(1 / 3)
    assert f1(labels, adjusted(labels, flags)) == pytest.approx(8 / 9)
