"""New weights take over only when they are not worse, and never when they are fit for nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_detector.detect.detector import DetectorOptions
from stream_detector.errors import DataError
from stream_detector.models.artifact import Artifact
from stream_detector.models.interface import Scores
from stream_detector.models.moving_z import MovingZ, MovingZConfig
from stream_detector.records import Floats, Readings
from stream_detector.settings import Budget
from stream_detector.simulate import INJECTORS, draw_length, draw_magnitude
from stream_detector.training import challenge, sample, trial
from stream_detector.training.challenge import Case, Verdict, decide
from stream_detector.training.fit import FitOptions
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

WINDOW = 16
SENSORS = 8
STEPS = 900
NAMES = [f"pump-{i}" for i in range(SENSORS)]
OPTIONS = DetectorOptions(Budget.parse("1 per 1000 readings"))


@cache
def history() -> History:
    """Noise about a slow wave, two channels."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(STEPS, SENSORS, 2)) + 2 * np.sin(np.arange(STEPS) / 9)[:, None, None]
    sensor, time_ms = np.tile(np.arange(SENSORS), STEPS), 60_000 * np.arange(STEPS).repeat(SENSORS)
    return History(Readings(sensor, time_ms, values.reshape(-1, 2)), NAMES, ("a", "b"))


@cache
def case() -> Case:
    """The last fifth of it is decided on."""
    early, late = sample.split(history().readings, 1 - challenge.HELD_SHARE)
    return Case(History(early, NAMES, ("a", "b")), late, late)


def learned(early: History, model: str = "moving-z", steps: int = 60) -> Artifact:
    """Weights trained on a part of the history."""
    fit = FitOptions(steps=steps, epochs=steps, batch=32)
    config = {"width": 8, "layers": 1, "feedforward": 16} if model == "encoder" else {}
    return train(early, TrainOptions(model, WINDOW, fit=fit, config=config), lambda *_: None)


@cache
def champion() -> Artifact:
    """Sound weights."""
    return learned(case().early)


def decided(challenger: Artifact, old: Artifact | None = None, options: DetectorOptions = OPTIONS) -> Verdict:
    """The verdict, against sound weights unless others are given."""
    return decide(case(), old or champion(), challenger, options, 0.05)


def poisoned(share: float) -> History:
    """The early part, so much of which is under strong faults."""
    early, rng = case().early, np.random.default_rng(3)
    values: Floats = early.readings.values.copy()
    for sensor in range(SENSORS):
        rows = np.flatnonzero(early.readings.sensor == sensor)
        series, covered = values[rows], np.zeros(len(rows), bool)
        while covered.mean() < share:
            kind = str(rng.choice(["spike", "level_shift", "drift"]))
            length = draw_length(kind, rng)
            start, size = int(rng.integers(len(rows) - length)), 2 * draw_magnitude(kind, rng)
            series = INJECTORS[kind](series, start, length, [int(rng.integers(2))], size, rng)
            covered[start : start + length] = True
        values[rows] = series
    return History(Readings(early.readings.sensor, early.readings.time_ms, values), NAMES, ("a", "b"))


class Bent(MovingZ):
    """A moving z-score whose scores are bent."""

    def __init__(self, bend: Callable[[Scores], Scores]) -> None:
        super().__init__(MovingZConfig(WINDOW, 2))
        self._bend = bend

    def score(self, windows: Tensor, steps: int) -> Scores:
        """As the bend has it."""
        return self._bend(super().score(windows, steps))


def bent(bend: Callable[[Scores], Scores]) -> Artifact:
    """The champion with bent scores."""
    return replace(champion(), model=Bent(bend))


def no_number() -> Artifact:
    """Weights that went astray."""
    made = learned(case().early, "encoder", steps=1)
    with torch.no_grad():
        next(iter(made.model.parameters()))[0] = torch.nan
    return made


