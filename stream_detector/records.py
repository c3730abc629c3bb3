"""What travels between the parts: readings as columns, alerts as records, and their bytes.

Times are int64 milliseconds since 1970-01-01 UTC everywhere inside; on the wire they are RFC 3339 text.
This module knows neither files nor brokers.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

Severity: TypeAlias = Literal["info", "warning", "error", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error", "critical")
Kind: TypeAlias = Literal[
    "anomaly", "regime_change", "sensor_silent", "value_stuck", "value_missing", "clock_skewed", "state_gap"
]
Event: TypeAlias = Literal["opened", "updated", "closed"]
CloseReason: TypeAlias = Literal["recovered", "timed_out", "silent", "false_positive", "change_point", "maintenance"]
Verdict: TypeAlias = Literal["false_positive", "confirmed", "change_point", "maintenance"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMESPACE = uuid.UUID("6f0b1c52-6d0e-5a53-9d57-3f1e0d1b6b0a")
"""Ids of alerts and answers are made within it, from what they are about."""


@dataclass(frozen=True, slots=True)
class Readings:
    """A batch of readings of one profile, as columns in arrival order.

    sensor: (N,) row of each reading's sensor in the detector's table.
    time_ms: (N,) event time.
    values: (N, C) one column a channel; NaN is a missing value, infinities are not allowed.
    received_ms: (N,) when the broker took each one, where that is known: what tells a wrong clock.
    """

    sensor: Ints
    time_ms: Ints
    values: Floats
    received_ms: Ints | None = None

    def __len__(self) -> int:
        return len(self.sensor)

    def __getitem__(self, rows: slice | Bools | Ints) -> Readings:
        received = None if self.received_ms is None else self.received_ms[rows]
        return Readings(self.sensor[rows], self.time_ms[rows], self.values[rows], received)


class Interval(msgspec.Struct, frozen=True):
    """A span of event time, both ends included."""

    start: str
    end: str


class Threshold(msgspec.Struct, frozen=True):
    """What the score was held against. `scope` is `fleet` while the sensor warms up, then `sensor`."""

    value: float
    method: str
    scope: Literal["fleet", "sensor"]
    budget: str


class Channel(msgspec.Struct, frozen=True):
    """One channel at the incident's latest reading: what came, what was expected, and its share of the score."""

    name: str
    actual: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    contribution: float


class ModelInfo(msgspec.Struct, frozen=True):
    """The weights that said so."""

    name: str
    version: str
    digest: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One step in the life of an incident; all steps of one incident share `alert_id`.

    `kind` says what it is about: an anomaly, a change of regime (more alerts than their cap allows: told once),
    or the data themselves: a sensor silent, a value stuck or missing, a clock skewed, a gap in the state (told once).
    `sensor_id` is the sensor; of `state_gap` it is TOPIC/PARTITION. An incident of a `group` names its `members`,
    those that have taken part so far; `sensor_id` is then the one that opened it.
    `seq` counts the steps from 0. What is told once is `opened` and `resolved` in one. Score, p-value and threshold
    are those of the reading that the step comes with, and null where none does.
    `detected_at` is the only processing time: `detect` leaves it empty and the caller that knows a clock fills it in.
    """

    alert_id: str
    seq: int
    kind: Kind
    event: Event
    status: Literal["firing", "resolved"]
    close_reason: CloseReason | None
    severity: Severity
    sensor_id: str
    group: str | None = None
    members: list[str] = []
    labels: dict[str, str]
    summary: str
    starts_at: str
    ends_at: str | None
    window: Interval
    detected_at: str | None
    score: float | None
    peak_score: float | None
    p_value: float | None
    threshold: Threshold | None
    channels: list[Channel]
    model: ModelInfo | None


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """A person's answer to an alert, complete in itself: whoever applies it needs no look at the alert.

    `starts_at`, `ends_at`, `peak_score` and `model` are the alert's as it stood, `as_of` the event time up to which
    it had been told. `begins` and `ends` bound a maintenance: alerts within are silenced. The same answer to the same
    alert has the same `feedback_id`.
    """

    feedback_id: str
    alert_id: str
    verdict: Verdict
    sensor_id: str
    members: list[str] = []
    starts_at: str | None = None
    ends_at: str | None = None
    peak_score: float | None = None
    model: ModelInfo | None = None
    begins: str | None = None
    ends: str | None = None
    as_of: str | None = None
    note: str | None = None


def format_time(time_ms: int) -> str:
    """RFC 3339 in UTC; milliseconds are shown only where there are any."""
    moment = EPOCH + timedelta(milliseconds=int(time_ms))
    precision = "milliseconds" if time_ms % 1000 else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def format_duration(span_ms: int) -> str:
    """A span in its two largest units: `3 d 4 h`, `12 min 30 s`, `250 ms`."""
    if span_ms < 1_000:
        return f"{span_ms} ms"
    parts, rest = [], span_ms // 1_000
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, rest = divmod(rest, seconds)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2])


def parse_time(text: str) -> int:
    """Milliseconds of an ISO 8601 time; one without a zone is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round((moment - EPOCH) / timedelta(milliseconds=1))


def encode(record: msgspec.Struct) -> bytes:
    """One record as one line of JSON, without the line's end; the same record gives the same bytes."""
    return msgspec.json.encode(record)
