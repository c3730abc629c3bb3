"""The schemas: valid, true to the records and to the README's example, open to additions; and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from typer.testing import CliRunner

from stream_detector import schemas
from stream_detector.cli import app, register
from stream_detector.errors import ConfigError
from stream_detector.records import Alert, Feedback, encode
from stream_detector.schemas import FIELDS, SCHEMAS, schema
from stream_detector.streaming.envelope import ALERT_SCHEMA, dead_letter
from stream_detector.streaming.files.times import LAST_MS
from stream_detector.streaming.topics import Record

ALERT: dict[str, Any] = {
    "alert_id": "6f0b1c52-6d0e-5a53-9d57-3f1e0d1b6b0a",
    "seq": 0,
    "kind": "anomaly",
    "event": "opened",
    "status": "firing",
    "close_reason": None,
    "severity": "warning",
    "sensor_id": "machine-001",
    "group": None,
    "members": [],
    "labels": {"hall": "north"},
    "summary": "machine-001: vibration is 7.21 where 1.9 to 3.4 was expected",
    "starts_at": "2026-01-09T04:10:00Z",
    "ends_at": None,
    "window": {"start": "2026-01-08T19:55:00Z", "end": "2026-01-09T04:10:00Z"},
    "detected_at": None,
    "score": 9.13,
    "peak_score": 9.13,
    "p_value": 2.1e-05,
    "threshold": {"value": 6.4, "method": "block-maximum", "scope": "sensor", "budget": "1 per 7d"},
    "channels": [
        {"name": "vibration", "actual": None, "expected": 2.6, "lower": 1.9, "upper": 3.4, "contribution": 0.71}
    ],
    "model": {"name": "encoder", "version": "0f3a", "digest": "sha256:0f3a"},
}
FEEDBACK = {"feedback_id": "f1", "alert_id": ALERT["alert_id"], "verdict": "confirmed", "sensor_id": "machine-001"}


def fits(name: str, example: object) -> bool:
    """Whether the example is valid by the schema of this name."""
    return bool(jsonschema.Draft202012Validator(schema(name)).is_valid(example))


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas(name: str) -> None:
    """Each is valid by its draft, says who it is, and its own examples fit."""
    made = schema(name)
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$id"] == f"urn:stream-detector:{name}:v1" and made["title"] and len(made["description"]) > 20
    assert all(fits(name, example) for example in made.get("examples", []))
    assert "\n" not in json.dumps(made, indent=None)
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize(("name", "record", "example"), [("alert", Alert, ALERT), ("feedback", Feedback, FEEDBACK)])
def test_schemas_are_those_of_the_records(name: str, record: type[msgspec.Struct], example: dict[str, Any]) -> None:
    """What a record writes fits, also with additions; what lacks a field or has another type does not."""
    written = json.loads(encode(msgspec.convert(example, record)))
    assert fits(name, written)
    assert fits(name, {**written, "added_later": 1})
    assert not fits(name, {**written, "alert_id": 5})
    for field in schema(name)["required"]:
        assert not fits(name, {key: value for key, value in written.items() if key != field}), field
    assert set(schema(name)["properties"]) == set(record.__struct_fields__)


def test_what_is_said_of_fields_is_said_of_fields_that_there_are() -> None:
    """No description outlives its field."""
    for record, said in FIELDS.items():
        assert set(said) <= {field.name for field in msgspec.structs.fields(record)}
        name = "alert" if record is Alert else "feedback"
        assert all(said[field].items() <= schema(name)["properties"][field].items() for field in said)


def test_wrong_alerts() -> None:
    """Enumerations are kept, nested records too."""
    assert not fits("alert", {**ALERT, "severity": "terrible"})
    assert not fits("alert", {**ALERT, "seq": -1})
    assert not fits("alert", {**ALERT, "window": {"start": "2026-01-08T19:55:00Z"}})
    assert not fits("alert", {**ALERT, "channels": [{"name": "vibration"}]})


def test_the_examples_of_the_readme() -> None:
    """The reading that the README shows is one; so is each form that the design knows."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = [json.loads(text) for text in re.findall(r'`(\{"sensor_id".*?\})`', readme)]
    assert shown and all(fits("reading", reading) for reading in shown)
    assert len(schema("reading")["examples"]) == 3


def test_wrong_readings() -> None:
    """What a producer may get wrong is told by its own validator."""
    good = {"sensor_id": "p", "timestamp": 1, "value": 1}
    assert fits("reading", good)
    for wrong in (
        {"sensor_id": ""},
        {"sensor_id": "a\n"},
        {"sensor_id": "x" * 513},
        {"timestamp": True},
        {"timestamp": LAST_MS + 1},
        {"value": "1"},
    ):
        assert not fits("reading", {**good, **wrong})
    assert not fits("reading", {"sensor_id": "p", "timestamp": 1})
    assert not fits("reading", {"sensor_id": "p", "timestamp": 1, "values": {"label": 1}})
    assert schemas.LAST_MS == LAST_MS and schemas.LARGEST < float("inf") == schemas.LARGEST * (1 + 2**-52)


def test_dead_letters() -> None:
    """What the worker writes is what the schema describes."""
    record = Record("readings", 3, 42, 1_767_571_200_000, None, b"{", [("trace", b"1")])
    written = dead_letter(record, "invalid-json: Expecting property name at character 1", "dead-letters")
    headers = {name: value.decode() for name, value in written.headers}
    drawn = {"key": None, "value": "ew==", "headers": headers}
    assert fits("dead-letter", drawn)
    assert not fits("dead-letter", {**drawn, "headers": {"trace": "1"}})
    assert set(schema("dead-letter")["properties"]["headers"]["required"]) == set(headers) - {"trace"}


def test_the_command() -> None:
    """A name prints the schema, no name lists all, a wrong one is refused with the choices."""
    register("schema")
    run = CliRunner().invoke
    for name in SCHEMAS:
        done = run(app, ["schema", name])
        assert done.exit_code == 0 and json.loads(done.stdout) == schema(name)
    listed = run(app, ["schema"]).stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(SCHEMAS)
    with pytest.raises(
        ConfigError, match="'alerts': choose one of alert, reading, packed-readings, dead-letter"
    ) as caught:
        run(app, ["schema", "alerts"], catch_exceptions=False)
    assert caught.value.exit_code == 2
    assert schema("alert")["$id"] == ALERT_SCHEMA