DEGENERATE = {
    "a value that is not a number": no_number,
    "scores are not numbers": lambda: bent(lambda s: replace(s, score=s.score / 0 * 0)),
    "scores everything 0": lambda: bent(lambda s: replace(s, score=0 * s.score)),
    "scores everything alike": lambda: bent(lambda s: replace(s, score=0 * s.score + 3)),
    "band of normal values has no width (channel b)": lambda: bent(
        lambda s: replace(s, upper=torch.cat([s.upper[..., :1], s.lower[..., 1:]], dim=2))
    ),
    "calibration is not a rising curve": lambda: replace(
        champion(), calibration={**(champion().calibration or {}), "median": float("nan")}
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_weights_are_refused_by_name(name: str) -> None:
    """Also where there is no champion to be worse than; and they are not worth keeping."""
    for old in (champion(), None):
        verdict = decide(case(), old, DEGENERATE[name](), OPTIONS, 1.0)
        assert not verdict.passed
        assert not verdict.sound
        assert name in verdict.reasons[0]


def test_the_same_weights_are_not_worse() -> None:
    """Held against itself the champion comes out alike, and what was measured is plain numbers."""
    verdict = decided(learned(case().early))
    numbers = verdict.numbers
    assert verdict.passed, verdict.reasons
    assert numbers["recall"] == numbers["champion_recall"] > 0.2
    assert numbers["alarms"] == numbers["champion_alarms"]
    assert set(verdict.recall) == set(trial.KINDS)
    assert verdict.recall["level_shift"] >= verdict.recall["correlation_break"]


def test_weights_that_learned_anomalies_are_refused() -> None:
    """Training data with 30 % anomalies make weights that find fewer."""
    verdict = decided(learned(poisoned(0.3)))
    assert not verdict.passed
    assert verdict.sound
    assert any("planted faults" in reason and "too few" in reason for reason in verdict.reasons)


def test_loud_weights_are_refused() -> None:
    """At the threshold that is set, scores that are twice as high raise more alarms than chance explains."""
    options = replace(OPTIONS, threshold="fixed:4.5")
    verdict = decided(bent(lambda s: replace(s, score=2 * s.score)), options=options)
    assert not verdict.passed
    assert any("alarms" in reason and ": more than chance" in reason for reason in verdict.reasons)


def test_quiet_weights_are_refused() -> None:
    """At the threshold that is set, scores that are half as high find fewer faults."""
    options = replace(OPTIONS, threshold="fixed:4.5")
    verdict = decided(bent(lambda s: replace(s, score=s.score / 2)), options=options)
    assert not verdict.passed
    assert any("too few" in reason for reason in verdict.reasons)


def test_a_greater_loss_is_refused() -> None:
    """Of two encoders of one shape, the one that was hardly trained foretells worse."""
    good, bad = (learned(case().early, "encoder", steps) for steps in (150, 1))
    verdict = decided(bad, good)
    assert not verdict.passed
    assert "worse by more than 5%" in verdict.reasons[0]
    assert decided(good, bad).numbers["loss"] < 0.9 * (verdict.numbers["loss"] or 0)


def test_another_model_is_judged_without_its_loss() -> None:
    """What two models make small cannot be compared; alarms and faults can."""
    verdict = decided(learned(case().early, "encoder"))
    assert "losses are not compared" in verdict.reasons[0]
    assert "champion_recall" in verdict.numbers
    other_window = replace(champion(), model=MovingZ(MovingZConfig(WINDOW * 2, 2)))
    assert decided(champion(), other_window).numbers["champion_recall"] is not None


def test_without_a_champion_the_budget_is_held_against_it() -> None:
    """The first weights of a line must find some faults, and keep the budget."""
    assert decide(case(), None, champion(), OPTIONS, 0.05).passed
    silent = replace(OPTIONS, threshold="fixed:1000")
    assert not decide(case(), None, champion(), silent, 0.05).passed
    loud = replace(OPTIONS, threshold="fixed:2")
    assert not decide(case(), None, champion(), loud, 0.05).passed


def test_too_little_is_no_basis() -> None:
    """A latest part without room for a fault, or without a normal window, decides nothing."""
    few = Case(
        case().early, sample.select(case().late, case().late.time_ms < case().late.time_ms[0] + 60_000), case().late
    )
    with pytest.raises(DataError, match="no sensor has 32 readings"):
        decide(few, champion(), champion(), OPTIONS, 0.05)
    with pytest.raises(DataError, match="normal readings"):
        decide(replace(case(), normal=case().late[:0]), champion(), champion(), OPTIONS, 0.05)


@pytest.mark.parametrize(("expected", "most"), [(0.0, 0), (1.0, 4), (5.0, 11), (20.0, 31), (1000.0, 1074)])
def test_chance(expected: float, most: int) -> None:
    """The 99th percentile of a Poisson count, from a table."""
    assert challenge.most_by_chance(expected) == most


@pytest.mark.parametrize(
    ("lost", "gained", "chance"), [(0, 0, 1.0), (5, 0, 1 / 32), (9, 3, 299 / 4096), (3, 9, 4017 / 4096)]
)
def test_chance_of_losing(lost: int, gained: int, chance: float) -> None:
    """The upper tail of a fair coin, from a table."""
    assert challenge._chance_of(lost, gained) == pytest.approx(chance)


def test_faults_are_planted_in_copies_only() -> None:
    """The same ones each time, after the lead, and the readings themselves stay."""
    over = trial.ground(case().early, case().late, WINDOW)
    before = over.judged.values.copy()
    first, second = (trial.plant(over) for _ in range(2))
    assert np.array_equal(over.judged.values, before)
    assert all(np.array_equal(a.values, b.values, equal_nan=True) for a, b in zip(first, second, strict=True))
    assert len(first) == trial.FAULTS
    assert min(one.start_ms for one in first) >= case().late.time_ms[0]
    for one in first:
        mine = over.judged.values[over.judged.sensor == one.sensor][: len(one.values)]
        assert not np.array_equal(mine, one.values)
