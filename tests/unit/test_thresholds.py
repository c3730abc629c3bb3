"""Thresholds: budgets that hold, cold starts, shifts, swaps, feedback, and scores that are no good."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_detector.detect import thresholds
from stream_detector.detect.state import State
from stream_detector.detect.thresholds import (
    BlockMaximum,
    Calibration,
    Decisions,
    calibrate,
    decisions,
    epochs,
    limits,
    spot,
    swap,
    tail,
    track,
)
from stream_detector.detect.thresholds.alarms import CAPACITY, EPISODE_GAP, REFILL
from stream_detector.detect.thresholds.calibration import BLOCK, KEPT, WARM_UP, generic
from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.records import Bools, Floats, Floats32, Ints
from stream_detector.settings import Budget

Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
SHAPES: dict[str, Draw] = {
    "half-normal": lambda rng, size: np.abs(rng.standard_normal(size)),
    "exponential": lambda rng, size: rng.exponential(size=size),
    "log-normal": lambda rng, size: np.exp(rng.standard_normal(size)),
    "student": lambda rng, size: np.abs(rng.standard_t(3, size)),
    "pareto": lambda rng, size: rng.pareto(3, size) + 1,
}


class Fleet:
    """n sensors under one method; remembers every decision of every step."""

    def __init__(self, n: int, budget: str, calibration: Calibration | None, method: str = thresholds.DEFAULT) -> None:
        self.method = thresholds.build(method, Budget.parse(budget), calibration)
        self.state = np.zeros(n, np.dtype(thresholds.fields(method)))
        self.sensor = np.arange(n)
        self.interval = np.full(n, 1000.0)
        self.method.start(self.state, self.sensor)

    def step(self, score: Floats, countable: Bools | None = None) -> Decisions:
        """Judge one score a sensor."""
        counts = np.ones(len(score), np.bool_) if countable is None else countable
        return self.method.decide_step(self.state, self.sensor, score, self.interval, counts)

    def run(self, scores: Floats) -> Decisions:
        """Judge scores (T, n); decisions (T, n)."""
        out = Decisions.empty(scores.shape)
        for t, score in enumerate(scores):
            out.put(t, self.step(score))
        return out


def alerts(anomalous: Bools) -> Ints:
    """Episodes that begin, (T, n) -> (n,): exceedances at most 10 steps apart are one."""
    last = np.full(anomalous.shape[1], -EPISODE_GAP - 1)
    found = np.zeros(anomalous.shape[1], np.int64)
    for t, now in enumerate(anomalous):
        found += now & (t - last > EPISODE_GAP)
        last[now] = t
    return found


def fleet_of(draw: Draw, factor: float = 1.0, sensors: int = 100) -> Calibration:
    """Calibration on 320 held-out scores each of other sensors of the same kind."""
    return calibrate(list(factor * draw(np.random.default_rng(1), (sensors, 320))))


@dataclass(frozen=True)
class Due:
    """Stands in for `detect.due.Due`."""

    sensor: Ints
    interval_ms: Floats
    settling: Bools
    rounds: list[Ints]


# --- the budget -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_false_alerts_keep_the_budget_on_normal_scores(shape: str) -> None:
    """After warm-up, false alerts lie within 0.8 to 1.2 of the budget, and do not creep up."""
    draw, n, period = SHAPES[shape], 400, 500
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(draw))
    anomalous = fleet.run(draw(np.random.default_rng(2), (10_000, n))).anomalous
    early, late = alerts(anomalous[2000:6000]), alerts(anomalous[6000:])
    ratio = (early + late).mean() / (8000 / period)
    assert 0.8 <= ratio <= 1.2
    assert late.sum() / early.sum() < 1.2


@pytest.mark.parametrize("shape", ["exponential", "pareto"])
def test_without_a_fleet_a_sensor_is_silent_and_then_keeps_the_budget(shape: str) -> None:
    """With no calibration there is no threshold for 64 blocks after warm-up, and a valid one from then on."""
    draw, n, period = SHAPES[shape], 300, 1000
    fleet = Fleet(n, f"1 per {period} readings", None)
    out = fleet.run(draw(np.random.default_rng(3), (6000, n)))
    silent = WARM_UP + 64 * BLOCK
    assert not out.anomalous[:silent].any()
    assert np.isinf(out.threshold[silent - 1]).all()
    assert np.isfinite(out.threshold[silent]).all()
    ratio = alerts(out.anomalous[silent:]).mean() / ((6000 - silent) / period)
    assert 0.75 <= ratio <= 1.2


def test_a_new_sensor_in_a_fleet_is_judged_after_warm_up_and_keeps_the_budget() -> None:
    """From the fleet's threshold the sensor's own takes over, with no more alerts than the budget on the way."""
    draw, n, period = SHAPES["log-normal"], 400, 2000
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(draw))
    out = fleet.run(draw(np.random.default_rng(4), (3000, n)))
    assert not out.anomalous[:WARM_UP].any()
    assert (out.scope[WARM_UP] == 0).all()
    assert (out.scope[-1] == 1).all()
    assert 0.5 <= alerts(out.anomalous[WARM_UP:]).mean() / ((3000 - WARM_UP) / period) <= 1.25


def test_a_sensor_known_from_training_is_judged_from_its_first_score() -> None:
    """Its own median and MAD of log scores spare it the warm-up."""
    fleet = Fleet(2, "1 per 1000 readings", fleet_of(SHAPES["log-normal"]))
    fleet.method.start(fleet.state, fleet.sensor, np.array([0.0, np.nan]), np.array([0.67, np.nan]))
    out = fleet.step(np.exp(np.array([12.0, 12.0])))
    assert out.anomalous.tolist() == [True, False]


def test_a_noisy_sensor_gets_a_threshold_of_its_own() -> None:
    """A sensor with heavier tails than the fleet soon alerts little more than the budget allows."""
    n, period = 200, 1000
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(SHAPES["half-normal"]))
    anomalous = fleet.run(SHAPES["student"](np.random.default_rng(5), (12_000, n))).anomalous
    assert alerts(anomalous[6000:]).mean() / (6000 / period) < 1.5


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_decisions_do_not_depend_on_the_unit_of_the_scores(factor: float) -> None:
    """Multiplying all scores, the fleet's too, changes no decision and no p-value."""
    draw = SHAPES["exponential"]
    scores = draw(np.random.default_rng(6), (3000, 50))
    plain = Fleet(50, "1 per 300 readings", fleet_of(draw)).run(scores)
    scaled = Fleet(50, "1 per 300 readings", fleet_of(draw, factor)).run(scores * factor)
    assert plain.anomalous.sum() > 100
    assert np.array_equal(plain.anomalous, scaled.anomalous)
    np.testing.assert_allclose(scaled.p_value, plain.p_value, rtol=1e-4)


