"""From settings to detectors: which sensors share one, and how it judges."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stream_detector.errors import ConfigError
from stream_detector.settings import (
    DetectorSettings,
    IncidentSettings,
    QualitySettings,
    SensorSettings,
    Settings,
)
from stream_detector.streaming.profiles import Profiles, profile_name
from tests.unit.plant import Plant, artifact, steady

ONE = ("value",)


def profiles(*sensors: SensorSettings, detector: DetectorSettings | None = None) -> Profiles:
    """Of settings whose model needs no training."""
    settings = Settings(
        detector=detector or DetectorSettings(model="moving-z"),
        incidents=IncidentSettings(open_after=2, group_within="7s"),
        quality=QualitySettings(silent_after=5, clock_ahead="2m"),
        sensors=sensors,
    )
    return Profiles(settings, lambda model, channels: artifact(channels))


def test_the_same_settings_are_one_profile() -> None:
    """However many sensors, and whatever else differs: labels, groups, or the same budget in another word."""
    made = profiles(
        SensorSettings(match="a", labels={"x": "1"}, group="hall"), SensorSettings(match="b", sensitivity="normal")
    )
    names = {made.name(sensor_id, ONE) for sensor_id in ("a", "b", "c", "d")}
    assert len(names) == len(made.fleet.detectors) == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"budget": "1 per 3d"},
        {"sensitivity": "high"},
        {"stride": 2},
        {"threshold": "spot"},
        {"model": "other"},
    ],
)
def test_what_differs_is_another_profile(entry: dict[str, object]) -> None:
    """Each of these settings makes a detector of its own, that judges by it."""
    made = profiles(SensorSettings.model_validate({"match": "a", **entry}))
    one, other = made.name("a", ONE), made.name("b", ONE)
    assert one != other
    assert set(made.fleet.detectors) == {one, other}
    options, plain = made.fleet.detectors[one].options, made.fleet.detectors[other].options
    if "model" not in entry:
        told = ("budget", "stride", "threshold")
        assert sum(getattr(options, key) != getattr(plain, key) for key in told) == 1
    assert made.models[one] == entry.get("model", "moving-z")


def test_channels_make_profiles() -> None:
    """Sensors with other channels have another detector; settings may name them, else the weights have the order."""
    made = profiles(SensorSettings(match="a", channels=("y", "x")))
    assert made.name("b", ("x", "y")) != made.name("b", ("y", "x"))
    assert made.channels_of("a", ("z", "x", "y")) == ("y", "x")
    assert made.channels_of("b", ("z", "x", "y")) == ("x", "y", "z")


def test_all_settings_arrive() -> None:
    """The budget, the rules of incidents and those of the readings themselves."""
    made = profiles(detector=DetectorSettings(model="moving-z", sensitivity="low", stride=3, device="cpu"))
    options = made.fleet.detectors[made.name("a", ONE)].options
    assert (options.budget.text, options.stride, options.device) == ("1 per 30d", 3, "cpu")
    assert (options.incidents.open_after, made.fleet.groups.within_ms) == (2, 7_000)
    assert (options.quality.silent_after, options.quality.clock_ahead_ms) == (5, 120_000)


def test_an_own_budget_wins_over_the_sensitivity_of_all() -> None:
    """And the other way round."""
    all_low = DetectorSettings(model="moving-z", sensitivity="low")
    one = profiles(SensorSettings(match="a", budget="1 per 5h"), detector=all_low)
    assert one.judged_by("a").chosen_budget == "1 per 5h"
    other = profiles(SensorSettings(match="a", sensitivity="high"), detector=all_low)
    assert other.judged_by("a").chosen_budget == "1 per 1d"
    assert other.judged_by("b").chosen_budget == "1 per 30d"


def test_names_are_the_same_in_every_process() -> None:
    """Saved state is found by them: no seed and no order goes in."""
    code = (
        "from stream_detector.settings import DetectorSettings\n"
        "from stream_detector.streaming.profiles import profile_name\n"
        "print(profile_name(DetectorSettings(budget='1 per 3d'), ('a', 'b')))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == profile_name(DetectorSettings(budget="1 per 3d"), ("a", "b")) == "622b18df269d"
    assert profile_name(DetectorSettings(model="weights/"), ONE) == profile_name(DetectorSettings(model="weights"), ONE)
    assert profile_name(DetectorSettings(device="cpu"), ONE) == profile_name(DetectorSettings(), ONE)


def test_profiles_do_not_mix_their_sensors() -> None:
    """Sensors of two budgets in one batch: each is judged by its own threshold, in reading order."""
    plant = Plant(SensorSettings(match="b", threshold="fixed:1e9"), SensorSettings(match="c", labels={"line": "3"}))
    rows = [(name, t, 50.0 if t == 60 else value) for name, t, value in steady("cba", 0, 100)]
    told = plant.feed(rows)
    assert [(alert.sensor_id, alert.event) for alert in told] == [
        ("c", "opened"), ("a", "opened"), ("c", "closed"), ("a", "closed")
    ]  # fmt: skip
    assert [alert.labels for alert in told] == [{"line": "3"}, {}] * 2
    assert len(plant.profiles.fleet.detectors) == 2


def test_a_device_that_is_not_there_is_refused() -> None:
    """In one sentence."""
    with pytest.raises(ConfigError, match="the device 'abacus' cannot be used here"):
        profiles(detector=DetectorSettings(model="moving-z", device="abacus")).name("a", ONE)
