"""Webhooks: the alert as a CloudEvent in structured mode, signed as standardwebhooks.com has it.

The signature is HMAC-SHA256 over `ID.TIMESTAMP.BODY`; id and time stand in headers, so that a receiver can tell a step
that it has had, and one that somebody plays back to it later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence

from stream_detector.errors import ConfigError
from stream_detector.records import Alert
from stream_detector.streaming.envelope import alert_message
from stream_detector.streaming.forward.delivery import DELIVERED, Outcome, Request, checked, post, shown

PREFIX = "whsec_"
"""A secret that begins so is base64 of the key; any other is the key."""


class Webhook:
    """See the module's docstring. secret None: nothing is signed."""

    kind = "webhook"

    def __init__(self, url: str, secret: str | None, timeout_s: float, clock: Callable[[], float] = time.time) -> None:
        self._url, self._timeout_s, self._clock = checked(url), timeout_s, clock
        self._key = key_of(secret) if secret else None
        self.shown = shown(url)

    def send(self, alert: Alert, before: Alert | None) -> Outcome:
        """See `Receiver.send`."""
        body, headers = event(alert), {"Content-Type": "application/cloudevents+json; charset=utf-8"}
        if self._key is not None:
            headers |= signature(self._key, f"{alert.alert_id}.{alert.seq}", int(self._clock()), body)
        return post(Request(self._url, body, headers), self._timeout_s)

    def renew(self, alerts: Sequence[Alert]) -> Outcome:
        """Each step is told once."""
        return DELIVERED


def event(alert: Alert) -> bytes:
    """The CloudEvent with its data."""
    message = alert_message(alert, topic="")
    attributes = {name.removeprefix("ce_"): value.decode() for name, value in message.headers}
    attributes["datacontenttype"] = attributes.pop("content-type")
    return json.dumps({**attributes, "data": json.loads(message.value or b"null")}, ensure_ascii=False).encode()


def signature(key: bytes, number: str, time_s: int, body: bytes) -> dict[str, str]:
    """The headers that sign a body."""
    digest = hmac.new(key, f"{number}.{time_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": number,
        "webhook-timestamp": str(time_s),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def key_of(secret: str) -> bytes:
    """The key that a secret stands for; raises ConfigError, which does not show it."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ConfigError(f"forward.webhook_secret begins with {PREFIX} but is not base64 behind it") from None