def test_a_budget_in_time_counts_the_readings_of_each_sensor() -> None:
    """Sensors with ten times the readings in the same time get a chance a step of a tenth."""
    fleet = Fleet(2, "1 per 10m", fleet_of(SHAPES["exponential"]))
    fleet.interval = np.array([1000.0, 100.0])
    np.testing.assert_allclose(fleet.step(np.ones(2)).alpha, [1 / 600, 1 / 6000], rtol=1e-6)


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_tiny_budget_gives_a_finite_threshold(calibrated: bool) -> None:
    """One alert a week at a reading every 4 ms: extrapolated, finite, and above all that was seen."""
    draw = SHAPES["log-normal"]
    fleet = Fleet(20, "1 per 7d", fleet_of(draw) if calibrated else None)
    fleet.interval = np.full(20, 4.0)
    scores = draw(np.random.default_rng(7), (1500, 20))
    out = fleet.run(scores)
    assert np.isfinite(out.threshold[-1]).all()
    assert not out.anomalous.any()
    assert (out.threshold[-1] > scores.max(axis=0)).all()


def test_extrapolation_beyond_the_fleets_history_is_near_the_truth() -> None:
    """With 2,000 block maxima, the threshold for one alert in 32,000 blocks is right within a factor of 3, usually."""
    ratio = []
    for seed in range(11):
        calibration = calibrate(list(SHAPES["exponential"](np.random.default_rng(seed), (100, 320))))
        fleet = Fleet(1, f"1 per {32_000 * BLOCK} readings", calibration)
        fleet.method.start(fleet.state, fleet.sensor, np.log([np.log(2)]), np.array([calibration.mad]))
        ratio.append(np.exp(-fleet.step(np.ones(1)).threshold[0]) * 32_000 * BLOCK)
    assert 1 / 3 < np.median(ratio) < 3


def test_history_needed_says_what_a_budget_asks_for() -> None:
    """One alert a week needs four weeks; the phrase names them."""
    needed = thresholds.history_needed(Budget.parse("1 per 7d"), 600_000)
    assert abs(needed.time_ms / 86_400_000 - 28) < 0.5
    assert "28 days" in str(needed)


def test_shortfall_says_what_a_budget_still_lacks() -> None:
    """Nothing with four weeks of history; before, a sentence with the time that is still to come."""
    budget, interval_ms = Budget.parse("1 per 7d"), 600_000.0
    needed = thresholds.history_needed(budget, interval_ms).steps + WARM_UP
    assert thresholds.shortfall(budget, interval_ms, needed) is None
    assert thresholds.shortfall(budget, interval_ms, 10 * needed) is None
    text = thresholds.shortfall(budget, interval_ms, needed // 2)
    assert text is not None
    assert "'1 per 7d' needs 28 days" in text
    assert "15 days of it are still to come" in text
    assert thresholds.shortfall(budget, interval_ms, needed - 1) is not None
    assert "28 days" in str(thresholds.shortfall(budget, float("nan"), 0))


# --- anomalies, shifts, swaps, feedback -------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "size"), [("log-normal", 1.0), ("log-normal", 1.5), ("pareto", 1.0)])
def test_anomalies_are_found_again_and_again(shape: str, size: float) -> None:
    """Single anomalies 1.5 times as large as the threshold, at a third of the budget's rate: recall 0.95.

    size: 1 for 1.5 times the score, else so many times the threshold's distance from the median.
    """
    draw, n, period = SHAPES[shape], 250, 600
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(draw))
    rng = np.random.default_rng(8)
    x = np.log(draw(rng, (400_000, 1)))
    middle, tail_x = np.median(x), np.quantile(x, 1 - 1 / period)
    scores = draw(rng, (9000, n))
    strike = rng.random(scores.shape) < 1 / (3 * period)
    strike[:300] = False
    scores[strike] = np.exp(middle + size * (tail_x - middle) + np.log(1.5) * (size == 1))
    found = fleet.run(scores).anomalous[strike]
    assert found.mean() >= 0.95
    assert found[-len(found) // 3 :].mean() >= 0.95


def test_one_epoch_full_of_anomalies_hardly_raises_the_threshold() -> None:
    """Averaged with the epochs before: at most half of the way to the anomalies' size."""
    n, period = 50, 200
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(SHAPES["exponential"]))
    rng = np.random.default_rng(37)
    fleet.run(SHAPES["exponential"](rng, (4 * 4 * period, n)))
    before = fleet.state["th_limit"].copy()
    scores = SHAPES["exponential"](rng, (4 * period, n))
    scores[50::150] = 30.0
    out = fleet.run(scores)
    anomaly = (np.log(30.0) - fleet.state["th_center"]) / fleet.state["th_spread"]
    assert out.anomalous[50::150].mean() > 0.95
    assert np.median((fleet.state["th_limit"] - before) / (anomaly - before)) < 0.5


def test_a_past_that_chance_cannot_explain_replaces_what_was_known() -> None:
    """Usual maxima move a threshold by a third of the way; far lower ones, and blocks above it by the dozen, all."""
    known = limits.Fleet(fleet_of(SHAPES["log-normal"]))
    alpha_b, length = np.full(4, 0.01), np.full(4, 399)
    base = known.threshold(alpha_b)
    off = np.array([0.45, 3.0, 3.0, -3.0])
    found = known.curve.score(known.curve.depth(base) + off)
    trust, over = np.full(4, limits.MOST_TRUST), np.array([4, 4, 20, 4])
    limit, _, after = limits.blend(found, np.ones(4), base, trust, over, length, alpha_b, known)
    moved = (known.curve.depth(limit) - known.curve.depth(base)) / off
    np.testing.assert_allclose(moved, [1 / 3, 0.2 / 3, 1, 1], atol=0.04)
    assert (after > limits.MOST_TRUST).tolist() == [True, True, False, False]


