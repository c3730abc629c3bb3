"""Where a worker's time goes, measured from outside: the worker itself is what runs in production."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from stream_detector.streaming.intake import Intake
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.worker import Worker


class Stages:
    """Each watched call's own time, without that of the watched calls inside it: together they are all of the time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count the time of a method for a stage."""
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self._inside.append(0.0)
            start = self._clock()
            try:
                return original(*arguments, **options)
            finally:
                spent = self._clock() - start
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent - self._inside.pop()
                if self._inside:
                    self._inside[-1] += spent

        setattr(owner, name, timed)

    def watch_worker(self, worker: Worker, profiles: Profiles) -> None:
        """All stages of a worker whose sensors are known."""
        self.watch_core(worker._intake, profiles)
        for owner, name, stage in (
            (worker, "step", "rest"),
            (worker._transport, "poll", "poll"),
            (worker.holdings._rows, "changed", "store"),
            (worker.holdings._store, "save", "store"),
            (worker.holdings._store, "trim", "store"),
            (worker._transport, "publish", "publish"),
        ):
            self.watch(owner, name, stage)

    def watch_core(self, intake: Intake, profiles: Profiles) -> None:
        """The stages that need no broker and no store."""
        self.watch(intake, "take", "decode")
        self.watch(profiles.fleet, "step", "buffers")
        for detector in profiles.fleet.detectors.values():
            self.watch(detector.scorer, "score", "score")
            self.watch(detector.thresholds, "decide", "threshold")
            self.watch(detector.incidents, "advance", "incidents")
