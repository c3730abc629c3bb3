"""A swap of weights after sensors have changed: those that the new weights know begin anew, the others go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest

from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.detect.swap import UNUSUAL
from stream_detector.models.artifact import Artifact, SensorSeed
from stream_detector.records import Readings
from stream_detector.settings import Budget
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

WINDOW, SENSORS, STEPS = 16, 6, 1800
NAMES = [f"pump-{i}" for i in range(SENSORS)]
OPTIONS = DetectorOptions(Budget.parse("1 per 500 readings"))


def readings(steps: int, seed: int, begin: int = 0) -> Readings:
    """Noise."""
    values = np.random.default_rng(seed).normal(size=(steps * SENSORS, 1))
    return Readings(np.tile(np.arange(SENSORS), steps), 1000 * (begin + np.arange(steps)).repeat(SENSORS), values)


@cache
def weights() -> Artifact:
    """What training makes of it."""
    return train(History(readings(900, 0), NAMES, ("value",)), TrainOptions("moving-z", WINDOW), lambda *_: None)


def lower(seed: SensorSeed, by: float) -> SensorSeed:
    """As if scores had been so many MADs lower when these weights were made."""
    assert seed.score_median is not None and seed.score_mad is not None
    return SensorSeed(seed.center, seed.spread, seed.score_median - by * seed.score_mad, seed.score_mad)


def knowing(by: Mapping[int, float]) -> Artifact:
    """The weights, with the levels of some sensors remembered as lower."""
    scaler = {name: lower(seed, by.get(i, 0.0)) for i, (name, seed) in enumerate(weights().scaler.items())}
    return replace(weights(), scaler=scaler)


def at_work(artifact: Artifact) -> Detector:
    """A detector whose sensors have thresholds of their own."""
    detector = Detector(artifact, OPTIONS)
    detector.sensors(NAMES)
    detector.step(readings(STEPS, 1))
    assert (detector.table.state["th_own"][:SENSORS] == 1).all()
    return detector


def test_sensors_that_left_the_old_weights_begin_anew_from_the_new_ones() -> None:
    """Level, spread and threshold are those that training measured; the neighbours keep what they have learned."""
    detector = at_work(knowing({0: 2 * UNUSUAL, 1: 2 * UNUSUAL}))
    before = detector.table.state_of(np.arange(SENSORS))
    detector.swap(weights())
    state, seed = detector.table.state, weights().scaler[NAMES[0]]
    np.testing.assert_array_equal(state["th_own"][:SENSORS], [0, 0, 1, 1, 1, 1])
    assert (state["th_center"][0], state["th_spread"][0]) == (seed.score_median, seed.score_mad)
    assert (state["th_top"][:2] == -np.inf).all()
    fresh = Detector(weights(), OPTIONS)
    fresh.sensors(NAMES)
    fresh.step(readings(WINDOW, 1))
    np.testing.assert_array_equal(state["th_limit"][:2], fresh.table.state["th_limit"][:2])
    np.testing.assert_array_equal(state["th_top"][2:SENSORS], before["th_top"][2:])
    np.testing.assert_array_equal(state["th_full"][:SENSORS], before["th_full"])


def wider(artifact: Artifact) -> Artifact:
    """As if values had swung three times as far when these weights were made; scores of this model do not change."""
    scaler = {
        name: msgspec.structs.replace(seed, spread=[3 * one for one in seed.spread])
        for name, seed in artifact.scaler.items()
    }
    return replace(artifact, scaler=scaler)


def test_sensors_that_begin_anew_do_so_on_the_scale_that_training_found() -> None:
    """Their own remembers how they were before they changed; that of the others is followed as ever."""
    detector = at_work(knowing({0: 2 * UNUSUAL}))
    before = detector.table.state["spread"][:SENSORS].copy()
    detector.swap(wider(weights()))
    spread = detector.table.state["spread"][:SENSORS]
    np.testing.assert_array_equal(spread[0], wider(weights()).scaler[NAMES[0]].spread)
    np.testing.assert_array_equal(spread[1:], before[1:])


def test_weights_that_do_not_know_them_either_change_nothing() -> None:
    """What is unusual for both says nothing of the past; nor do weights that have never seen them."""
    away = {0: 2 * UNUSUAL}
    for old, new in ((knowing(away), wider(knowing(away))), (weights(), replace(weights(), scaler={}))):
        detector = at_work(old)
        before = detector.table.state["spread"].copy()
        detector.swap(new)
        assert (detector.table.state["th_own"][:SENSORS] == 1).all()
        np.testing.assert_array_equal(detector.table.state["spread"], before)


@pytest.mark.parametrize("steps", [STEPS, 4 * WINDOW])
def test_sensors_that_only_the_new_weights_know_begin_from_what_training_measured(steps: int) -> None:
    """So it is when the first training follows pretrained weights; also of sensors that are not warm yet."""
    detector = Detector(replace(weights(), scaler={}), OPTIONS)
    detector.sensors(NAMES)
    detector.step(readings(steps, 1))
    detector.swap(weights())
    state, seeds = detector.table.state, [weights().scaler[name] for name in NAMES]
    assert state["th_center"][:SENSORS].tolist() == [seed.score_median for seed in seeds]
    assert state["th_spread"][:SENSORS].tolist() == [seed.score_mad for seed in seeds]
    wild = readings(4, 2, begin=steps)
    wild.values[-SENSORS:] = 500.0
    assert {alert.sensor_id for alert in detector.step(wild) if alert.event == "opened"} == set(NAMES)


def test_a_sensor_that_begins_anew_goes_on_alerting_within_its_cap() -> None:
    """It is judged at once, by the new threshold."""
    detector = at_work(knowing({0: 2 * UNUSUAL}))
    detector.swap(weights())
    wild = readings(4, 2, begin=STEPS)
    wild.values[-SENSORS] = 500.0
    assert [alert.sensor_id for alert in detector.step(wild) if alert.event == "opened"] == [NAMES[0]]
