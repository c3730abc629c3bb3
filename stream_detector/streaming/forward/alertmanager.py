"""Alertmanager, API v2 (`POST /api/v2/alerts`): incidents as alerts that it groups, silences and routes.

Labels are what an alert is: its kind, the sensor or group, the labels from the settings, and the severity, because
routes ask for it. They stay the same for the life of an incident, but for a severity that rises: the alert of the
former severity then ends in the request that begins the other. What changes stands in annotations. Alertmanager
takes an alert for over when it hears nothing of it for `resolve_timeout` (5 minutes), so what goes on is told again
and again. Its times are of the clock: an incident of readings that are dated in the future begins and ends now.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from stream_detector.records import Alert, format_time, parse_time
from stream_detector.streaming.forward import text
from stream_detector.streaming.forward.delivery import DELIVERED, Outcome, Request, checked, post, shown

PATH = "/api/v2/alerts"
OWN = ("alertname", "sensor_id", "group", "severity")
"""Labels of ours: a label of the settings with such a name gets `label_` before it."""
NO_NAME = re.compile(r"[^a-zA-Z0-9_]")
ONCE = timedelta(minutes=5)
"""What is told once, and has no end, stands for so long."""
MOST_AT_ONCE = 100


class Alertmanager:
    """See the module's docstring. url: without the path. clock: the time now."""

    kind = "alertmanager"

    def __init__(
        self, url: str, timeout_s: float, console_url: str = "", clock: Callable[[], datetime] | None = None
    ) -> None:
        self._url, self._timeout_s, self._console_url = checked(url).rstrip("/"), timeout_s, console_url
        self._clock = clock or (lambda: datetime.now(UTC))
        self.shown = shown(url)

    def send(self, alert: Alert, before: Alert | None) -> Outcome:
        """See `Receiver.send`."""
        now = self._clock()
        told = [posted(alert, now, self._console_url)]
        if before is not None and labels(before) != labels(alert):
            told.insert(0, {**posted(before, now, self._console_url), "endsAt": _rfc3339(now)})
        return self._post(told)

    def renew(self, alerts: Sequence[Alert]) -> Outcome:
        """See `Receiver.renew`."""
        now = self._clock()
        for first in range(0, len(alerts), MOST_AT_ONCE):
            part = alerts[first : first + MOST_AT_ONCE]
            outcome = self._post(posted(one, now, self._console_url) for one in part)
            if not outcome.delivered:
                return outcome
        return DELIVERED

    def _post(self, told: Iterable[dict[str, Any]]) -> Outcome:
        body = json.dumps(list(told)).encode()
        return post(Request(self._url + PATH, body, {"Content-Type": "application/json"}), self._timeout_s)


def labels(alert: Alert) -> dict[str, str]:
    """What the alert is, with names as Alertmanager takes them."""
    subject = {"sensor_id": alert.sensor_id} if alert.group is None else {"group": alert.group}
    found = {"alertname": alert.kind, **subject, "severity": alert.severity}
    for name, value in alert.labels.items():
        plain = NO_NAME.sub("_", name)
        plain = f"label_{plain}" if plain in OWN or not plain or plain[0].isdigit() else plain
        found.setdefault(plain, value)
    return {name: value for name, value in found.items() if value}


def posted(alert: Alert, now: datetime, console_url: str = "") -> dict[str, Any]:
    """The alert as Alertmanager takes it (`postableAlert`)."""
    begins = min(parse_time(alert.starts_at), _ms(now))
    annotations = {
        "summary": text.printable(alert.summary),
        "description": text.body(alert, ""),
        "alert_id": alert.alert_id,
    }
    found: dict[str, Any] = {"labels": labels(alert), "annotations": annotations, "startsAt": format_time(begins)}
    if alert.event == "closed":
        ends = min(parse_time(alert.ends_at or alert.window.end), _ms(now))
        found["endsAt"] = format_time(max(ends, begins))
    elif alert.status == "resolved":
        found["endsAt"] = _rfc3339(now + ONCE)
    if console_url:
        found["generatorURL"] = text.link(alert, console_url)
    return found


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _rfc3339(moment: datetime) -> str:
    return format_time(_ms(moment))
