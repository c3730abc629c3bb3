"""Weights that come with the program judge first; a file's own past, as it arrives, takes over."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from stream_detector.errors import ConfigError
from stream_detector.records import Feedback, format_time
from stream_detector.settings import Settings, override
from stream_detector.streaming import offline, own_past
from stream_detector.streaming.files import Table
from stream_detector.streaming.offline import Learning
from stream_detector.training.fit import FitOptions
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions

WINDOW, ROWS, MINUTE = 128, 3000, 60_000
FAULT = slice(900, 930)
OPTIONS = TrainOptions(window=WINDOW, fit=FitOptions(epochs=1))


def quiet(name: str) -> own_past.Progress:
    """Progress for nobody."""
    return lambda done, total, value: None


def table(rows: int = ROWS, sensors: int = 1) -> Table:
    """A noisy wave of each sensor, with a burst; readings of the sensors in turn."""
    step = np.arange(ROWS)
    chance = np.random.default_rng(0)
    wave = np.sin(step / 7)[:, None] + 0.1 * chance.normal(size=(ROWS, sensors))
    wave[FAULT] += 4 * chance.normal(size=(FAULT.stop - FAULT.start, sensors))
    time_ms = (MINUTE * step[:rows]).repeat(sensors)
    return Table(
        channels=("value",),
        sensor_ids=[f"pump-{i}" for i in range(sensors)],
        sensor=np.tile(np.arange(sensors), rows),
        time_ms=time_ms,
        values=wave[:rows].reshape(-1, 1),
        timestamps=[format_time(moment) for moment in time_ms.tolist()],
        usable=np.ones(rows * sensors, np.bool_),
        rejected=[],
        order=np.arange(rows * sensors),
        out_of_order=0,
        repeated=0,
    )


def detected(rows: Table, feedback: list[Feedback] | None = None, **settings: object) -> offline.Run:
    """A run that is given nothing to train on."""
    chosen = override(Settings(), {"budget": "1 per 300 readings", "device": "cpu", **settings})
    options = replace(OPTIONS, model=chosen.detector.model, window=chosen.detector.window)
    return offline.detect(rows, chosen, Learning(options, 0), None, feedback or [], quiet)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[History]:
    """What is learned from, each time that something is."""
    given: list[History] = []
    trained = own_past.train

    def spy(history: History, *rest: object) -> object:
        given.append(history)
        return trained(history, *rest)

    monkeypatch.setattr(own_past, "train", spy)
    return given


def test_every_row_behind_the_first_window_is_scored() -> None:
    """Nothing counts as trained on; alerts name weights that have learned by then, and the burst is found."""
    run = detected(table())
    assert not run.rows.trained.any()
    assert np.isnan(run.rows.score[: WINDOW - 1]).all()
    assert np.isfinite(run.rows.score[WINDOW - 1 :]).all()
    assert run.rows.anomalous[FAULT].any()
    assert run.detectors[0].artifact.scaler.keys() == {"pump-0"}


def test_it_learns_whenever_there_is_four_times_as_much(learned: list[History]) -> None:
    """At first from five windows; each time from all that has passed, and from nothing that has not."""
    detected(table(2700))
    assert [int(history.readings.time_ms.max()) // MINUTE + 1 for history in learned] == [640, 2560]


def test_moments_are_those_of_the_longest_sensor() -> None:
    """A sensor that reports more often than others is not kept waiting for them."""
    sensor = np.array([0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0])
    assert own_past._moments(sensor, 1) == [1, 6]
    assert own_past._moments(sensor, 2) == [3]
    assert own_past._moments(sensor, 9) == []


def test_no_score_knows_a_later_row() -> None:
    """The same rows have the same scores, thresholds and flags, whatever comes after them."""
    whole, part = detected(table(1500)).rows, detected(table(1300)).rows
    for name in ("score", "p_value", "threshold", "anomalous"):
        np.testing.assert_array_equal(getattr(whole, name)[:1300], getattr(part, name), err_msg=name)


def test_incidents_and_confirmed_faults_are_not_learned(learned: list[History]) -> None:
    """Neither what the detector found nor what a person says of it; what is said later has not been heard."""
    confirmed = Feedback(
        feedback_id="1",
        alert_id="2",
        verdict="confirmed",
        sensor_id="pump-0",
        starts_at=format_time(300 * MINUTE),
        ends_at=format_time(309 * MINUTE),
    )
    late = Feedback(
        feedback_id="2",
        alert_id="3",
        verdict="confirmed",
        sensor_id="pump-0",
        starts_at=format_time(200 * MINUTE),
        ends_at=format_time(2900 * MINUTE),
    )
    detected(table(), [confirmed, late])
    rows = [set((history.readings.time_ms // MINUTE).tolist()) for history in learned]
    assert not rows[0] & set(range(300, 310))
    assert {299, 310} <= rows[0]
    assert len(set(range(FAULT.start, FAULT.stop)) - rows[1]) > 10


def test_too_little_to_learn_from_leaves_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nearly all is called abnormal, judging goes on as it was."""
    maintenance = Feedback(
        feedback_id="1",
        alert_id="2",
        verdict="maintenance",
        sensor_id="pump-0",
        begins=format_time(0),
        ends=format_time(3000 * MINUTE),
    )
    run = detected(table(), [maintenance])
    assert not run.detectors[0].artifact.scaler


def test_sensors_share_what_is_learned(learned: list[History]) -> None:
    """One training for all of them, when the longest has enough."""
    run = detected(table(700, sensors=2))
    assert [len(history.sensor_ids) for history in learned] == [2]
    assert run.detectors[0].artifact.scaler.keys() == {"pump-0", "pump-1"}


def test_a_short_file_is_judged_all_the_same(learned: list[History]) -> None:
    """Without a second to learn from, and without an end to what is waited for."""
    run = detected(table(200))
    assert np.isfinite(run.rows.score[WINDOW - 1 :]).all()
    assert not learned
    past = own_past.OwnPast(table(200), ["multiscale"], OPTIONS, quiet)
    assert past.next == math.inf


def test_a_model_without_pretrained_weights_is_refused() -> None:
    """And the words say what to do."""
    with pytest.raises(ConfigError, match="no pretrained weights of the model tranad: train some"):
        detected(table(), model="tranad")
    with pytest.raises(ConfigError, match="for windows of 128"):
        detected(table(), window=64)
