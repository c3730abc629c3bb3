"""Alerts as records: every kind fits its schema and says in one sentence what happened."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

import jsonschema
import msgspec
import pytest

from stream_detector.detect.alerts import alert_id, short
from stream_detector.detect.changes import Change
from stream_detector.records import Alert, Kind, encode, parse_time
from stream_detector.schemas import schema
from stream_detector.settings import IncidentSettings, QualitySettings, SensorSettings
from stream_detector.streaming.answers_file import answer
from tests.unit.plant import NO_INCIDENT, Plant, at, steady

HALL = SensorSettings(match="?", group="hall", labels={"line": "1"})
SCHEMA = jsonschema.Draft202012Validator(schema("alert"))
QUIET = QualitySettings(silent_after=0, stuck_after=25)


def faulty(plant: Plant, names: str = "a", stop_s: int = 100, fault: float = 50.0) -> Plant:
    """Fed with one fault of each sensor at second 60."""
    plant.feed([(name, t, fault if t == 60 else value) for name, t, value in steady(names, 0, stop_s)])
    return plant


def answered(verdict: str, **times: str) -> Callable[[], Plant]:
    """A plant whose open incident was answered."""

    def make() -> Plant:
        plant = faulty(Plant(), stop_s=61)
        told = plant.answer(answer(plant.told, verdict, note=None, **times))  # type: ignore[arg-type]
        assert told is not None
        plant.told += told
        return plant

    return make


def timed_out() -> Plant:
    """An incident that lasts."""
    return faulty(Plant(incidents=IncidentSettings(time_out=3)))


def worse() -> Plant:
    """An incident that is told again."""
    return faulty(Plant(incidents=IncidentSettings(close_after=9, update_every=4)))


def silent() -> Plant:
    """A sensor that falls silent while it is anomalous, and comes back."""
    plant = faulty(Plant(), "ab", 61)
    plant.feed(steady("b", 61, 100) + steady("ab", 100, 102))
    return plant


def stuck(value: float) -> Callable[[], Plant]:
    """A channel that stays as it is for a while."""

    def make() -> Plant:
        plant = Plant(quality=QUIET, threshold=NO_INCIDENT)
        plant.feed([*steady("a", 0, 100), *(("a", t, value) for t in range(100, 140)), *steady("a", 140, 150)])
        return plant

    return make


def skewed() -> Plant:
    """A clock that runs ahead for a while."""
    plant = Plant()
    plant.feed([*steady("a", 0, 60), ("a", 9000, 1.0), *steady("a", 60, 62)], ahead_s={9000: 8940})
    return plant


def regime() -> Plant:
    """More faults than the budget allows."""
    plant = Plant(threshold="block-maximum", budget="1 per 1000 readings")
    plant.feed([(n, t, 40.0 if t > 300 and t % 30 == 0 else v) for n, t, v in steady("a", 0, 700)])
    return plant


def grouped() -> Plant:
    """A fault of a whole group."""
    return faulty(Plant(HALL), "abc")


def partly_missing() -> Plant:
    """A fault in one channel while the other is missing."""
    plant = Plant(channels=("x", "y"), quality=QUIET)
    rows = [("a", t, (value, 2 * value)) for _, t, value in steady("a", 0, 60) if isinstance(value, float)]
    plant.feed([*rows, ("a", 60, (50.0, math.nan))])
    return plant


CASES: dict[str, tuple[Callable[[], Plant], list[tuple[str, str, str | None]], list[str]]] = {
    "recovered": (
        lambda: faulty(Plant()),
        [("anomaly", "opened", None), ("anomaly", "closed", "recovered")],
        [r"a: value is 50 where -1\.\d+ to 1\.\d+ was expected", "a is back to normal after 0 ms"],
    ),
    "timed out": (
        timed_out,
        [("anomaly", "opened", None), ("anomaly", "closed", "timed_out")],
        [r"a: value is 50 where .* was expected", "a stays different: taken as the new normal after 0 ms"],
    ),
    "updated": (
        worse,
        [("anomaly", "opened", None), *[("anomaly", "updated", None)] * 2, ("anomaly", "closed", "recovered")],
        [r"a: value is 50 where .* was expected", "a: value at -?0.* does not behave as expected"],
    ),
    "false positive": (
        answered("false_positive"),
        [("anomaly", "opened", None), ("anomaly", "closed", "false_positive")],
        ["a: value is 50 .*", "a was answered as a false alarm after 0 ms"],
    ),
    "change point": (
        answered("change_point"),
        [("anomaly", "opened", None), ("anomaly", "closed", "change_point")],
        ["a: value is 50 .*", "a was answered as the new normal after 0 ms"],
    ),
    "maintenance": (
        answered("maintenance", begins=at(50), ends=at(500)),
        [("anomaly", "opened", None), ("anomaly", "closed", "maintenance")],
        ["a: value is 50 .*", "a is under maintenance after 0 ms"],
    ),
    "silent": (
        silent,
        [
            ("anomaly", "opened", None),
            ("anomaly", "opened", None),
            ("anomaly", "closed", "recovered"),
            ("sensor_silent", "opened", None),
            ("anomaly", "closed", "silent"),
            ("sensor_silent", "closed", "recovered"),
        ],
        [
            "a: value is 50 .*",
            "b: value is 50 .*",
            "b is back to normal after 0 ms",
            "a has stopped sending readings",
            "a fell silent while it was anomalous after 0 ms",
            "a sends again after 40 s",
        ],
    ),
    "stuck": (
        stuck(1.5),
        [("value_stuck", "opened", None), ("value_stuck", "closed", "recovered")],
        ["a: value has been exactly 1.5 for 24 s", "a: value moves again after 39 s"],
    ),
    "missing": (
        stuck(math.nan),
        [("value_missing", "opened", None), ("value_missing", "closed", "recovered")],
        ["a: value has been missing for 12 s", "a: value is there again after 39 s"],
    ),
    "skewed": (
        skewed,
        [("clock_skewed", "opened", None), ("clock_skewed", "closed", "recovered")],
        ["a: its clock is 2 h 29 min ahead; its readings are set aside", "a: its clock is right again after .*"],
    ),
    "group": (
        grouped,
        [("anomaly", "opened", None), ("anomaly", "updated", None), ("anomaly", "closed", "recovered")],
        [
            "a: value is 50 .*",
            "hall: 2 sensors, latest b: value is 50 .*",
            "hall: 3 sensors, latest c is back to normal after 0 ms",
        ],
    ),
    "partly missing": (partly_missing, [("anomaly", "opened", None)], ["a: x is 50 where .* was expected"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_told(case: str) -> None:
    """Kinds, events and reasons, and the sentence that goes with each."""
    make, told, sentences = CASES[case]
    alerts = make().told
    assert [(alert.kind, alert.event, alert.close_reason) for alert in alerts] == told
    for alert, sentence in zip(alerts, sentences, strict=False):
        assert re.fullmatch(sentence, alert.summary), alert.summary


@pytest.mark.parametrize("make", [*(case[0] for case in CASES.values()), regime], ids=[*CASES, "regime"])
def test_every_record_fits_its_schema(make: Callable[[], Plant]) -> None:
    """Strictly typed, valid by the schema, in order of time, without a NaN, and readable."""
    alerts = make().told
    assert alerts
    for alert in alerts:
        written = encode(alert)
        SCHEMA.validate(json.loads(written))
        assert msgspec.json.decode(written, type=Alert, strict=True) == alert
        assert not re.search(r"\b(None|nan|inf)\b", alert.summary + written.decode().replace("null", ""))
        assert 10 < len(alert.summary) < 160
        assert (alert.status == "resolved") == (alert.ends_at is not None)
        assert (alert.model is None) == (alert.kind not in ("anomaly", "regime_change"))
        assert parse_time(alert.window.start) <= parse_time(alert.window.end)
        assert alert.ends_at is None or parse_time(alert.starts_at) <= parse_time(alert.ends_at)
        assert alert.detected_at is None


def test_a_change_of_regime_is_opened_and_resolved_in_one() -> None:
    """It says what it means."""
    told = next(alert for alert in regime().told if alert.kind == "regime_change")
    assert (told.event, told.status, told.close_reason) == ("opened", "resolved", None)
    assert "more often than its budget allows" in told.summary


def test_labels_are_those_of_the_one_that_leads() -> None:
    """All steps of an incident carry the same, so that who routes by them routes all."""
    plant = Plant(
        SensorSettings(match="a", labels={"line": "1"}),
        SensorSettings(match="b", labels={"line": "2"}),
        SensorSettings(match="?", group="hall"),
    )
    told = faulty(plant, "ab").told
    assert [alert.event for alert in told] == ["opened", "updated", "closed"]
    assert [alert.labels for alert in told] == [{"line": "1"}] * 3


def test_ids_come_from_the_event_alone() -> None:
    """The same event has the same id in every process; kind, channel, start, sensor and group each make another."""
    change = Change(0, 0, "anomaly", "opened", None, 0, 1_700_000_000_000, None, 0, (0, 0))
    channels = ("x", "y")
    base = alert_id("s", "a", change, channels)
    assert base == "55dff614-d722-5e27-99c1-af8189c07e96"
    later = Change(0, 0, "anomaly", "updated", None, 3, 1_700_000_000_000, None, 2, (5, 6))
    assert alert_id("s", "a", later, channels) == base
    moved = Change(0, 0, "anomaly", "opened", None, 0, 1_700_000_000_001, None, 0, (0, 0))
    kinds: list[tuple[Kind, int | None]] = [
        ("value_stuck", 0),
        ("value_stuck", 1),
        ("value_missing", 0),
        ("sensor_silent", None),
    ]
    faults = [
        Change(0, 0, kind, "opened", None, 0, 1_700_000_000_000, None, 0, (0, 0), channel=channel)
        for kind, channel in kinds
    ]
    others = [
        alert_id("t", "a", change, channels),
        alert_id("s", "b", change, channels),
        alert_id("s", "a", change, channels, "hall"),
        *(alert_id("s", "a", one, channels) for one in (moved, *faults)),
    ]
    assert len({base, *others}) == 9


def test_numbers_are_told_in_six_digits() -> None:
    """What is printed is what is compared."""
    assert [short(value) for value in (1.23456789, 123456789.0, 1e-9, 0.0)] == [1.23457, 123457000.0, 1e-9, 0.0]
