"""Answers to alerts: what each does to the incident and to what follows, once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream_detector.detect.state import State
from stream_detector.errors import DataError
from stream_detector.records import Alert, Feedback, encode
from stream_detector.settings import IncidentSettings, SensorSettings
from stream_detector.streaming.answers_file import answer, find, read_alerts, read_feedback
from tests.unit.plant import Plant, Row, at, steady

BUDGET = "1 per 1000 readings"
RULES = IncidentSettings(close_after=10, group_within="5s")
FAULT = 7.0
"""A value whose score lies above the threshold that adapts, if not by much."""


def fed(plant: Plant, names: str, start_s: int, stop_s: int, faults: dict[tuple[str, int], float]) -> list[Alert]:
    """What a stretch of noise with these faults brings."""
    rows: list[Row] = [(name, t, faults.get((name, int(t)), v)) for name, t, v in steady(names, start_s, stop_s)]
    return plant.feed(rows)


def adapting(*sensors: SensorSettings) -> Plant:
    """A plant whose threshold adapts, with an open incident of a (and b, where they are a group)."""
    plant = Plant(*sensors, threshold="block-maximum", budget=BUDGET, incidents=RULES)
    fed(plant, "ab", 0, 303, {("a", 300): FAULT, ("b", 300): FAULT} if sensors else {("a", 300): FAULT})
    assert {alert.event for alert in plant.told} <= {"opened", "updated"}
    return plant


def row_of(plant: Plant, sensor_id: str) -> State:
    """The state of a sensor, to look at."""
    table = next(iter(plant.profiles.fleet.detectors.values())).table
    row: State = table.state[table.find(sensor_id)[0]]
    return row


def packed(plant: Plant) -> bytes:
    """All that a plant remembers."""
    return b"".join(d.table.state.tobytes() for d in plant.profiles.fleet.detectors.values())


def test_a_false_positive_closes_and_is_not_told_again() -> None:
    """The incident ends for that reason; the same fault later raises nothing, without the answer it does."""
    plant, other = adapting(), adapting()
    told = plant.answer(answer(plant.told, "false_positive", note=None))
    assert told is not None
    assert [(a.event, a.close_reason, a.seq, a.alert_id) for a in told] == [
        ("closed", "false_positive", 1, plant.told[0].alert_id)
    ]
    assert told[0].ends_at == at(300)
    assert told[0].summary == "a was answered as a false alarm after 0 ms"
    later = {("a", 400): FAULT}
    assert fed(plant, "ab", 303, 450, later) == []
    assert [alert.event for alert in fed(other, "ab", 303, 450, later)] == ["closed", "opened", "closed"]
    assert fed(plant, "ab", 450, 520, {("a", 480): 40.0})


def test_an_answer_twice_changes_nothing() -> None:
    """The same answer again tells nothing and leaves all state as it is, whatever the verdict."""
    for verdict in ("false_positive", "confirmed", "change_point", "maintenance"):
        plant = adapting()
        times = {"begins": at(290), "ends": at(310)} if verdict == "maintenance" else {}
        feedback = answer(plant.told, verdict, note=None, **times)
        plant.answer(feedback)
        before = packed(plant)
        assert plant.answer(feedback) == []
        assert packed(plant) == before


def test_a_false_positive_leaves_a_later_incident_alone() -> None:
    """An answer to an incident that is over does not close the one that is open now."""
    plant = adapting()
    feedback = answer(plant.told, "false_positive", note=None)
    opened = fed(plant, "ab", 303, 403, {("a", 400): 40.0})
    assert [alert.event for alert in opened] == ["closed", "opened"]
    limit = float(row_of(plant, "a")["th_limit"])
    assert plant.answer(feedback) == []
    assert row_of(plant, "a")["in_open"] == 1
    assert row_of(plant, "a")["th_limit"] > limit


def test_a_confirmed_anomaly_is_not_learned() -> None:
    """The incident goes on, and its score is not among the largest that the threshold rests on."""
    plant, other = adapting(), adapting()
    assert plant.answer(answer(plant.told, "confirmed", note=None)) == []
    assert row_of(plant, "a")["in_open"] == 1
    for one in (plant, other):
        fed(one, "ab", 303, 340, {})
    assert row_of(plant, "a")["th_top"].max() < row_of(other, "a")["th_top"].max()


def test_a_change_point_is_learned_anew() -> None:
    """The incident ends for that reason, and the sensor has no threshold until it has found its level."""
    plant = adapting()
    told = plant.answer(answer(plant.told, "change_point", note=None))
    assert told is not None
    assert [(alert.event, alert.close_reason) for alert in told] == [("closed", "change_point")]
    assert np.isinf(row_of(plant, "a")["th_limit"])
    assert np.isfinite(row_of(plant, "b")["th_limit"])
    assert fed(plant, "ab", 303, 450, {("a", 400): FAULT}) == []
    assert fed(plant, "ab", 450, 800, {("a", 700): FAULT})


@pytest.mark.parametrize(("second", "told"), [(99, True), (100, False), (149, False), (150, True)])
@pytest.mark.parametrize("batch", [1, 1000])
def test_a_maintenance_silences_its_time_exactly(second: int, told: bool, batch: int) -> None:
    """From its begin, up to but not including its end; what is in it is scored all the same."""
    plant = Plant(incidents=RULES)
    feedback = Feedback(
        feedback_id="f", alert_id="x", verdict="maintenance", sensor_id="a", begins=at(100), ends=at(150)
    )
    plant.feed(steady("ab", 0, 90))
    assert plant.answer(feedback) == []
    plant.feed(steady("ab", 90, second), batch)
    found = plant.feed([("a", second, 50.0), *steady("ab", second + 1, second + 2)], batch)
    assert [alert.event for alert in found if alert.event == "opened"] == ["opened"] * told
    plant.feed(steady("ab", second + 2, 151))
    evidence = next(iter(plant.profiles.fleet.detectors.values())).evidence
    assert evidence is not None
    assert np.isfinite(evidence.scored.score).all()


def test_a_maintenance_ends_what_is_open() -> None:
    """An incident within it is closed when the answer is heard, one before it with the first reading in it."""
    inside, before = adapting(), adapting()
    told = inside.answer(answer(inside.told, "maintenance", begins=at(295), ends=at(400), note=None))
    assert told is not None
    assert [(alert.event, alert.close_reason) for alert in told] == [("closed", "maintenance")]
    assert before.answer(answer(before.told, "maintenance", begins=at(305), ends=at(400), note=None)) == []
    later = fed(before, "ab", 303, 320, {})
    assert [(alert.event, alert.close_reason, alert.ends_at) for alert in later] == [("closed", "maintenance", at(300))]


def test_other_weights_say_nothing_of_the_threshold() -> None:
    """A score of other weights closes the incident, and leaves the threshold where it is."""
    plant = adapting()
    feedback = answer(plant.told, "false_positive", note=None)
    assert feedback.model is not None
    foreign = msgspec.structs.replace(feedback, model=msgspec.structs.replace(feedback.model, digest="sha256:other"))
    limit = float(row_of(plant, "a")["th_limit"])
    told = plant.answer(foreign)
    assert told is not None
    assert [alert.close_reason for alert in told] == ["false_positive"]
    assert row_of(plant, "a")["th_limit"] == limit
    plant.answer(feedback)
    assert row_of(plant, "a")["th_limit"] > limit


def test_an_unknown_sensor() -> None:
    """None, which is not the same as nothing to tell."""
    plant = adapting()
    feedback = answer(plant.told, "confirmed", note=None)
    assert plant.answer(msgspec.structs.replace(feedback, sensor_id="z")) is None


@pytest.mark.parametrize("verdict", ["false_positive", "change_point"])
def test_a_group_is_answered_as_one(verdict: str) -> None:
    """All members hear it, and their incident is told to be closed once, with all of them named."""
    plant = adapting(SensorSettings(match="?", group="hall"))
    assert {alert.alert_id for alert in plant.told} == {plant.told[0].alert_id}
    limits = {name: float(row_of(plant, name)["th_limit"]) for name in "ab"}
    told = plant.answer(answer(plant.told, verdict, note=None))  # type: ignore[arg-type]
    assert told is not None
    assert [(alert.event, alert.close_reason, alert.members) for alert in told] == [("closed", verdict, ["a", "b"])]
    assert (told[0].alert_id, told[0].seq) == (plant.told[0].alert_id, plant.told[-1].seq + 1)
    assert all(row_of(plant, name)["th_limit"] != limits[name] for name in "ab")
    assert plant.profiles.fleet.dirty()
    assert fed(plant, "ab", 303, 420, {("a", 400): FAULT, ("b", 400): FAULT}) == []


def test_an_answer_says_all_that_is_needed() -> None:
    """It carries the incident as it stood, in words of its last step; the same answer has the same id."""
    plant = adapting()
    first, last = plant.told[0], fed(plant, "ab", 303, 320, {})[-1]
    feedback = answer([last, first], "confirmed", note="bearing")
    assert (feedback.alert_id, feedback.starts_at, feedback.ends_at) == (last.alert_id, at(300), last.ends_at)
    assert (feedback.as_of, feedback.peak_score, feedback.note) == (last.window.end, last.peak_score, "bearing")
    assert feedback.feedback_id == answer([first], "confirmed", note=None).feedback_id
    others = {answer([first], "false_positive", note=None).feedback_id}
    others |= {answer([first], "maintenance", begins=at(0), ends=at(t), note=None).feedback_id for t in (1, 2)}
    assert len(others | {feedback.feedback_id}) == 4


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [
        (at(5), at(5), "before it begins"),
        (at(5), at(4.5), "before it begins"),
        ("soon", at(5), "'soon' cannot be read"),
        (None, at(5), "--maintenance FROM TO"),
    ],
)
def test_a_maintenance_needs_times(begins: str | None, ends: str, said: str) -> None:
    """Wrong ones are refused in words."""
    with pytest.raises(DataError, match=said):
        answer(adapting().told, "maintenance", begins=begins, ends=ends, note=None)


def test_a_maintenance_may_be_short() -> None:
    """Half a second is one, however its times are written."""
    feedback = answer(adapting().told, "maintenance", begins=at(5), ends=at(5.5), note=None)
    assert (feedback.begins, feedback.ends) == (at(5), at(5.5))


def test_files_of_records(tmp_path: Path) -> None:
    """Alerts and answers come back from their lines, each answer once; an unknown id is refused."""
    told = adapting().told
    feedback = answer(told, "confirmed", note=None)
    (tmp_path / "alerts").write_bytes(b"\n".join(encode(alert) for alert in told))
    (tmp_path / "feedback").write_bytes(b"\n\n".join([encode(feedback)] * 3) + b"\n")
    assert read_alerts(tmp_path / "alerts") == told
    assert read_feedback(tmp_path / "feedback") == [feedback]
    assert find(told, told[0].alert_id) == told
    with pytest.raises(DataError, match="no alert with the id 'x'"):
        find(told, "x")


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff",
        b'{"feedback_id": "f"}',
        b'{"feedback_id": "f", "alert_id": "a", "verdict": "maintenance", "sensor_id": "a"}',
        b'{"feedback_id": "f", "alert_id": "a", "verdict": "confirmed", "sensor_id": "a", "as_of": "soon"}',
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: bytes) -> None:
    """What is no answer is refused with file and line, also where only a time is wrong."""
    (tmp_path / "feedback").write_bytes(encode(answer(adapting().told, "confirmed", note=None)) + b"\n" + line)
    with pytest.raises(DataError, match="feedback, line 2: "):
        read_feedback(tmp_path / "feedback")
