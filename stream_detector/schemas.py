"""What travels on the topics, as JSON Schemas (draft 2020-12).

Those of alerts and feedback are made from the records themselves, so that they cannot fall behind. All allow further
properties: formats grow by additions, and a reader ignores what it does not know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stream_detector import packed
from stream_detector.errors import ConfigError
from stream_detector.records import Alert, Feedback

Schema = dict[str, Any]
LARGEST = 1.7976931348623157e308
LAST_MS = 7_289_654_399_999
"""The last millisecond of the year 2200."""
LABEL = r"^\s*[Ll][Aa][Bb][Ee][Ll]\s*$"
REASONS = {
    "empty-message": "it has no value",
    "too-large": "too many bytes or readings",
    "invalid-json": "it is not JSON in UTF-8",
    "invalid-packed": "it begins like packed columns, and is none of the known layout",
    "wrong-type": "something is of another type than it must be",
    "wrong-length": "lists do not have the lengths they must have",
    "missing-field": "something is missing",
    "not-finite": "a value is infinite or too large",
    "bad-time": "a time that is none, or not of the years 1970 to 2200",
    "bad-sensor-id": "an id that is empty, too long or not plain text",
    "bad-channel": "a channel's name is like that, or there twice",
    "unknown-channel": "a channel that the sensor does not have",
    "too-many-channels": "more channels than a sensor may have",
}
"""The word that the reason of a dead letter begins with; the worker may add others."""

MOMENT = {"format": "date-time"}
FIELDS: Mapping[type, Mapping[str, Schema]] = {
    Alert: {
        "alert_id": {
            "description": "Id of the incident: the same in all its steps, and in a replay.",
            "format": "uuid",
        },
        "seq": {"description": "Number of the step, from 0.", "minimum": 0},
        "event": {"description": "What became of the incident."},
        "status": {"description": "Whether the incident goes on."},
        "close_reason": {"description": "Why it ended; null while it goes on."},
        "severity": {"description": "How much rarer than the budget the worst reading is."},
        "labels": {"description": "Labels of the sensor, from the settings."},
        "summary": {"description": "One sentence for a person."},
        "starts_at": {"description": "Time of the first reading of the incident.", **MOMENT},
        "ends_at": {"description": "Time of the last one; null while it goes on.", **MOMENT},
        "window": {"description": "The readings that were looked at."},
        "detected_at": {"description": "When it was noticed: the only time that is of a clock.", **MOMENT},
        "score": {"description": "How anomalous the newest reading is; higher is more."},
        "peak_score": {"description": "The highest score of the incident so far."},
        "p_value": {"description": "How likely such a score is when nothing is wrong."},
        "threshold": {"description": "What the score was held against."},
        "channels": {"description": "The channels that caused it, the largest contribution first."},
        "model": {"description": "The weights that said so."},
    },
    Feedback: {
        "feedback_id": {"description": "The same for the same answer to the same alert."},
        "alert_id": {"description": "The incident that is answered."},
        "verdict": {"description": "What the person says it was."},
        "starts_at": dict(MOMENT),
        "ends_at": dict(MOMENT),
        "begins": {"description": "Begin of the maintenance.", **MOMENT},
        "ends": {"description": "End of the maintenance.", **MOMENT},
        "as_of": {"description": "Event time up to which the alert had been told.", **MOMENT},
        "note": {"description": "Whatever the person wants to add."},
    },
}
"""What the types alone do not say."""


def _generated(record: type[msgspec.Struct]) -> Schema:
    """The schema of a record, from its types and docstrings."""
    _, components = msgspec.json.schema_components([record], ref_template="#/$defs/{name}")
    for definition in components.values():
        if "description" in definition:
            definition["description"] = " ".join(inspect.cleandoc(definition["description"]).split())
    root = components.pop(record.__name__)
    for name, said in FIELDS[record].items():
        if name in root["properties"]:
            root["properties"][name] = {**said, **root["properties"][name]}
    return {**root, "$defs": components} if components else root


def _reading() -> Schema:
    time = {
        "description": "Milliseconds since 1970-01-01 UTC, or ISO 8601; without a zone it is UTC.",
        "type": ["number", "string"],
        "minimum": 0,
        "maximum": LAST_MS,
        "pattern": r"\d",
    }
    number = {
        "description": "null is a missing value.",
        "type": ["number", "null"],
        "minimum": -LARGEST,
        "maximum": LARGEST,
    }
    name = {
        "type": "string",
        "maxLength": 512,
        "pattern": r"\S",
        "not": {"pattern": "[\\u0000-\\u001f\\u007f-\\u009f]"},
    }
    by_channel = {
        "description": "The value of each channel; one that is left out is missing. `label` is never read.",
        "type": "object",
        "propertyNames": name,
        "patternProperties": {LABEL: True},
        "additionalProperties": number,
        "not": {"propertyNames": {"pattern": LABEL}},
    }
    rows = {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": number}}
    flat = {"type": "array", "minItems": 1, "items": number}
    channels = {
        "description": "The channels of the lists in `values`, in order.",
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": name,
        "not": {"items": {"pattern": LABEL}},
    }
    many = {
        "required": ["timestamps", "values"],
        "properties": {"timestamps": {"type": "array", "minItems": 1, "items": time}},
        "if": {"required": ["channels"]},
        "then": {"properties": {"channels": channels, "values": rows}},
        "else": {"properties": {"values": {"description": "Of the channel `value`.", "anyOf": [rows, flat]}}},
    }
    one = {
        "required": ["timestamp"],
        "properties": {"timestamp": time},
        "if": {"required": ["values"], "properties": {"values": {"not": {"type": "null"}}}},
        "then": {"properties": {"values": by_channel}},
        "else": {"required": ["value"], "properties": {"value": number}},
    }
    return {
        "description": "A reading of one sensor (value, or values by channel), or many readings of it (timestamps and "
        "values). Whatever else is in it is ignored.",
        "type": "object",
        "required": ["sensor_id"],
        "properties": {"sensor_id": {"description": "The sensor, in plain text.", **name}},
        "if": {"required": ["timestamps"]},
        "then": many,
        "else": one,
        "examples": [
            {"sensor_id": "pump-7", "timestamp": 1767571200000, "value": 1.2},
            {"sensor_id": "pump-7", "timestamp": "2026-01-05T00:00:00Z", "values": {"temp": 61.2, "vib": None}},
            {
                "sensor_id": "pump-7",
                "timestamps": [1767571200000, 1767571201000],
                "values": [[61.2, 0.03], [61.3, 0.04]],
                "channels": ["temp", "vib"],
            },
        ],
    }


def _dead_letter() -> Schema:
    whole = r"^-?[0-9]+$"
    reasons = "; ".join(f"{slug}: {meaning}" for slug, meaning in REASONS.items())
    untouched = {"type": ["string", "null"], "contentEncoding": "base64"}
    return {
        "description": "A message of the dead-letter topic, drawn as an object: the headers are those of the message "
        "that could not be used and these; headers are UTF-8 text.",
        "type": "object",
        "required": ["headers", "value"],
        "properties": {
            "key": {"description": "The key as it came, byte for byte.", **untouched},
            "value": {"description": "The value as it came, byte for byte.", **untouched},
            "headers": {
                "type": "object",
                "required": [
                    "x-origin-topic",
                    "x-origin-partition",
                    "x-origin-offset",
                    "x-origin-timestamp",
                    "x-reason",
                ],
                "properties": {
                    "x-origin-topic": {"description": "The topic that it lay in.", "type": "string", "minLength": 1},
                    "x-origin-partition": {"description": "Its partition.", "type": "string", "pattern": whole},
                    "x-origin-offset": {"description": "Its offset.", "type": "string", "pattern": whole},
                    "x-origin-timestamp": {
                        "description": "Its time on the topic, in milliseconds since 1970-01-01 UTC.",
                        "type": "string",
                        "pattern": whole,
                    },
                    "x-reason": {
                        "description": f"Why it could not be used: a word and a sentence. {reasons}.",
                        "type": "string",
                        "pattern": "^[a-z-]+: .",
                    },
                },
            },
        },
    }


SCHEMAS: Mapping[str, tuple[str, Callable[[], Schema]]] = {
    "alert": ("One step in the life of an incident", lambda: _generated(Alert)),
    "reading": ("Readings of a sensor", _reading),
    "packed-readings": ("Readings of one sensor or several, as packed columns", packed.described),
    "dead-letter": ("A message that could not be used", _dead_letter),
    "feedback": ("A person's answer to an alert", lambda: _generated(Feedback)),
}
"""The title of each schema, and how it is made."""


def schema(name: str) -> Schema:
    """The JSON Schema of what travels under this name; raises ConfigError for another name."""
    if name not in SCHEMAS:
        raise ConfigError(f"there is no schema {name!r}: choose one of {', '.join(SCHEMAS)}")
    title, make = SCHEMAS[name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:stream-detector:{name}:v1",
        **make(),
        "title": title,
    }
