"""An alert in words that a person reads on a phone."""

from __future__ import annotations

import math
from urllib.parse import quote

from stream_detector.records import Alert, Channel

MOST_CHANNELS = 5
HEADLINES = {"opened": "", "updated": "still: ", "closed": "over: "}


def subject(alert: Alert) -> str:
    """The sensor, or the group, that it is about."""
    return printable(alert.group or alert.sensor_id)


def title(alert: Alert) -> str:
    """One line."""
    return f"[{alert.severity}] {HEADLINES[alert.event]}{printable(alert.summary)}"


def body(alert: Alert, console_url: str) -> str:
    """The rest: since when, how many, what came against what was expected, where to look."""
    lines = [f"since {alert.starts_at}" + (f", until {alert.ends_at}" if alert.ends_at else "")]
    if alert.close_reason:
        lines.append(f"closed: {alert.close_reason.replace('_', ' ')}")
    if alert.group is not None:
        lines.append(f"{len(alert.members)} sensors of {subject(alert)}")
    lines += [_line(one) for one in sorted(alert.channels, key=lambda one: -one.contribution)[:MOST_CHANNELS]]
    lines += [f"{printable(name)}: {printable(value)}" for name, value in alert.labels.items()]
    if console_url:
        lines.append(link(alert, console_url))
    return "\n".join(lines)


def link(alert: Alert, console_url: str) -> str:
    """Where the console shows the incident."""
    return f"{console_url}/incident?id={quote(alert.alert_id, safe='')}"


def printable(text: str) -> str:
    """Text from outside without characters that would break a line or steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _line(channel: Channel) -> str:
    expected = f"{_number(channel.lower)} to {_number(channel.upper)} expected"
    return f"{printable(channel.name)}: {_number(channel.actual)}, {expected}"


def _number(value: float | None) -> str:
    return "nothing" if value is None or not math.isfinite(value) else f"{value:.4g}"