def test_after_a_regime_change_the_level_is_found_quickly() -> None:
    """A level that jumps by less than the threshold makes alerts overflow; 500 steps later it is followed."""
    n = 200
    fleet = Fleet(n, "1 per 1000 readings", fleet_of(SHAPES["log-normal"]))
    rng = np.random.default_rng(38)
    fleet.run(SHAPES["log-normal"](rng, (4000, n)))
    out = fleet.run(np.exp(2.0) * SHAPES["log-normal"](rng, (500, n)))
    told = out.regime_change.any(axis=0)
    assert told.mean() > 0.5
    assert np.median(np.abs(fleet.state["th_center"][told] - 2.0)) < 0.6


def test_a_lasting_shift_is_one_story_and_then_the_new_normal() -> None:
    """After a shift by twelve MADs alerts stay within the cap, stop, and the sensor sees anomalies again."""
    draw, n, period = SHAPES["log-normal"], 50, 1000
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(draw))
    rng = np.random.default_rng(9)
    fleet.run(draw(rng, (3000, n)))
    shifted = fleet.run(np.exp(8) * draw(rng, (4000, n)))
    assert shifted.anomalous[:5].any(axis=0).mean() > 0.9
    assert (alerts(shifted.anomalous) <= CAPACITY + REFILL * 4000 / period).all()
    assert alerts(shifted.anomalous[2000:]).mean() < 2 * 2000 / period
    assert (shifted.regime_change.sum(axis=0) <= 4000 / period).all()
    assert fleet.step(np.full(n, np.exp(20.0))).anomalous.mean() > 0.5


def test_overflowing_alerts_are_told_once_as_a_regime_change() -> None:
    """Of anomalies every 20 steps, the first three alert; then one regime change, and only refilled tokens alert."""
    draw, n = SHAPES["exponential"], 20
    fleet = Fleet(n, "1 per 3000 readings", fleet_of(draw))
    rng = np.random.default_rng(10)
    fleet.method.start(fleet.state, fleet.sensor, np.full(n, -0.37), np.full(n, 0.77))
    scores = np.minimum(draw(rng, (900, n)), 3.0)
    scores[::20] = 1e4
    out = fleet.run(scores)
    assert (out.anomalous[:60:20].sum(axis=0) == 3).all()
    assert not out.anomalous[60:].any()
    assert out.regime_change[60].all()
    assert (out.regime_change.sum(axis=0) == 1).all()


def test_an_episode_that_found_no_token_is_told_when_there_is_one() -> None:
    """A lasting anomaly just after three short ones is silent only until the bucket holds an alert again."""
    n, period = 1, 450
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(SHAPES["exponential"]))
    fleet.method.start(fleet.state, fleet.sensor, np.full(n, -0.37), np.full(n, 0.77))
    scores = np.minimum(SHAPES["exponential"](np.random.default_rng(29), (200, n)), 3.0)
    scores[[0, 20, 40]] = 1e6
    scores[60:] = 1e6
    anomalous = fleet.run(scores).anomalous[:, 0]
    assert not anomalous[60 : period // 3].any()
    assert anomalous[period // 3 + 1 :].all()


def test_a_past_full_of_anomalies_does_not_hide_those_that_follow() -> None:
    """Four huge ones in an epoch set no threshold beyond the cap: smaller ones are still seen."""
    n, period = 10, 300
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(SHAPES["exponential"]))
    rng = np.random.default_rng(30)
    scores = SHAPES["exponential"](rng, (3000, n))
    scores[::100] = 1e9
    fleet.run(scores)
    calm = fleet.run(np.minimum(SHAPES["exponential"](rng, (period, n)), 3.0))
    assert (calm.threshold[-1] < 1e3).all()
    assert fleet.step(np.full(n, 1e3)).anomalous.all()


def test_learning_goes_on_after_a_regime_change() -> None:
    """A sensor in one endless episode gets a higher threshold: skipping what goes on has an end."""
    draw, n = SHAPES["exponential"], 20
    fleet = Fleet(n, "1 per 1000 readings", fleet_of(draw))
    rng = np.random.default_rng(11)
    fleet.run(draw(rng, (1000, n)))
    before = fleet.state["th_limit"].copy()
    scores = draw(rng, (4000, n))
    scores[::8] = 50.0  # in every block, and never ten steps apart
    out = fleet.run(scores)
    assert (fleet.state["th_limit"] > before).mean() > 0.9
    assert out.anomalous[-1000:].mean() < 0.01
    assert (out.regime_change.sum(axis=0) + alerts(out.anomalous) <= 3 + 3 * 4 + 4).all()


def test_a_swap_of_weights_causes_no_storm() -> None:
    """A noisy map of the scores to another scale, seen on 25 windows, keeps the budget; not told of, it storms."""
    draw, n, period = SHAPES["exponential"], 400, 1000
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(draw))
    rng = np.random.default_rng(12)
    fleet.run(draw(rng, (5000, n)))
    kept = fleet.state.copy()
    old = draw(rng, (1025, n))
    new = 100 * old**0.8 * np.exp(0.1 * rng.standard_normal(old.shape))
    fleet.method.reseat(fleet.state, fleet.sensor, old[:25].T, new[:25].T)
    assert alerts(fleet.run(new[25:]).anomalous).mean() <= 1.15 * 1000 / period
    fleet.state = kept
    assert alerts(fleet.run(new[25:]).anomalous).mean() > 2 * 1000 / period


def test_swap_after_swap_keeps_the_budget_and_hides_nothing() -> None:
    """Weights that are refreshed a dozen times between two askings do not raise thresholds on and on."""
    draw, n, period = SHAPES["exponential"], 400, 1000
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(draw))
    rng = np.random.default_rng(13)
    fleet.run(draw(rng, (5000, n)))
    limits = [float(np.median(fleet.state["th_limit"]))]
    quiet = 0.0
    for _ in range(12):
        old = draw(rng, (25, n))
        fleet.method.reseat(fleet.state, fleet.sensor, old.T, (old * np.exp(0.1 * rng.standard_normal(old.shape))).T)
        limits.append(float(np.median(fleet.state["th_limit"])))
        quiet += float(alerts(fleet.run(draw(rng, (100, n))).anomalous).mean())
    assert limits[-1] < 1.15 * limits[0]
    assert limits[-1] < 1.01 * limits[-4]
    assert 0.5 < quiet / (12 * 100 / period) < 1.15


