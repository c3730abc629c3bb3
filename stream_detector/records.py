"""What travels between the parts: readings as columns, alerts as records, and their bytes.

Times are int64 milliseconds since 1970-01-01 UTC everywhere inside; on the wire they are RFC 3339 text.
This module knows neither files nor brokers.
"""

from __future__ import annotations

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
Kind: TypeAlias = Literal["anomaly"]
Event: TypeAlias = Literal["opened", "updated", "closed"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Readings:
    """A batch of readings of one profile, as columns in arrival order.

    sensor: (N,) row of each reading's sensor in the detector's table.
    time_ms: (N,) event time.
    values: (N, C) one column a channel; NaN is a missing value, infinities are not allowed.
    """

    sensor: Ints
    time_ms: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.sensor)

    def __getitem__(self, rows: slice) -> Readings:
        return Readings(self.sensor[rows], self.time_ms[rows], self.values[rows])


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

    `seq` counts them from 0. `detected_at` is the only processing time: `detect` leaves it empty and
    the caller that knows a clock fills it in.
    """

    alert_id: str
    seq: int
    kind: Kind
    event: Event
    status: Literal["firing", "resolved"]
    close_reason: str | None
    severity: Severity
    sensor_id: str
    labels: dict[str, str]
    summary: str
    starts_at: str
    ends_at: str | None
    window: Interval
    detected_at: str | None
    score: float
    peak_score: float
    p_value: float
    threshold: Threshold
    channels: list[Channel]
    model: ModelInfo


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
