"""What new weights are trained on: after a drift what came after it, and nothing of before it from then on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stream_detector.models.artifact import Artifact, TrainedOn
from stream_detector.records import Feedback, Readings, format_time, parse_time
from stream_detector.settings import DetectorSettings, Settings, TrainerSettings
from stream_detector.streaming import refresh
from stream_detector.streaming.history import Recent
from stream_detector.streaming.refresh import Refreshed
from stream_detector.streaming.registry import Line
from stream_detector.streaming.weights import Weights
from stream_detector.training.change import PARTS
from stream_detector.training.feedback import LAST
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

WINDOW, SENSORS, STEPS, STEP_MS = 16, 8, 2000, 60_000
BEGIN_MS = 1_767_571_200_000
A_PART = STEPS // PARTS
NAMES = [f"pump-{i}" for i in range(SENSORS)]
LINE = Line("moving-z", ("value",))


def history(begin: int, changed: int, end: int) -> History:
    """Noise from one step to another, at a higher level from the step `changed` on."""
    values = np.random.default_rng(0).normal(size=(3 * STEPS, SENSORS))[begin:end]
    steps = np.arange(begin, end)
    values[steps >= changed] += 12
    sensor, time_ms = np.tile(np.arange(SENSORS), len(steps)), BEGIN_MS + STEP_MS * steps.repeat(SENSORS)
    return History(Readings(sensor, time_ms, values.reshape(-1, 1)), NAMES, ("value",))


def champion() -> Artifact:
    """Weights that know the first readings."""
    return train(history(0, STEPS, STEPS // 2), TrainOptions("moving-z", WINDOW), lambda *_: None)


def refresh_of(
    recent: History, held: Artifact, drifted: bool, place: Path, incidents: Sequence[Feedback] = ()
) -> Refreshed | None:
    """A round."""
    settings = Settings(
        detector=DetectorSettings(model="moving-z", window=WINDOW, budget="1 per 1000 readings"),
        trainer=TrainerSettings(directory=place, steps=10),
    )
    read = Recent(histories={LINE: recent}, incidents=list(incidents))
    return refresh.refresh(settings, LINE, read, held, drifted, lambda *_: None, lambda: None)


def refreshed(recent: History, held: Artifact, drifted: bool, place: Path) -> Refreshed:
    """A round that has trained."""
    found = refresh_of(recent, held, drifted, place)
    assert found is not None
    return found


def began(found: Refreshed) -> int:
    """The step that training began with."""
    return (parse_time(found.challenger.trained_on.start) - BEGIN_MS) // STEP_MS


def test_after_a_drift_only_what_came_after_it_is_learned(tmp_path: Path) -> None:
    """To a part of the time or so; the next round, in which nothing has drifted any more, keeps to it."""
    first = refreshed(history(0, 800, STEPS), champion(), True, tmp_path)
    assert first.verdict.passed
    assert abs(began(first) - 800) <= A_PART
    later = refreshed(history(400, 800, STEPS + 400), first.challenger, False, tmp_path)
    assert began(later) == began(first)
    last = refreshed(history(1500, 800, STEPS + 1500), later.challenger, False, tmp_path)
    assert began(last) == 1500


def test_what_was_alerted_on_since_the_drift_is_learned(tmp_path: Path) -> None:
    """Alerts of weights that do not know how things are now; without a drift they are left out."""
    begins = format_time(BEGIN_MS + 800 * STEP_MS)
    alerted = Feedback(
        feedback_id="1", alert_id="1", verdict="confirmed", sensor_id=NAMES[0], starts_at=begins, ends_at=LAST
    )
    for drifted in (True, False):
        found = refresh_of(history(0, 800, STEPS), champion(), drifted, tmp_path, [alerted])
        assert found is not None
        level = found.challenger.scaler[NAMES[0]].center[0]
        assert (level > 10) == drifted


def test_too_little_after_a_drift_is_waited_for(tmp_path: Path) -> None:
    """A window or two say nothing yet, and what came before teaches the wrong thing; where nothing stands out, all is
    learned.
    """
    assert refresh_of(history(0, STEPS - 200, STEPS), champion(), True, tmp_path) is None
    assert began(refreshed(history(0, STEPS, STEPS), champion(), True, tmp_path)) == 0


def test_without_drift_all_of_the_history_is_learned(tmp_path: Path) -> None:
    """Whatever may stand out in it."""
    assert began(refreshed(history(0, 1200, STEPS), champion(), False, tmp_path)) == 0


@pytest.mark.parametrize("start_ms", [0, BEGIN_MS + 10 * STEPS * STEP_MS])
def test_weights_from_elsewhere_shorten_nothing(tmp_path: Path, start_ms: int) -> None:
    """Those of another time leave no history, or all of it: all is taken."""
    start = format_time(start_ms)
    held = replace(champion(), trained_on=TrainedOn(start, start, 1, 1))
    assert began(refreshed(history(0, STEPS, STEPS), held, False, tmp_path)) == 0


def test_the_first_training_makes_room_for_each_channel(tmp_path: Path) -> None:
    """The pretrained default knows no channel; what replaces it remembers windows of each, the next one goes on."""
    recent = history(0, STEPS, 900)
    values = np.random.default_rng(1).normal(size=(len(recent.readings), 2))
    readings = Readings(recent.readings.sensor, recent.readings.time_ms, values)
    two = History(readings, NAMES, ("a", "b"))
    settings = Settings(trainer=TrainerSettings(directory=tmp_path, steps=5))
    line = Line("multiscale", ("a", "b"))
    begin = Weights(128).artifact("multiscale", ("a", "b"))
    assert begin.model.state_dict()["memory.known"].shape[:2] == (1, 0)
    held: Artifact = begin
    for _ in range(2):
        read = Recent(histories={line: two})
        found = refresh.refresh(settings, line, read, held, False, lambda *_: None, lambda: None)
        assert found is not None
        held = found.challenger
        known = held.model.state_dict()["memory.known"]
        assert known.shape[0] == 2
        assert known.shape[1] > 1000
