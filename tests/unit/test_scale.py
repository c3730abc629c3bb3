"""The scale of a sensor against numpy's own mean and deviation, and what constants and outliers do to it."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.detect import scale


def folded(windows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fold windows (W,) one after another into the scale of one sensor with one channel."""
    state = (np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1), np.float32))
    for window in windows:
        state = scale.fold(window.reshape(1, -1, 1), *state)
    return state


def test_equals_the_mean_and_deviation_of_all_readings() -> None:
    """Folding ten windows of moderate values gives numpy's mean and standard deviation of all of them."""
    windows = [np.random.default_rng(i).uniform(10, 20, 50) for i in range(10)]
    center, spread, folds = folded(windows)
    assert center[0, 0] == pytest.approx(np.concatenate(windows).mean())
    assert spread[0, 0] == pytest.approx(np.concatenate(windows).std())
    assert folds[0, 0] == 10


def test_missing_values_are_left_out() -> None:
    """NaN has no part in the scale, and a window without a value changes nothing."""
    window = np.random.default_rng(0).normal(size=50)
    gappy = window.copy()
    gappy[::2] = np.nan
    center, spread, folds = folded([gappy, np.full(50, np.nan)])
    assert (center[0, 0], spread[0, 0]) == pytest.approx((np.nanmean(gappy), np.nanstd(gappy)))
    assert folds[0, 0] == 1


def test_one_outlier_hardly_widens_it_and_a_shift_is_followed() -> None:
    """A huge value enters clipped; a level that stays is found again within the memory."""
    calm = [np.random.default_rng(i).normal(size=50) for i in range(20)]
    hit = calm[0].copy()
    hit[7] = 1e6
    assert folded([*calm, hit])[1][0, 0] < 1.5
    shifted = [100 + np.random.default_rng(i).normal(size=50) for i in range(150)]
    center, spread, _ = folded([*calm, *shifted])
    assert abs(center[0, 0] - 100) < 3 * spread[0, 0]
    assert spread[0, 0] < 30


def test_a_constant_channel_has_a_unit() -> None:
    """Without spread, a tenth of the level is one unit, or 1 at level zero; never nothing."""
    center = np.array([5.0, 0.0, -200.0])
    assert scale.unit(center, np.zeros(3)).tolist() == [0.5, 1.0, 20.0]
    center, spread, _ = folded([np.full(50, 7.0)] * 3 + [np.r_[np.full(49, 7.0), 9.0]])
    assert spread[0, 0] > 0


def test_scaled_values_are_cut_off() -> None:
    """Whatever a sensor sends, a model sees values within the limit."""
    values = np.array([[[1e30], [-1e300], [0.0], [np.nan]]])
    scaled = scale.apply(values, np.zeros((1, 1)), np.ones((1, 1)))[0, :, 0]
    assert scaled[:3].tolist() == [scale.LIMIT, -scale.LIMIT, 0.0]
    assert np.isnan(scaled[3])
