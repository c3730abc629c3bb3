"""The kinds of receivers, by name."""

from __future__ import annotations

from collections.abc import Sequence

from stream_detector.errors import ConfigError
from stream_detector.settings import ForwardSettings, parse_duration
from stream_detector.streaming.forward import pagerduty
from stream_detector.streaming.forward.alertmanager import Alertmanager
from stream_detector.streaming.forward.chat import Chat
from stream_detector.streaming.forward.pagerduty import PagerDuty
from stream_detector.streaming.forward.receiver import Receiver
from stream_detector.streaming.forward.webhook import Webhook

KINDS = (Alertmanager.kind, PagerDuty.kind, Webhook.kind, Chat.kind)


def addresses(kind: str, given: Sequence[str], settings: ForwardSettings) -> list[str]:
    """Where to: what was given, else what settings say, else what the kind has; raises ConfigError for nothing."""
    if given:
        return list(given)
    found = (settings.secret("urls") or "").split()
    if not found and kind == PagerDuty.kind:
        return [pagerduty.URL]
    if not found:
        raise ConfigError(
            f"say to which {kind}: give its URL, or set forward.urls_file to a file that holds it, if it is secret"
        )
    return found


def build(kind: str, url: str, settings: ForwardSettings) -> Receiver:
    """The receiver at an address; raises ConfigError where something that it needs is missing or wrong."""
    timeout_s, link = parse_duration(settings.timeout) / 1000, settings.console_url
    if kind == Alertmanager.kind:
        return Alertmanager(url, timeout_s, link)
    if kind == PagerDuty.kind:
        return PagerDuty(url, settings.secret("pagerduty_key"), timeout_s, link)
    if kind == Webhook.kind:
        return Webhook(url, settings.secret("webhook_secret"), timeout_s)
    return Chat(url, link)