def test_sensors_that_changed_begin_anew_under_the_fleets_threshold() -> None:
    """What they scored during a change does not hide what comes; the budget is kept, and what people said stays."""
    draw, n, period = SHAPES["exponential"], 400, 1000
    fleet = Fleet(n, f"1 per {period} readings", fleet_of(draw))
    rng = np.random.default_rng(14)
    fleet.run(draw(rng, (5000, n)))
    storm = draw(rng, (4000, n))
    storm[::150] *= 30
    fleet.run(storm)
    fleet.method.mark_false_positive(fleet.state, fleet.sensor[:10], np.full(10, 200.0))
    level = np.log(draw(rng, (4000, 1)))
    median = float(np.median(level))
    mad = float(np.median(np.abs(level - median)))
    before = fleet.state.copy()
    fleet.method.renew(fleet.state, fleet.sensor, np.full(n, median), np.full(n, mad))
    assert (fleet.state["th_limit"][10:] < 0.8 * np.median(before["th_limit"][10:])).all()
    assert (fleet.state["th_limit"][:10] > 1.2 * fleet.state["th_limit"][10]).all()
    np.testing.assert_array_equal(fleet.state["th_full"], before["th_full"])
    assert 0.4 < alerts(fleet.run(draw(rng, (3000, n))).anomalous)[10:].mean() / (3000 / period) <= 1.15


def test_nothing_begins_anew_without_a_fleet_to_begin_from() -> None:
    """Its own past is then all that there is."""
    alone = Fleet(3, "1 per 1000 readings", None)
    alone.run(SHAPES["exponential"](np.random.default_rng(15), (2000, 3)))
    before = alone.state.copy()
    alone.method.renew(alone.state, alone.sensor, np.zeros(3), np.ones(3))
    assert alone.state.tobytes() == before.tobytes()


def test_a_swap_holds_thresholds_to_what_the_new_fleet_allows() -> None:
    """A change that the old weights did not know has raised them; what a person has said of one stays."""
    draw = SHAPES["exponential"]
    fleet = Fleet(3, "1 per 1000 readings", fleet_of(draw))
    scores = draw(np.random.default_rng(15), (2000, 3))
    fleet.run(scores)
    assert (fleet.state["th_own"] == 1).all()
    before = fleet.state["th_limit"].copy()
    fleet.state["th_limit"][1:] = fleet.state["th_base"][1:] = 300.0
    fleet.state["th_floor"][2] = 300.0
    at_hand = scores[-32:].T
    fleet.method.reseat(fleet.state, fleet.sensor, at_hand, at_hand)
    assert isinstance(fleet.method, BlockMaximum)
    highest = fleet.method.fleet.highest(np.array([BLOCK / 1000]))[0]
    np.testing.assert_array_equal(fleet.state["th_limit"], [before[0], highest, 300.0])


def test_a_sensor_that_is_not_warm_yet_need_not_be() -> None:
    """Training knows its level: it is judged as a new sensor that training knows."""
    draw = SHAPES["exponential"]
    young, known = (Fleet(3, "1 per 1000 readings", fleet_of(draw)) for _ in range(2))
    young.run(draw(np.random.default_rng(15), (20, 3)))
    young.method.renew(young.state, young.sensor, np.zeros(3), np.ones(3))
    known.method.start(known.state, known.sensor, np.zeros(3), np.ones(3))
    assert young.state.tobytes() == known.state.tobytes()


def test_a_swap_of_weights_follows_pairs_and_not_levels() -> None:
    """Windows that happen to score high with both weights move a level by what the weights do, not by that luck."""
    fleet = Fleet(3, "1 per 1000 readings", fleet_of(SHAPES["exponential"]))
    fleet.method.start(fleet.state, fleet.sensor, np.zeros(3), np.full(3, 0.5))
    fleet.step(np.ones(3))
    before = fleet.state.copy()
    old = np.exp(3 + np.random.default_rng(31).standard_normal((3, 25)))
    new = 7 * old
    new[1], old[2, :20] = 7 * old[1] ** 2, np.nan
    fleet.method.reseat(fleet.state, fleet.sensor, old, new)
    center, spread = fleet.state["th_center"], fleet.state["th_spread"]
    np.testing.assert_allclose(center, [1, 2, 1] * before["th_center"] + np.log(7))
    np.testing.assert_allclose(spread, [1, 2, 1] * before["th_spread"])


def test_few_windows_that_scatter_hardly_change_the_spread() -> None:
    """Scores that have nothing to do with each other move a MAD's ratio less than half of the way."""
    rng = np.random.default_rng(32)
    move = swap.measure(np.exp(rng.standard_normal((500, 8))), np.exp(3 * rng.standard_normal((500, 8))))
    assert 0 < np.median(np.log(move.ratio)) < 0.5 * np.log(3)
    assert np.median(move.steps) < 20
    longer = swap.measure(np.exp(rng.standard_normal((500, 300))), np.exp(3 * rng.standard_normal((500, 300))))
    assert np.median(np.log(longer.ratio)) > 0.85 * np.log(3)


