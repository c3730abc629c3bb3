"""Drift is seen when a good part of a fleet has moved, and only then."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from stream_detector.models.artifact import Artifact
from stream_detector.records import Floats, Readings
from stream_detector.training import drift
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

WINDOW, SENSORS = 16, 12
NAMES = [f"pump-{i}" for i in range(SENSORS)]


def fleet(steps: int, seed: int, change: Floats | None = None, widen: float = 1.0) -> History:
    """Noise of every sensor about a level of its own; `change` (S,) is added, in deviations of the noise."""
    noise = np.random.default_rng(seed).normal(size=(steps, SENSORS, 1)) * widen
    level = 10.0 * np.arange(SENSORS)[:, None]
    values = noise + level + (0 if change is None else change[:, None])
    sensor, time_ms = np.tile(np.arange(SENSORS), steps), 1000 * np.arange(steps).repeat(SENSORS)
    return History(Readings(sensor, time_ms, values.reshape(-1, 1)), NAMES, ("value",))


@cache
def champion() -> Artifact:
    """Weights that know the fleet."""
    return train(fleet(800, 0), TrainOptions("moving-z", WINDOW), lambda *_: None)


def moved(count: int, by: float) -> Floats:
    """A change of so many sensors."""
    return np.where(np.arange(SENSORS) < count, by, 0.0)


def test_a_fleet_as_it_was_has_not_moved() -> None:
    """Other readings of the same kind are no drift."""
    found = drift.measure(fleet(200, 1), champion())
    assert found is not None
    assert not found.seen
    assert (found.sensors, found.moved) == (SENSORS, 0)


@pytest.mark.parametrize(("count", "seen"), [(2, False), (3, True), (12, True)])
def test_it_takes_a_quarter_of_the_sensors(count: int, seen: bool) -> None:
    """A new level of single sensors is theirs; of a quarter it is drift, in words and numbers."""
    found = drift.measure(fleet(200, 1, moved(count, -3.0)), champion())
    assert found is not None
    assert (found.seen, found.level, found.moved) == (seen, count, count)
    assert f"{count} of 12 sensors have moved: the level of {count}" in found.words
    assert found.to_json()["seen"] is seen


def test_a_wider_spread_is_drift_and_a_narrower_one_is_not() -> None:
    """A short stretch of a slow rhythm is always narrower than the whole."""
    wide, narrow = (drift.measure(fleet(200, 1, widen=factor), champion()) for factor in (2.5, 0.3))
    assert wide is not None and narrow is not None
    assert (wide.seen, wide.spread) == (True, SENSORS)
    assert not narrow.seen


def test_higher_scores_are_drift() -> None:
    """Also where level and spread stay: here weights remember scores that were lower."""
    seeds = {
        name: type(seed)(
            seed.center, seed.spread, (seed.score_median or 0) - 3.5 * (seed.score_mad or 0), seed.score_mad
        )
        for name, seed in champion().scaler.items()
    }
    found = drift.measure(fleet(200, 1), replace(champion(), scaler=seeds))
    assert found is not None
    assert (found.seen, found.score, found.level) == (True, SENSORS, 0)


def test_single_anomalies_are_no_drift() -> None:
    """A tenth of wild readings moves neither the middle nor the spread beyond its limit."""
    history = fleet(200, 1)
    values = history.readings.values.copy()
    values[::10] += 50
    wild = History(replace(history.readings, values=values), NAMES, ("value",))
    found = drift.measure(wild, champion())
    assert found is not None
    assert not found.level


def test_nothing_is_said_of_sensors_that_weights_do_not_know() -> None:
    """Nor of those with less than a window of readings."""
    assert drift.measure(fleet(200, 1), replace(champion(), scaler={})) is None
    assert drift.measure(fleet(WINDOW - 1, 1), champion()) is None
    assert drift.measure(fleet(0, 1), champion()) is None
    known = dict(list(champion().scaler.items())[:3])
    found = drift.measure(fleet(200, 1), replace(champion(), scaler=known))
    assert found is not None
    assert found.sensors == 3
