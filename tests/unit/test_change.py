"""The moment at which a fleet has changed is found where there is one, and only there."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from stream_detector.models.artifact import Artifact
from stream_detector.records import Floats, Readings
from stream_detector.training import change
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

WINDOW, SENSORS, STEPS, STEP_MS = 16, 12, 960, 1000
NAMES = [f"pump-{i}" for i in range(SENSORS)]
PART_MS = STEPS * STEP_MS / change.PARTS


def history(values: Floats) -> History:
    """Readings (T, S) of all sensors, each at a level of its own."""
    steps = len(values)
    level = 10.0 * np.arange(SENSORS)
    sensor, time_ms = np.tile(np.arange(SENSORS), steps), STEP_MS * np.arange(steps).repeat(SENSORS)
    return History(Readings(sensor, time_ms, (values + level).reshape(-1, 1)), NAMES, ("value",))


def noise(seed: int) -> Floats:
    """Nothing but noise."""
    return np.random.default_rng(seed).normal(size=(STEPS, SENSORS))


@cache
def champion() -> Artifact:
    """Weights that know noise."""
    return train(history(noise(0)), TrainOptions("moving-z", WINDOW), lambda *_: None)


def changed(what: str, at: int, sensors: int = SENSORS, seed: int = 1) -> History:
    """Readings of sensors of which the first so many are different from a step on."""
    values = noise(seed)
    part = values[at:, :sensors]
    values[at:, :sensors] = {"level": part + 2, "spread": part * 3, "shape": np.where(part > 1, 9.0, part)}[what]
    return history(values)


@pytest.mark.parametrize("what", ["level", "spread", "shape"])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_it_is_found_to_a_part_or_so(what: str, share: float) -> None:
    """Early, in the middle and late, by the level, the spread or peaks that scores see."""
    at = int(share * STEPS)
    found = change.moment(changed(what, at), champion())
    assert found is not None
    assert abs(found - at * STEP_MS) <= 1.5 * PART_MS


@pytest.mark.parametrize("seed", range(5))
def test_a_fleet_that_stays_as_it_is_has_no_moment(seed: int) -> None:
    """Chance splits no row of averages."""
    assert change.moment(history(noise(10 + seed)), champion()) is None


def test_it_takes_a_quarter_of_the_sensors() -> None:
    """A change of single sensors is theirs."""
    assert change.moment(changed("level", 500, sensors=2), champion()) is None
    assert change.moment(changed("level", 500, sensors=3), champion()) is not None


def test_an_incident_and_a_rhythm_are_no_change() -> None:
    """What comes and goes again has two sides that are alike."""
    values = noise(3)
    values[500:530] += 8
    assert change.moment(history(values), champion()) is None
    rhythm = 3 * np.sin(2 * np.pi * np.arange(STEPS) / 137)[:, None] + noise(4)
    assert change.moment(history(rhythm), champion()) is None


def test_gaps_and_missing_values_do_not_matter() -> None:
    """Parts without a reading of a sensor say nothing of it."""
    whole = changed("level", 480)
    readings = whole.readings
    values = readings.values.copy()
    values[::7] = np.nan
    away = (readings.sensor == 1) & (readings.time_ms > 300 * STEP_MS) & (readings.time_ms < 600 * STEP_MS)
    part = History(replace(readings, values=values)[~away], NAMES, ("value",))
    found = change.moment(part, champion())
    assert found is not None
    assert abs(found - 480 * STEP_MS) <= 1.5 * PART_MS


def test_nothing_is_said_of_sensors_that_weights_do_not_know() -> None:
    """Nor of those with less than a window of readings, nor of none."""
    assert change.moment(changed("level", 480), replace(champion(), scaler={})) is None
    assert change.moment(history(noise(1)[: WINDOW - 1]), champion()) is None
    assert change.moment(history(noise(1)[:0]), champion()) is None
