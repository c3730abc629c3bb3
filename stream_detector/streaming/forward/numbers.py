"""What a process of forwarders counts, by receiver."""

from __future__ import annotations

from stream_detector.streaming.telemetry import Telemetry


class Numbers:
    """All totals are since the process started; a receiver is called by its name, which holds no secret."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._delivered = telemetry.counter("forward_delivered", "steps of incidents that were delivered", "receiver")
        self._retried = telemetry.counter("forward_retries", "attempts that failed and are made again", "receiver")
        self._undelivered = telemetry.counter("forward_undelivered", "steps that were given up, and kept", "receiver")
        self._behind = telemetry.gauge("forward_behind_messages", "alerts that wait for a receiver", "receiver")

    def delivered(self, receiver: str) -> None:
        """A step was taken."""
        self._delivered.labels(receiver).inc()

    def retried(self, receiver: str) -> None:
        """An attempt failed."""
        self._retried.labels(receiver).inc()

    def undelivered(self, receiver: str) -> None:
        """A step was given up."""
        self._undelivered.labels(receiver).inc()

    def behind(self, receiver: str, messages: int) -> None:
        """So many wait."""
        self._behind.labels(receiver).set(messages)
