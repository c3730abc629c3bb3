"""PagerDuty, Events API v2: an incident triggers, and resolves, under its id.

The same id never makes a second incident, so a step that is told twice does no harm. What is told once is resolved as
soon as it was triggered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stream_detector.errors import ConfigError
from stream_detector.records import Alert, format_time, parse_time
from stream_detector.streaming.forward import text
from stream_detector.streaming.forward.delivery import DELIVERED, Outcome, Request, checked, shown
from stream_detector.streaming.forward.receiver import post_all

URL = "https://events.pagerduty.com/v2/enqueue"
LONGEST_SUMMARY = 1024


class PagerDuty:
    """See the module's docstring. key: the routing key of an integration of the kind Events API v2."""

    kind = "pagerduty"

    def __init__(self, url: str, key: str | None, timeout_s: float, console_url: str = "") -> None:
        if not key:
            raise ConfigError(
                "PagerDuty needs the routing key of a service: set forward.pagerduty_key or forward.pagerduty_key_file"
            )
        self._url, self._key, self._timeout_s, self._console_url = checked(url), key, timeout_s, console_url
        self.shown = shown(url)

    def send(self, alert: Alert, before: Alert | None) -> Outcome:
        """See `Receiver.send`."""
        bodies = events(alert, self._key, self._console_url)
        headers = {"Content-Type": "application/json"}
        return post_all([Request(self._url, json.dumps(one).encode(), headers) for one in bodies], self._timeout_s)

    def renew(self, alerts: Sequence[Alert]) -> Outcome:
        """An incident stays open until it is resolved."""
        return DELIVERED


def events(alert: Alert, key: str, console_url: str = "") -> list[dict[str, Any]]:
    """The events that tell this step."""
    resolve = {"routing_key": key, "event_action": "resolve", "dedup_key": alert.alert_id}
    if alert.event == "closed":
        return [resolve]
    trigger: dict[str, Any] = {
        **resolve,
        "event_action": "trigger",
        "client": "stream-detector",
        "payload": _payload(alert),
    }
    if console_url:
        trigger |= {"client_url": console_url, "links": [{"href": text.link(alert, console_url), "text": "console"}]}
    return [trigger, resolve] if alert.status == "resolved" else [trigger]


def _payload(alert: Alert) -> dict[str, Any]:
    return {
        "summary": text.printable(alert.summary)[:LONGEST_SUMMARY] or alert.kind,
        "source": text.subject(alert) or alert.kind,
        "severity": alert.severity,
        "timestamp": format_time(parse_time(alert.starts_at)),
        "component": text.printable(alert.sensor_id),
        "group": text.printable(alert.group or ""),
        "class": alert.kind,
        "custom_details": {"details": text.body(alert, ""), "labels": alert.labels, "score": alert.score},
    }
