"""Where a worker's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.worker import Worker


class Stages:
    """Where the time goes: each call's own time, without that of the calls inside it that are watched too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count the time of a method for a stage."""
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self._inside.append(0.0)
            start = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                spent = time.perf_counter() - start
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent - self._inside.pop()
                if self._inside:
                    self._inside[-1] += spent

        setattr(owner, name, timed)

    def watch_worker(self, worker: Worker, profiles: Profiles) -> None:
        """All stages of a worker whose sensors are known."""
        (detector,) = profiles.fleet.detectors.values()
        for owner, name, stage in (
            (worker, "step", "the rest"),
            (worker._transport, "poll", "poll"),
            (worker._intake._decoder, "decode", "decode"),
            (worker._intake, "take", "columns"),
            (profiles.fleet, "step", "buffers, quality"),
            (detector.scorer, "score", "score"),
            (detector.thresholds, "decide", "thresholds"),
            (detector.incidents, "advance", "incidents"),
            (worker.holdings._rows, "changed", "rows"),
            (worker.holdings._store, "save", "Redis"),
            (worker.holdings._store, "trim", "Redis"),
            (worker._transport, "publish", "transaction"),
        ):
            self.watch(owner, name, stage)
