"""Alerts as incidents, and what of a fleet is worth drawing.

It knows the alert record and nothing of HTML or plotly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, get_args

from stream_detector.records import Alert, Severity, parse_time

SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # mildest first
MAX_CHANNELS = 8


@dataclass(frozen=True)
class Incident:
    """One incident; `end_ms` is None while it is open.

    first says what happened, last how it stands. severity is the worst that it reached, shares each channel's largest
    contribution over its life.
    """

    first: Alert
    last: Alert
    severity: Severity
    start_ms: int
    end_ms: int | None
    shares: Mapping[str, float]

    @property
    def rank(self) -> int:
        """Place of the severity; higher is worse."""
        return SEVERITIES.index(self.severity)

    @property
    def badness(self) -> tuple[int, float]:
        """Sort key; higher is worse."""
        return self.rank, self.last.peak_score or 0.0


class Named(Protocol):
    """Anything that belongs to a sensor."""

    @property
    def sensor_id(self) -> str: ...  # noqa: D102


Trace = TypeVar("Trace", bound=Named)


def incidents_of(alerts: Iterable[Alert]) -> list[Incident]:
    """One incident per `alert_id`, the worst first and among equals the earliest."""
    lives: dict[str, list[Alert]] = {}
    for alert in alerts:
        lives.setdefault(alert.alert_id, []).append(alert)
    found = [incident(life) for life in lives.values()]
    return sorted(found, key=lambda one: (-one.rank, one.start_ms, one.last.sensor_id))


def incident(life: Sequence[Alert]) -> Incident:
    """The incident whose steps these are, in any order."""
    last = max(life, key=lambda alert: alert.seq)
    shares: dict[str, float] = {}
    for alert in life:
        for channel in alert.channels:
            shares[channel.name] = max(channel.contribution, shares.get(channel.name, channel.contribution))
    closed = last.event == "closed"
    return Incident(
        first=min(life, key=lambda alert: alert.seq),
        last=last,
        severity=max((alert.severity for alert in life), key=SEVERITIES.index),
        start_ms=parse_time(last.starts_at),
        end_ms=parse_time(last.ends_at or last.window.end) if closed else None,
        shares=shares,
    )


def by_sensor(incidents: Iterable[Incident]) -> dict[str, list[Incident]]:
    """The incidents of each sensor, in the order given."""
    found: dict[str, list[Incident]] = {}
    for one in incidents:
        found.setdefault(one.last.sensor_id, []).append(one)
    return found


def worst_first(traces: Iterable[Trace], incidents: Iterable[Incident]) -> list[Trace]:
    """Sensors with the worst incidents first; those without any keep their order at the end."""
    worst = {sensor: max(one.badness for one in found) for sensor, found in by_sensor(incidents).items()}
    return sorted(traces, key=lambda trace: worst.get(trace.sensor_id, (-1, 0.0)), reverse=True)


def choose_channels(channels: Sequence[str], incidents: Iterable[Incident]) -> tuple[list[int], list[int]]:
    """Columns to draw and columns left out.

    A few channels all stay, in their order; of many, those that contributed most to the incidents.
    """
    columns = list(range(len(channels)))
    if len(channels) <= MAX_CHANNELS:
        return columns, []
    total = dict.fromkeys(channels, 0.0)
    for one in incidents:
        for name, share in one.shares.items():
            total[name] = total.get(name, 0.0) + share
    columns.sort(key=lambda column: total[channels[column]], reverse=True)
    return columns[:MAX_CHANNELS], columns[MAX_CHANNELS:]
