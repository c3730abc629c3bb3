"""A worker that kills itself late: `python -m tests.benchmarks.dying KAFKA REDIS TOPIC GROUP WEIGHTS PLACE READINGS`.

The first time that it comes to PLACE after it has taken in so many readings, it sends itself SIGKILL.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from tests.integration.crashing import Killer
from tests.integration.streams import settings_for


class LateKiller(Killer):
    """Counts nothing until the worker has taken in so many readings."""

    worker: Worker | None = None

    def __init__(self, place: str, readings: int) -> None:
        super().__init__(place, 1)
        self.readings = readings

    def __call__(self, place: str) -> None:
        """The worker comes to a place."""
        if self.worker is not None and self.worker.counts.readings >= self.readings:
            super().__call__(place)


def main() -> None:
    """Work, and die at the place."""
    kafka, redis_url, topic, group, directory, place, readings = sys.argv[1:]
    made = {("value",): Path(directory) / "value", ("a", "b"): Path(directory) / "a-b"}
    killer = LateKiller(place, int(readings))
    killer.patch_producer()
    settings = settings_for(kafka, redis_url, topic, made, group=group)
    killer.worker = Worker(settings, Profiles(settings, Weights(settings.detector.window).artifact), killer)
    killer.worker.run()


if __name__ == "__main__":
    main()
