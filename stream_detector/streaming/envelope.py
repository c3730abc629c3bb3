"""Alerts and dead letters as messages, and dead letters back to what they were.

An alert is a CloudEvent 1.0 in binary mode: the alert is the value, everything a router needs is in the headers.
A dead letter is the message as it came, byte for byte, with headers that say where it lay and why it is no use.
Knows neither what is in a reading nor how messages are sent.
"""

from __future__ import annotations

from urllib.parse import quote

from stream_detector.errors import DataError
from stream_detector.records import Alert, encode
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.topics import Record

ALERT_TYPE = "stream-detector.alert"
ALERT_SCHEMA = "urn:stream-detector:alert:v1"
DEAD_LETTER_HEADERS = ("x-origin-topic", "x-origin-partition", "x-origin-offset", "x-origin-timestamp", "x-reason")


def alert_message(alert: Alert, topic: str, source: str = "stream-detector") -> Message:
    """The message of an alert; its key, the group or the sensor, keeps the steps of an incident in one partition.

    `ce_source` and `ce_id` together are the same for the same step, however often it is told.
    """
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": f"{alert.alert_id}/{alert.seq}",
        "ce_source": _reference(source),
        "ce_type": f"{ALERT_TYPE}.{alert.event}",
        "ce_time": alert.detected_at or alert.window.end,
        "ce_subject": _subject(alert.sensor_id),
        "ce_dataschema": ALERT_SCHEMA,
        "content-type": "application/json",
    }
    headers = [(name, value.encode()) for name, value in attributes.items()]
    return Message(topic, (alert.group or alert.sensor_id).encode(), encode(alert), headers)


def dead_letter(record: Record, reason: str, topic: str) -> Message:
    """The message for the dead-letter topic: key and value untouched, its own headers first and then ours."""
    said = (record.topic, record.partition, record.offset, record.timestamp_ms, reason)
    ours = [(name, str(value).encode()) for name, value in zip(DEAD_LETTER_HEADERS, said, strict=True)]
    return Message(topic, record.key, record.value, [*record.headers, *ours])


def reason_of(record: Record) -> str:
    """Why a message became a dead letter; raises DataError for one that is none."""
    _, ours = _split(record)
    return ours["x-reason"].decode(errors="replace")


def restored(record: Record) -> Message:
    """What a dead letter was, for its topic of origin; raises DataError for a message that is no dead letter."""
    headers, ours = _split(record)
    return Message(ours["x-origin-topic"].decode(errors="replace"), record.key, record.value, headers)


def _split(record: Record) -> tuple[list[tuple[str, bytes]], dict[str, bytes]]:
    """The message's own headers and ours: the last of each name, for its own may have the same names."""
    own, ours = list(record.headers), {}
    for name in DEAD_LETTER_HEADERS:
        place = next((i for i in reversed(range(len(own))) if own[i][0] == name), None)
        if place is None:
            raise DataError(
                f"the message at {record.topic}/{record.partition}, offset {record.offset}, is no dead letter (it "
                f"lacks the header {name}): name the topic that the worker's dead letters go to"
            )
        ours[name] = own.pop(place)[1]
    return own, ours


def _reference(source: str) -> str:
    """A source as the URI reference that it must be."""
    return quote(source, safe="/:?#[]@!$&'()*+,;=~%") or "stream-detector"


def _subject(sensor_id: str) -> str:
    """A sensor's id as CloudEvents allow it: `%` and control characters are percent-encoded, nothing else is."""
    return "".join(char if char.isprintable() and char != "%" else quote(char, safe="") for char in sensor_id)
