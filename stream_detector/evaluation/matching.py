"""Incidents held against known faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_detector.records import Alert, parse_time
from stream_detector.simulate import Fault


@dataclass(frozen=True, slots=True)
class Matched:
    """delays_ms: for each fault, from its start to the first exceedance inside it, or None where it was missed.

    false_incidents: incidents that touch no fault of their sensor.
    """

    delays_ms: list[int | None]
    false_incidents: int


def match(alerts: Sequence[Alert], faults: Sequence[Fault], grace_ms: int = 0) -> Matched:
    """Hold incidents against faults of the same sensor; they match when their spans overlap.

    An incident still open reaches to the end of time. `grace_ms` lengthens every fault at its end, for effects
    that outlast their cause.
    """
    spans: dict[str, tuple[str, int, float]] = {}
    for alert in alerts:
        end = parse_time(alert.ends_at) if alert.ends_at else float("inf")
        spans[alert.alert_id] = (alert.sensor_id, parse_time(alert.starts_at), end)
    delays: list[int | None] = []
    touched: set[str] = set()
    for fault in faults:
        hits = {
            key: start
            for key, (sensor_id, start, end) in spans.items()
            if sensor_id == fault.sensor_id and start <= fault.end_ms + grace_ms and end >= fault.start_ms
        }
        touched |= hits.keys()
        delays.append(max(min(hits.values()) - fault.start_ms, 0) if hits else None)
    return Matched(delays, len(spans.keys() - touched))