@pytest.mark.parametrize("method", ["block-maximum", "spot", "dspot", "quantile"])
def test_a_sensor_without_windows_at_hand_begins_anew(method: str) -> None:
    """Its row is then what it was at the start; its neighbour's is not."""
    fleet = Fleet(2, "1 per 200 readings", fleet_of(SHAPES["exponential"]), method)
    fresh = fleet.state.copy()
    fleet.run(SHAPES["exponential"](np.random.default_rng(33), (1200, 2)))
    scores = np.array([[np.nan] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    fleet.method.reseat(fleet.state, fleet.sensor, scores, 2 * scores)
    assert fleet.state[0].tobytes() == fresh[0].tobytes()
    assert fleet.state[1].tobytes() != fresh[1].tobytes()
    fleet.method.reseat(fleet.state, fleet.sensor, np.empty((2, 0)), np.empty((2, 0)))
    assert fleet.state.tobytes() == fresh.tobytes()


def test_a_fixed_threshold_stays_what_its_owner_wrote() -> None:
    """New weights do not move it; what feedback raised moves with the scores."""
    fleet = Fleet(1, "1 per 100 readings", None, "fixed:3")
    scores = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    fleet.method.reseat(fleet.state, fleet.sensor, scores, 100 * scores)
    assert fleet.step(np.array([5.0])).threshold[0] == pytest.approx(3)
    fleet.method.mark_false_positive(fleet.state, fleet.sensor, np.array([500.0]))
    fleet.method.reseat(fleet.state, fleet.sensor, 100 * scores, scores)
    assert fleet.step(np.array([5.0])).threshold[0] == pytest.approx(5)


def test_a_borrowed_threshold_is_that_of_the_fleet_with_the_new_weights() -> None:
    """A sensor without a past of its own gets the new artifact's; p is the budget's chance there."""
    fleet = Fleet(1, "1 per 1000 readings", fleet_of(SHAPES["half-normal"]))
    fleet.method.start(fleet.state, fleet.sensor, np.zeros(1), np.full(1, 0.5))
    fleet.step(np.ones(1))
    other = thresholds.build(thresholds.DEFAULT, Budget.parse("1 per 1000 readings"), fleet_of(SHAPES["pareto"]))
    scores = np.exp(np.random.default_rng(34).standard_normal((1, 25)))
    before = float(fleet.state["th_limit"][0])
    other.reseat(fleet.state, fleet.sensor, scores, scores)
    fleet.method = other
    assert fleet.state["th_limit"][0] > 2 * before
    threshold = fleet.step(np.ones(1)).threshold
    assert fleet.step(threshold).p_value[0] == pytest.approx(1e-3, rel=0.1)


def test_a_false_positive_raises_the_threshold_at_once() -> None:
    """The same score does not alert again; one that is clearly higher does."""
    fleet = Fleet(1, "1 per 1000 readings", fleet_of(SHAPES["exponential"]))
    fleet.method.start(fleet.state, fleet.sensor, np.array([-0.37]), np.array([0.77]))
    score = np.array([50.0])
    assert fleet.step(score).anomalous[0]
    fleet.method.mark_false_positive(fleet.state, fleet.sensor, score)
    quiet = fleet.state.copy()
    assert not fleet.step(score).anomalous[0]
    fleet.state = quiet
    assert fleet.step(4 * score).anomalous[0]


def test_a_threshold_raised_by_feedback_comes_down_by_halves() -> None:
    """When the sensor's past is asked next, half of the raise is left; later it is gone."""
    fleet = Fleet(1, "1 per 200 readings", fleet_of(SHAPES["exponential"]))
    rng = np.random.default_rng(28)
    fleet.run(SHAPES["exponential"](rng, (1000, 1)))
    fleet.method.mark_false_positive(fleet.state, fleet.sensor, np.array([1e4]))
    raised = float(fleet.state["th_limit"][0])
    seen = [raised]
    for score in SHAPES["exponential"](rng, (8000, 1)):
        fleet.step(score)
        if fleet.state["th_limit"][0] != seen[-1]:
            seen.append(float(fleet.state["th_limit"][0]))
    assert raised > 10
    assert 0.5 * raised < seen[1] < 0.75 * raised
    assert seen[-1] < 0.5 * raised


def test_a_confirmed_anomaly_is_left_out_of_the_learning() -> None:
    """Without it the block maxima hold nothing of its size."""
    fleet = Fleet(1, "1 per 1000 readings", fleet_of(SHAPES["exponential"]))
    rng = np.random.default_rng(13)
    fleet.run(SHAPES["exponential"](rng, (WARM_UP, 1)))
    fleet.step(np.array([1e4]))
    fleet.run(SHAPES["exponential"](rng, (2 * BLOCK - 1, 1)))
    assert fleet.state["th_top"][0, 0] > 8
    fleet.method.mark_confirmed(fleet.state, fleet.sensor, np.array([1e4]))
    assert fleet.state["th_top"][0, 0] < 8


@pytest.mark.parametrize("method", ["block-maximum", "spot", "dspot", "quantile", "fixed:3"])
def test_feedback_said_twice_changes_nothing_the_second_time(method: str) -> None:
    """Whatever arrives again after a crash, of the block at hand or of an earlier one, is taken once."""
    fleet = Fleet(2, "1 per 1000 readings", fleet_of(SHAPES["exponential"]), method)
    rng = np.random.default_rng(35)
    fleet.run(SHAPES["exponential"](rng, (1040, 2)))
    for size in (30.0, 31.0, 32.0):  # alike, so that taking one away again would take another
        fleet.step(np.array([size, size]))
        fleet.run(SHAPES["exponential"](rng, (22 * BLOCK, 2)))
    fleet.step(np.array([34.0, 34.0]))  # in the block at hand
    for mark in (fleet.method.mark_confirmed, fleet.method.mark_false_positive):
        start = fleet.state.tobytes()
        for score in (31.0, 34.0):
            mark(fleet.state, fleet.sensor, np.full(2, score))
        once = fleet.state.tobytes()
        assert once != start or method != thresholds.DEFAULT
        for score in (31.0, 34.0, 34.0, 31.0):
            mark(fleet.state, fleet.sensor, np.full(2, score))
        assert fleet.state.tobytes() == once


def test_confirmed_anomalies_go_one_by_one() -> None:
    """Two that are alike are told apart, in the block at hand too."""
    fleet = Fleet(1, "1 per 1000 readings", fleet_of(SHAPES["exponential"]))
    rng = np.random.default_rng(36)
    fleet.run(SHAPES["exponential"](rng, (WARM_UP, 1)))
    for size in (1e4, 1.2e4):
        fleet.step(np.array([size]))
        fleet.run(SHAPES["exponential"](rng, (2 * BLOCK - 1, 1)))
    fleet.step(np.array([9e3]))
    assert (fleet.state["th_top"][0, :2] > 8).all()
    for size, left in ((1e4, 1), (1.2e4, 0)):
        fleet.method.mark_confirmed(fleet.state, fleet.sensor, np.array([size]))
        assert (fleet.state["th_top"][0] > 8).sum() == left
        assert fleet.state["th_peak"][0] > 8
    fleet.method.mark_confirmed(fleet.state, fleet.sensor, np.array([9e3]))
    assert fleet.state["th_peak"][0] == -np.inf


# --- scores that are no good ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["block-maximum", "spot", "dspot"])
@pytest.mark.parametrize("value", [0.0, 5.0, 1e300])
def test_a_constant_score_never_alerts(method: str, value: float) -> None:
    """Strictly above the threshold means that ties are normal."""
    out = Fleet(2, "1 per 50 readings", fleet_of(SHAPES["exponential"]), method).run(np.full((3000, 2), value))
    assert not out.anomalous.any()
    assert np.isfinite(out.p_value).all()


@pytest.mark.parametrize("method", ["block-maximum", "spot", "dspot", "quantile", "fixed:3"])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_wild_scores_give_finite_p_values(method: str) -> None:
    """Zero, tiny, huge and infinite scores and ties among others: p-values between 0 and 1, no warnings."""
    rng = np.random.default_rng(14)
    scores = np.floor(3 * rng.exponential(size=(3000, 4)))
    wild = rng.random(scores.shape) < 0.02
    scores[wild] = rng.choice([0.0, 1e-300, 1e300, np.inf], wild.sum())
    out = Fleet(4, "1 per 200 readings", fleet_of(SHAPES["exponential"]), method).run(scores)
    assert ((out.p_value > 0) & (out.p_value <= 1)).all()
    assert not np.isnan(out.threshold).any()


@pytest.mark.parametrize("method", ["block-maximum", "spot", "dspot", "quantile", "fixed:3"])
def test_nan_is_neither_judged_nor_learned(method: str) -> None:
    """A step without a score has no p-value and leaves the state's bytes alone, at any time."""
    fleet = Fleet(3, "1 per 200 readings", fleet_of(SHAPES["exponential"]), method)
    for _ in range(2):
        before = fleet.state.tobytes()
        out = fleet.step(np.full(3, np.nan))
        assert np.isnan(out.p_value).all()
        assert not out.anomalous.any()
        assert fleet.state.tobytes() == before
        fleet.run(SHAPES["exponential"](np.random.default_rng(15), (1200, 3)))


def test_settling_steps_get_a_p_value_but_no_alert_and_no_learning() -> None:
    """Just behind a gap nothing counts."""
    fleet = Fleet(1, "1 per 1000 readings", fleet_of(SHAPES["exponential"]))
    fleet.method.start(fleet.state, fleet.sensor, np.array([-0.37]), np.array([0.77]))
    fleet.step(np.ones(1))
    before = fleet.state.tobytes()
    out = fleet.step(np.array([1e6]), np.array([False]))
    assert out.p_value[0] < 1e-6
    assert not out.anomalous[0]
    assert fleet.state.tobytes() == before


# --- p-values and severity --------------------------------------------------------------------------------------


def test_p_values_agree_with_decisions_and_fall_with_the_score() -> None:
    """At the threshold p is the budget's chance a step; below it is larger, above smaller, everywhere ordered."""
    fleet = Fleet(1, "1 per 1000 readings", fleet_of(SHAPES["student"]))
    fleet.method.start(fleet.state, fleet.sensor, np.array([-0.3]), np.array([0.8]))
    kept, threshold = fleet.state.copy(), float(fleet.step(np.ones(1)).threshold[0])
    factors = np.concatenate([np.geomspace(1e-6, 1e6, 400), [0.999, 1.0, 1.001]])
    p, anomalous = [], []
    for factor in np.sort(factors):
        fleet.state = kept.copy()
        out = fleet.step(np.array([factor * threshold]))
        p.append(out.p_value[0])
        anomalous.append(out.anomalous[0])
    assert (np.diff(p) <= 0).all()
    assert np.all((np.array(p) < 1e-3 * (1 + 1e-4)) >= anomalous)
    assert np.all((np.array(p) < 1e-3 * (1 - 1e-4)) <= anomalous)


def test_p_values_of_normal_scores_are_uniform() -> None:
    """In the body, where the fleet's table is exact, the p-values are what they say."""
    draw = SHAPES["exponential"]
    out = Fleet(200, "1 per 2000 readings", fleet_of(draw)).run(draw(np.random.default_rng(16), (2500, 200)))
    for p in (0.5, 0.1, 0.01):
        assert 0.85 * p < (out.p_value[500:] <= p).mean() < 1.15 * p


def test_severity_counts_how_much_rarer_than_the_budget_a_step_is() -> None:
    """The steps of the scale lie at 10, 1,000 and a million times; NaN is the lowest."""
    p = 1e-4 / np.array([1.0, 9.0, 11.0, 900.0, 1100.0, 0.9e6, 1.1e6, np.nan])
    assert thresholds.severity(p, np.full(8, 1e-4)).tolist() == [0, 0, 1, 1, 2, 2, 3, 0]


# --- determinism and the interface ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(thresholds.METHODS))
def test_results_do_not_depend_on_the_batch(method: str) -> None:
    """Many sensors in one call, or each alone: the same bytes of decisions and state."""
    rng = np.random.default_rng(17)
    scores = rng.exponential(size=(1600, 5))
    scores[rng.random(scores.shape) < 0.01] = np.nan
    name = "fixed:3" if method == "fixed" else method
    together = Fleet(5, "1 per 100 readings", fleet_of(SHAPES["exponential"]), name)
    alone = Fleet(5, "1 per 100 readings", fleet_of(SHAPES["exponential"]), name)
    one = together.run(scores)
    for i in (3, 0, 4, 1, 2):
        for t, score in enumerate(scores[:, i]):
            out = alone.method.decide_step(
                alone.state, np.array([i]), np.array([score]), np.array([1000.0]), np.array([True])
            )
            assert out.p_value.tobytes() == one.p_value[t, i : i + 1].tobytes()
            assert out.anomalous[0] == one.anomalous[t, i]
    assert alone.state.tobytes() == together.state.tobytes()


@pytest.mark.parametrize("method", ["block-maximum", "spot"])
def test_results_do_not_depend_on_the_order_of_sensors(method: str) -> None:
    """Rows in a row, in any order, or some of them: the same bytes."""
    rng = np.random.default_rng(39)
    scores = rng.exponential(size=(900, 6))
    straight = Fleet(6, "1 per 100 readings", fleet_of(SHAPES["exponential"]), method)
    mixed = Fleet(6, "1 per 100 readings", fleet_of(SHAPES["exponential"]), method)
    one = straight.run(scores)
    for t, score in enumerate(scores):
        order = rng.permutation(6)
        for some in (order[:4], np.sort(order[4:])):
            out = mixed.method.decide_step(mixed.state, some, score[some], np.full(len(some), 1000.0), some >= 0)
            assert out.p_value.tobytes() == one.p_value[t, some].tobytes()
            assert out.threshold.tobytes() == one.threshold[t, some].tobytes()
    assert mixed.state.tobytes() == straight.state.tobytes()


def test_decide_walks_rounds_and_steps_in_order() -> None:
    """Windows of two steps in rounds give what the single steps give one after another."""
    rng = np.random.default_rng(18)
    scores = rng.exponential(size=(6, 2))
    due = Due(
        sensor=np.array([0, 1, 0, 0, 1, 0]),
        interval_ms=np.full(6, 1000.0),
        settling=np.zeros((6, 2), np.bool_),
        rounds=[np.array([0, 1]), np.array([2, 4]), np.array([3]), np.array([5])],
    )
    due.settling[3, 0] = True
    batch = Fleet(2, "1 per 100 readings", fleet_of(SHAPES["exponential"]))
    got = batch.method.decide(batch.state, due, scores)
    single = Fleet(2, "1 per 100 readings", fleet_of(SHAPES["exponential"]))
    for window in (0, 2, 3, 5, 1, 4):
        for s in range(2):
            out = single.method.decide_step(
                single.state,
                due.sensor[window : window + 1],
                scores[window, s : s + 1],
                np.array([1000.0]),
                ~due.settling[window, s : s + 1],
            )
            assert out.p_value[0] == got.p_value[window, s]
    assert single.state.tobytes() == batch.state.tobytes()


def hump(length: int, gap: int) -> Fleet:
    """A sensor without a fleet whose scores are high for so many steps, just before its past is asked first."""
    fleet = Fleet(1, "1 per 1000 readings", thresholds.calibrate([], seen=16 * gap))
    scores = np.random.default_rng(3).exponential(size=(192 + 64 * 16, 1))
    scores[400 : 400 + length] *= 1e9
    fleet.run(scores)
    return fleet


def test_one_long_anomaly_takes_one_of_the_places_for_the_largest() -> None:
    """Scores that look at the same readings are high together: block by block they would fill all places."""
    each, clustered, short = (hump(length, gap).state for length, gap in ((96, 1), (96, 8), (1, 1)))
    assert (each["th_top"] > 15).all()
    assert (clustered["th_top"][0] > 15).tolist() == [True, False, False, False]
    assert clustered["th_limit"][0] < 2 * short["th_limit"][0] < each["th_limit"][0]


def test_scores_that_look_at_the_same_readings_keep_the_budget() -> None:
    """Root mean squares of 128 readings: an extreme lasts for many steps, and is one alert."""
    n, period, seen = 150, 1000, 128
    noise = np.random.default_rng(4).standard_normal((9000 + seen, n)) ** 2
    total = np.cumsum(noise, axis=0)
    scores = np.sqrt((total[seen:] - total[:-seen]) / seen)
    fleet = Fleet(n, f"1 per {period} readings", thresholds.calibrate([], memory=40 * seen, seen=seen))
    told = alerts(fleet.run(scores).anomalous[3000:])
    assert 0.6 < told.mean() / 6 < 1.3


@settings(max_examples=60, deadline=None)
@given(
    maxima=arrays(np.float32, st.integers(1, 60), elements=st.floats(-4, 30, width=32)),
    gap=st.integers(1, 9),
)
def test_of_maxima_near_each_other_the_largest_is_kept(maxima: Floats32, gap: int) -> None:
    """As if clusters were formed first, one after another, and the largest K of them taken."""
    state: State = np.zeros(1, np.dtype(thresholds.FIELDS))
    method = BlockMaximum(Budget.parse("1 per 100000 readings"), thresholds.calibrate([], seen=16 * gap))
    method.start(state, np.array([0]))
    state["th_length"] = 1000
    clusters: list[float] = []
    since = 0
    for value in maxima:
        since += 1
        if since >= gap or not clusters:
            clusters.append(float(value))
            since = 0
        elif value > clusters[-1]:
            clusters[-1] = float(value)
            since = 0
        state["th_peak"] = value
        epochs.record(state, np.array([0]), method.fleet)
    kept = np.sort(clusters)[::-1][:KEPT]
    np.testing.assert_array_equal(state["th_top"][0, : len(kept)], kept.astype(np.float32))
    assert (state["th_top"][0, len(kept) :] == -np.inf).all()


def test_the_default_state_is_small() -> None:
    """At most 128 bytes a sensor, all under the prefix of thresholds."""
    assert np.dtype(thresholds.FIELDS).itemsize <= 128
    assert all(
        name.startswith("th_") for method in ("spot", "dspot", "fixed") for name, *_ in thresholds.fields(method)
    )


def test_a_row_of_zeros_is_a_new_sensor() -> None:
    """Rows that an older layout did not have are started when their first score comes."""
    fleet = Fleet(1, "1 per 100 readings", fleet_of(SHAPES["exponential"]))
    fleet.state = np.zeros_like(fleet.state)
    assert np.isfinite(fleet.run(SHAPES["exponential"](np.random.default_rng(19), (400, 1))).p_value).all()


# --- calibration ------------------------------------------------------------------------------------------------


def test_calibration_travels_as_json() -> None:
    """What comes back is what went in; something else is refused with a message."""
    calibration = fleet_of(SHAPES["pareto"])
    text = json.dumps(calibration.to_json(), allow_nan=False)
    assert Calibration.from_json(json.loads(text)) == calibration
    assert len(text) < 10_000
    for broken in ({}, {**calibration.to_json(), "r": [1.0, 0.0]}, {**calibration.to_json(), "mad": "wide"}):
        with pytest.raises(ArtifactError, match="train again"):
            Calibration.from_json(broken)


@pytest.mark.parametrize("scores", [[], [[]], [[np.nan] * 50], [[1.0] * 40], [[1.0] * 2000], [[0.0, 1.0] * 5]])
def test_calibration_of_next_to_nothing_is_a_generic_tail(scores: list[list[float]]) -> None:
    """Too few or constant scores tell levels at most; the result works and says that it has no blocks."""
    calibration = calibrate([np.array(s) for s in scores])
    assert calibration.blocks == 0
    assert calibration.r == generic().r
    json.dumps(calibration.to_json(), allow_nan=False)
    Fleet(1, "1 per 100 readings", calibration).run(np.ones((300, 1)))


def test_one_sensor_with_a_short_past_calibrates() -> None:
    """300 scores of one sensor give a threshold in the right region: chance 1/1000 within a factor of 10."""
    calibration = calibrate([SHAPES["exponential"](np.random.default_rng(20), (1, 300))[0]])
    fleet = Fleet(1, "1 per 1000 readings", calibration)
    fleet.method.start(fleet.state, fleet.sensor, np.log([np.log(2)]), np.array([0.77]))
    chance = np.exp(-fleet.step(np.ones(1)).threshold[0])
    assert 1e-4 < chance < 1e-2


def test_calibration_does_not_depend_on_the_order_of_sensors() -> None:
    """The fleet is a set: lengths and order of its members leave the curve alone."""
    rng = np.random.default_rng(21)
    scores = [rng.exponential(size=length) for length in (300, 500, 200, 400, 350)]
    forward, backward = calibrate(scores), calibrate(scores[::-1])
    assert forward.r == backward.r
    np.testing.assert_allclose(forward.y, backward.y)


# --- the parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_the_pareto_fit_finds_shape_and_scale(shape: float) -> None:
    """On average over 300 samples of 400 excesses, in any unit."""
    u = np.random.default_rng(22).random((300, 400))
    excess = 7e5 * ((u**-shape - 1) / shape if shape else -np.log(u))
    found, scale = tail.fit_pareto(excess, np.full(300, 400))
    assert abs(found.mean() - shape) < 0.03
    assert abs(scale.mean() / 7e5 - 1) < 0.03


def test_unused_places_do_not_change_the_pareto_fit() -> None:
    """Zeros pad rows of different counts."""
    x = np.random.default_rng(23).exponential(size=(1, 30))
    padded = np.concatenate([x, np.zeros((1, 20))], axis=1)
    np.testing.assert_allclose(tail.fit_pareto(x, np.array([30])), tail.fit_pareto(padded, np.array([30])), rtol=1e-9)


def test_the_spot_quantile_is_continuous_at_shape_zero_and_keeps_units() -> None:
    """At gamma = 0, z - t = -sigma ln(q n / N_t): positive, the limit of both sides, and linear in sigma."""
    rarity, size = np.full(3, 0.01), np.full(3, 2.0)
    low, middle, high = spot.quantile(rarity, np.array([-1e-6, 0.0, 1e-6]), size)
    assert low == pytest.approx(middle, rel=1e-4) == pytest.approx(high, rel=1e-4)
    assert middle == pytest.approx(2 * np.log(100))
    np.testing.assert_allclose(spot.quantile(rarity, np.zeros(3), 1e3 * size), 1e3 * middle)
    back = spot.survival(spot.quantile(rarity, np.array([-0.2, 0.0, 0.4]), size), np.array([-0.2, 0.0, 0.4]), size)
    np.testing.assert_allclose(back, 0.01, rtol=1e-9)


def test_spot_starts_from_the_098_quantile_of_its_first_thousand_scores() -> None:
    """The 21st largest, with the 20 above as the first peaks."""
    scores = np.random.default_rng(24).exponential(size=(1000, 1))
    fleet = Fleet(1, "1 per 10000 readings", None, "spot")
    fleet.run(scores)
    ranked = np.sort(scores[:, 0])[::-1]
    assert fleet.state["th_start"][0] == ranked[20]
    np.testing.assert_allclose(fleet.state["th_excess"][0, :20], ranked[:20] - ranked[20])


def test_dspot_follows_a_drift_that_spot_does_not() -> None:
    """On a slow rise far beyond its first scores, SPOT alerts all the time and DSPOT hardly."""
    rise = 10 + np.linspace(0, 60, 6000)[:, None] + np.random.default_rng(25).standard_normal((6000, 4))
    plain = Fleet(4, "1 per 5000 readings", None, "spot").run(rise)
    drift = Fleet(4, "1 per 5000 readings", None, "dspot").run(rise)
    assert plain.anomalous.mean() > 0.3
    assert drift.anomalous.mean() < 0.01


def test_the_trackers_find_median_and_mad() -> None:
    """From a start five MADs off, 1,000 steps bring them within a fifth of a MAD."""
    x = 3 + 2 * np.random.default_rng(26).standard_normal((1000, 500))
    center, spread = np.full(500, -4.0), np.full(500, 0.5)
    for t, row in enumerate(x):
        moved, spread = track.follow(row - center, spread, np.full(500, t))
        center = center + moved
    mad = 2 * 0.6745
    assert np.abs(np.median(center) - 3) < 0.2 * mad
    assert np.abs(np.median(spread) - mad) < 0.2 * mad


def test_old_sensors_are_tracked_alike_among_young_ones() -> None:
    """The shortcut for sensors that are all old moves them exactly as beside a young one, at their own rates."""
    rng = np.random.default_rng(40)
    e, spread = rng.standard_normal(9), rng.uniform(0.5, 2, 9)
    oldest = track.SLOWER * track.MEMORY
    young = np.full(9, oldest)
    young[0] = 10
    alone, among = track.follow(e, spread, np.full(9, oldest)), track.follow(e, spread, young)
    for one, other in zip(alone, among, strict=True):
        assert one[1:].tobytes() == other[1:].tobytes()
        assert one[0] != other[0]


def test_fixed_and_quantile_thresholds_are_what_they_say() -> None:
    """A fixed one is the user's score; a quantile is exceeded as often as it says by scores like the fleet's."""
    draw = SHAPES["exponential"]
    scores = draw(np.random.default_rng(27), (2000, 20))
    fixed = Fleet(20, "1 per 100 readings", None, "fixed:2.5").run(scores)
    np.testing.assert_allclose(fixed.threshold, 2.5)
    assert np.array_equal(fixed.anomalous, scores > 2.5)
    share = Fleet(20, "1 per 100 readings", fleet_of(draw), "quantile:0.99").run(scores).anomalous.mean()
    assert 0.007 < share < 0.013


@pytest.mark.parametrize(
    "method", ["three-sigma", "fixed", "fixed:-1", "fixed:abc", "quantile:1.5", "spot:3", "block-maximum:1"]
)
def test_a_method_that_does_not_exist_is_refused(method: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(ConfigError):
        thresholds.build(method, Budget.parse("1 per day".replace("day", "d")), generic())


def test_a_quantile_without_training_scores_is_refused() -> None:
    """There is nothing that it could be a quantile of."""
    with pytest.raises(ConfigError, match="train the model"):
        thresholds.build("quantile", Budget.parse("1 per 7d"), None)


def test_an_unknown_interval_still_gives_a_budget() -> None:
    """Zero, negative and NaN intervals count as a second; alpha stays within its range."""
    budget = Budget.parse("1 per 1000s")
    found = decisions.alpha_of(budget, np.array([np.nan, 0.0, -5.0, 1000.0, 1e-30, 1e30]))
    np.testing.assert_allclose(found, [1e-3, 1e-3, 1e-3, 1e-3, decisions.TIGHTEST, decisions.LOOSEST])
