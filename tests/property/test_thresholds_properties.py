"""Thresholds under any scores: finite answers, independence of batches and units, order, the hard cap."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_detector.detect import thresholds
from stream_detector.detect.thresholds import Calibration, Decisions, calibrate
from stream_detector.detect.thresholds.alarms import CAPACITY, EPISODE_GAP, REFILL
from stream_detector.detect.thresholds.tail import DepthCurve, fit_pareto
from stream_detector.records import Floats
from stream_detector.settings import Budget

PERIOD = 40
FLEET = calibrate(list(np.random.default_rng(0).exponential(size=(40, 320))))
SCORES = st.one_of(
    st.just(0.0),
    st.just(float("nan")),
    st.just(1e300),
    st.floats(0, 10),
    st.floats(0, allow_infinity=True, allow_nan=False),
)
METHODS = st.sampled_from(["block-maximum", "spot", "dspot", "quantile", "fixed:3"])


def judge(method: str, scores: Floats, calibration: Calibration | None, known: bool) -> Decisions:
    """Decisions (T, n) of scores (T, n)."""
    fleet = thresholds.build(method, Budget.parse(f"1 per {PERIOD} readings"), calibration)
    T, n = scores.shape
    state, sensor = np.zeros(n, np.dtype(thresholds.fields(method))), np.arange(n)
    if known:
        fleet.start(state, sensor, np.zeros(n), np.full(n, 0.7))
    else:
        fleet.start(state, sensor)
    out = Decisions.empty((T, n))
    for t in range(T):
        out.put(t, fleet.decide_step(state, sensor, scores[t], np.full(n, 1000.0), np.ones(n, np.bool_)))
    return out


@settings(max_examples=60, deadline=None)
@given(METHODS, arrays(np.float64, (60, 2), elements=SCORES), st.booleans())
def test_every_score_gets_a_usable_answer(method: str, scores: Floats, known: bool) -> None:
    """p-values lie in (0, 1], thresholds are no NaN, and what is anomalous lies strictly above its threshold."""
    out = judge(method, scores, FLEET, known)
    given_ = ~np.isnan(scores)
    assert ((out.p_value[given_] > 0) & (out.p_value[given_] <= 1)).all()
    assert np.isnan(out.p_value[~given_]).all()
    assert not np.isnan(out.threshold[given_]).any()
    assert (np.minimum(scores, 1e308)[out.anomalous] >= out.threshold[out.anomalous] * (1 - 1e-6)).all()
    assert not (out.anomalous & out.calm).any()


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (80, 2), elements=st.floats(1e-3, 1e3)), st.integers(-30, 30))
def test_units_do_not_matter(scores: Floats, power: int) -> None:
    """Scores and their sensors' level times a power of two: the same decisions."""
    plain = judge("block-maximum", scores, None, False)
    scaled = judge("block-maximum", scores * 2.0**power, None, False)
    assert np.array_equal(plain.anomalous, scaled.anomalous)
    np.testing.assert_allclose(plain.p_value, scaled.p_value, rtol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["block-maximum", "spot", "dspot", "quantile"]),
    st.integers(0, 2**32 - 1),
    st.floats(1e-4, 1e4),
    st.integers(1, 40),
)
def test_a_swap_to_proportional_scores_changes_no_decision(method: str, seed: int, factor: float, held: int) -> None:
    """However many windows are at hand, and whatever the sensors' state: the same alerts, at the same p-values."""
    rng = np.random.default_rng(seed)
    before, after, n = int(rng.integers(1, 1400)), 120, 3
    scores = rng.exponential(size=(before + after, n)) ** rng.uniform(0.5, 2, n)
    fleet = thresholds.build(method, Budget.parse(f"1 per {PERIOD} readings"), FLEET)
    state, sensor = np.zeros(n, np.dtype(thresholds.fields(method))), np.arange(n)
    fleet.start(state, sensor)
    always, interval_ms = np.ones(n, np.bool_), np.full(n, 1000.0)
    for score in scores[:before]:
        fleet.decide_step(state, sensor, score, interval_ms, always)
    moved, windows = state.copy(), rng.exponential(size=(n, held))
    fleet.reseat(moved, sensor, windows, factor * windows)
    for score in scores[before:]:
        plain = fleet.decide_step(state, sensor, score, interval_ms, always)
        scaled = fleet.decide_step(moved, sensor, factor * score, interval_ms, always)
        assert np.array_equal(plain.anomalous, scaled.anomalous)
        assert np.array_equal(plain.calm, scaled.calm)
        assert np.array_equal(plain.regime_change, scaled.regime_change)
        np.testing.assert_allclose(scaled.p_value, plain.p_value, rtol=1e-4)
        np.testing.assert_allclose(scaled.threshold, factor * plain.threshold, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (150, 1), elements=st.one_of(st.floats(0.1, 5), st.floats(100, 1e9))))
def test_the_cap_on_alerts_is_hard(scores: Floats) -> None:
    """Whatever comes, alerts stay within 3 at once and 3 budgets in the long run."""
    anomalous = judge("block-maximum", scores, FLEET, True).anomalous[:, 0]
    at = np.flatnonzero(anomalous)
    alerts = int((np.diff(at, prepend=-EPISODE_GAP - 1) > EPISODE_GAP).sum())
    assert alerts <= CAPACITY + REFILL * len(scores) / PERIOD


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, 30, elements=st.floats(-1e6, 1e6)), st.sampled_from(range(30)))
def test_depth_never_falls_and_can_be_undone(r: Floats, place: int) -> None:
    """The curve is monotone, finite far out, and `score` takes depths back."""
    curve = FLEET.curve
    y = curve.depth(np.sort(r))
    assert np.isfinite(y).all()
    assert (np.diff(y) >= 0).all()
    one = np.clip(r[place : place + 1], -3, 20)
    again = curve.depth(curve.score(curve.depth(one)))
    np.testing.assert_allclose(again, curve.depth(one), rtol=0.02, atol=0.02)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (1, 20), elements=st.floats(1e-6, 1e6)), st.integers(-40, 40))
def test_the_pareto_fit_is_finite_and_keeps_units(excess: Floats, power: int) -> None:
    """Any excesses, ties too, give a finite shape and a positive scale that grows with them."""
    count = np.array([20])
    shape, scale = fit_pareto(excess, count)
    other, larger = fit_pareto(excess * 2.0**power, count)
    assert np.isfinite([shape, scale]).all()
    assert scale[0] > 0
    np.testing.assert_allclose(other, shape, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(larger, scale * 2.0**power, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(arrays(np.float64, st.integers(0, 120), elements=SCORES), max_size=6))
def test_any_scores_can_be_calibrated(scores: list[Floats]) -> None:
    """The curve rises, and a copy through plain values is the same calibration."""
    calibration = calibrate(scores)
    assert isinstance(calibration.curve, DepthCurve)
    assert Calibration.from_json(calibration.to_json()) == calibration
