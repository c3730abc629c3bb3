"""One sentence on what happened, for a person who reads it at night."""

from __future__ import annotations

from collections.abc import Sequence

from stream_detector.detect.changes import Change
from stream_detector.records import Channel, format_duration

REASONS = {
    "recovered": "is back to normal",
    "timed_out": "stays different: taken as the new normal",
    "silent": "fell silent while it was anomalous",
    "false_positive": "was answered as a false alarm",
    "change_point": "was answered as the new normal",
    "maintenance": "is under maintenance",
}


def of(change: Change, sensor_id: str, channels: Sequence[Channel], group: str | None) -> str:
    """The sentence; sensor_id is the sensor whose readings come with the change."""
    subject = sensor_id
    if group is not None and len(change.members) > 1:
        subject = f"{group}: {len(change.members)} sensors, latest {sensor_id}"
    if change.kind == "anomaly":
        return _anomaly(change, subject, channels)
    lasted = format_duration((change.end_ms or change.window_ms[1]) - change.start_ms)
    if change.kind == "regime_change":
        return f"{subject} exceeds its threshold more often than its budget allows: it may have changed for good"
    if change.kind == "sensor_silent":
        return f"{subject} sends again after {lasted}" if change.end_ms else f"{subject} has stopped sending readings"
    if change.kind in ("value_stuck", "value_missing"):
        name, value = channels[0].name, channels[0].actual
        if change.end_ms:
            return f"{subject}: {name} {'moves' if value is not None else 'is there'} again after {lasted}"
        return f"{subject}: {name} has been {'missing' if value is None else f'exactly {value:g}'} for {lasted}"
    ahead = format_duration(int(change.value or 0))
    return (
        f"{subject}: its clock is right again after {lasted}"
        if change.end_ms
        else f"{subject}: its clock is {ahead} ahead; its readings are set aside"
    )


def without(subject: str, sentence: str) -> str:
    """A sentence that begins with what stands before it anyway, without that."""
    rest = sentence.removeprefix(subject)
    return rest[1:].lstrip() if rest != sentence and rest[:1] in (":", " ") else sentence


def _anomaly(change: Change, subject: str, channels: Sequence[Channel]) -> str:
    if change.close_reason is not None:
        lasted = format_duration((change.end_ms or change.start_ms) - change.start_ms)
        return f"{subject} {REASONS[change.close_reason]} after {lasted}"
    worst = channels[0]
    if worst.actual is None:
        return f"{subject}: {worst.name} is missing where {worst.expected:g} was expected"
    if worst.lower is not None and worst.upper is not None and not worst.lower <= worst.actual <= worst.upper:
        return f"{subject}: {worst.name} is {worst.actual:g} where {worst.lower:g} to {worst.upper:g} was expected"
    return f"{subject}: {worst.name} at {worst.actual:g} does not behave as expected"
