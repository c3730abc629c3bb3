"""Chat, mail, SMS and whatever else Apprise speaks to (https://appriseit.com), as a message for people.

Apprise says whether a service took a message, not why it did not: every failure is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stream_detector.errors import ConfigError
from stream_detector.records import Alert
from stream_detector.streaming.forward import text
from stream_detector.streaming.forward.delivery import DELIVERED, Outcome, shown

LEVELS = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}


class Chat:
    """See the module's docstring; `updated` steps are told only where the severity has risen."""

    kind = "apprise"

    def __init__(self, url: str, console_url: str = "") -> None:
        try:
            import apprise
        except ImportError as error:
            raise ConfigError(
                "forwarding to apprise needs a package that is not installed: pip install 'stream-detector[forward]'"
            ) from error
        self.shown = shown(url)
        self._console_url = console_url
        self._service: Any = apprise.Apprise()
        if not self._service.add(url):
            raise ConfigError(f"Apprise does not know {self.shown!r}: see https://appriseit.com/services for addresses")

    def send(self, alert: Alert, before: Alert | None) -> Outcome:
        """See `Receiver.send`."""
        if alert.event == "updated" and before is not None and before.severity == alert.severity:
            return DELIVERED
        level = "success" if alert.event == "closed" else LEVELS[alert.severity]
        taken = self._service.notify(
            text.body(alert, self._console_url), text.title(alert), notify_type=level, body_format="text"
        )
        return DELIVERED if taken else Outcome("the service did not take the message")

    def renew(self, alerts: Sequence[Alert]) -> Outcome:
        """People are told once."""
        return DELIVERED
