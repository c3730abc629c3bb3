"""TimesNet: periods of known signals, folding and unfolding, and one convolution for a sum of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stream_detector.models.inception import Inception, around, convolve
from stream_detector.models.timesnet import TimesNet, TimesNetConfig, TimesNetPaperConfig, fold, period_weights


def sine(period: float, steps: int = 96) -> Tensor:
    """A window (1, T, 1)."""
    return torch.sin(2 * math.pi * torch.arange(steps) / period)[None, :, None]


def small(window: int = 24, channels: int = 2, **more: float) -> TimesNet:
    """Fresh weights, always the same."""
    torch.manual_seed(0)
    made = TimesNet(TimesNetConfig(window, channels, width=4, feedforward=4, layers=2, kernels=3, **more))  # type: ignore[arg-type]
    made.train(False)
    return made


@pytest.mark.parametrize("period", [4, 8, 12, 24])
def test_the_period_of_a_sine_is_found(period: int) -> None:
    """With nearly all the weight."""
    weights = period_weights(sine(period), 3)[0]
    assert int(weights.argmax()) == period
    assert float(weights[period]) > 0.99
    assert float(weights.sum()) == pytest.approx(1.0)


def test_two_rhythms_are_weighted_by_their_amplitudes() -> None:
    """Softmax of the amplitudes of the spectrum: T / 2 times a sine's."""
    both = sine(24) * 0.05 + sine(8) * 0.04
    weights = period_weights(both, 2)[0]
    wanted = torch.tensor([0.05 * 48, 0.04 * 48]).softmax(dim=0)
    torch.testing.assert_close(weights[[24, 8]], wanted, rtol=1e-3, atol=1e-3)


def test_each_window_has_its_own_periods() -> None:
    """What stands beside a window in the batch changes nothing: the published code averages over the batch."""
    together = period_weights(torch.cat([sine(8), sine(24), torch.randn(1, 96, 1) * 9]), 3)
    for i, period in enumerate((8, 24)):
        torch.testing.assert_close(together[i], period_weights(sine(period), 3)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("period", [1, 5, 7, 24, 30])
def test_a_window_is_folded_and_unfolded(period: int) -> None:
    """One period a row, zeros behind the end, also where the period does not divide the length."""
    x = torch.randn(3, 24, 2)
    planes = fold(x, period)
    rows = -(-24 // period)
    assert planes.shape == (3, 2, rows, period)
    for step in range(24):
        torch.testing.assert_close(planes[:, :, step // period, step % period], x[:, step])
    steps = planes.flatten(2).transpose(1, 2)
    torch.testing.assert_close(steps[:, :24], x)
    assert (steps[:, 24:] == 0).all()


@pytest.mark.parametrize(("H", "W"), [(1, 1), (1, 9), (3, 2), (7, 12), (20, 5)])
def test_a_sum_of_convolutions_is_one(H: int, W: int) -> None:
    """Also where the plane is smaller than the kernel, and where only some cells are asked for."""
    torch.manual_seed(0)
    inception, planes = Inception(3, 5, 4), torch.randn(2, 3, H, W)
    each = [
        functional.conv2d(planes, c.get_parameter("weight"), c.get_parameter("bias"), padding=i)
        for i, c in enumerate(inception.convolutions)
    ]
    wanted = torch.stack(each).mean(dim=0)
    torch.testing.assert_close(convolve(planes, inception.fused(), range(H), range(W)), wanted, rtol=1e-4, atol=1e-5)
    rows, columns = around(H - 1, 2, H), around(W // 2, 2, W)
    some = convolve(planes, inception.fused(), rows, columns)
    torch.testing.assert_close(
        some, wanted[:, :, rows.start : rows.stop, columns.start : columns.stop], rtol=1e-4, atol=1e-5
    )


def test_the_last_step_alone_is_the_last_of_all() -> None:
    """What is left out for a score makes no difference."""
    made, windows = small(recent=1, top=1.0), torch.randn(9, 24, 2)
    with torch.inference_mode():
        whole, last = made._reconstruct(windows, last=False), made._reconstruct(windows, last=True)
        torch.testing.assert_close(last, whole[:, -1:], rtol=1e-4, atol=1e-5)
        found = made.score(windows, 1)
    torch.testing.assert_close(found.score[:, 0], (whole - windows)[:, -1].square().mean(dim=1), rtol=1e-3, atol=1e-5)


def test_a_score_is_the_error_of_the_recent_steps_where_it_is_greatest() -> None:
    """Mean over 16 steps; of the two channels one counts."""
    made, windows = small(), torch.randn(9, 24, 2)
    with torch.inference_mode():
        error = (made.forward(windows) - windows)[:, -16:].square().mean(dim=1)
        found = made.score(windows, 1)
    torch.testing.assert_close(found.score[:, 0], error.amax(dim=1), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.contribution[:, 0], error, rtol=1e-3, atol=1e-5)


def test_several_steps_are_scored_one_at_a_time() -> None:
    """The last three steps of a window, each as the last step of a window of 22."""
    made, windows = small(), torch.randn(5, 24, 2)
    with torch.inference_mode():
        together = made.score(windows, 3)
        for i in range(3):
            alone = made.score(windows[:, i : 22 + i], 1)
            torch.testing.assert_close(together.score[:, i], alone.score[:, 0], rtol=1e-4, atol=1e-5)


def test_a_flat_window_stays_flat() -> None:
    """Its deviation is next to nothing, and so is what is said of it."""
    made = small()
    with torch.inference_mode():
        found = made.score(torch.full((2, 24, 2), 3.0), 1)
    assert torch.isfinite(found.score).all()
    torch.testing.assert_close(found.expected, torch.full((2, 1, 2), 3.0), rtol=0.02, atol=0.02)


def test_the_published_size() -> None:
    """As for server machines: 64 wide, 2 blocks, 5 periods, 6 kernels."""
    config = TimesNetPaperConfig(100, 38)
    assert (config.width, config.feedforward, config.layers, config.periods, config.kernels) == (64, 64, 2, 5, 6)
