"""A worker that kills itself: `python -m tests.integration.crashing KAFKA REDIS TOPIC GROUP WEIGHTS PLACE COUNT`.

At the COUNT-th time that it comes to PLACE it sends itself SIGKILL: no handler runs, nothing is flushed. Places are the
checkpoints of a step, and inside a transaction `sending` (before the first message), `sent` (messages are at the
broker), `answered` (the offsets too) and `committed` (before the outbox is emptied). PLACE `never` works until stopped.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from tests.integration.streams import settings_for

PLACES = (
    "fetched",
    "scored",
    "before save",
    "saved",
    "sending",
    "sent",
    "answered",
    "committed",
    "published",
)


class Killer:
    """Counts the times that a place is come to, and ends the process at one of them."""

    def __init__(self, place: str, count: int) -> None:
        self.place, self.left = place, count

    def __call__(self, place: str) -> None:
        """The worker comes to a place."""
        if place == self.place:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def patch_producer(self) -> None:
        """Look into transactions as well."""
        self._before("begin_transaction", "sending")
        self._before("send_offsets_to_transaction", "sent", flush=True)
        self._before("commit_transaction", "answered", then="committed")

    def _before(self, name: str, place: str, flush: bool = False, then: str = "") -> None:
        original = getattr(KafkaProducer, name)

        def patched(producer: Any, *arguments: Any, **options: Any) -> Any:
            if flush:
                producer.flush()
            self(place)
            result = original(producer, *arguments, **options)
            self(then)
            return result

        setattr(KafkaProducer, name, patched)


def main() -> None:
    """Work, and die at the place."""
    kafka, redis_url, topic, group, directory, place, count = sys.argv[1:8]
    made = {("value",): Path(directory) / "value", ("a", "b"): Path(directory) / "a-b"}
    killer = Killer(place, int(count))
    killer.patch_producer()
    settings = settings_for(kafka, redis_url, topic, made, group=group, slot=sys.argv[8] if sys.argv[8:] else "a")
    worker = Worker(settings, Profiles(settings, Weights(settings.detector.window).artifact), killer)

    def stop(*_: object) -> None:
        worker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    worker.run()


if __name__ == "__main__":
    main()
