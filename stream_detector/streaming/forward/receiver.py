"""What all kinds of receivers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stream_detector.records import Alert
from stream_detector.streaming.forward.delivery import DELIVERED, Outcome, Request, post


class Receiver(Protocol):
    """Where alerts go. shown: its address without secrets."""

    kind: str
    shown: str

    def send(self, alert: Alert, before: Alert | None) -> Outcome:
        """Tell one step of an incident; before: the step that the receiver was told last, if any."""

    def renew(self, alerts: Sequence[Alert]) -> Outcome:
        """Tell that these incidents go on, where a receiver must be told again and again."""


def post_all(requests: Sequence[Request], timeout_s: float) -> Outcome:
    """All of them in order, up to the first that is not delivered."""
    for request in requests:
        outcome = post(request, timeout_s)
        if not outcome.delivered:
            return outcome
    return DELIVERED


def attempt(receiver: Receiver, alert: Alert, before: Alert | None) -> Outcome:
    """Tell one step, once; an alert that cannot be put in the receiver's words is refused."""
    try:
        return receiver.send(alert, before)
    except (ValueError, OverflowError) as error:  # a time, say, that another program wrote
        return Outcome(f"the alert cannot be told ({error})", refused=True)
