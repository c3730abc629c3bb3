"""What a trainer counts and times. Knows the telemetry's kinds of numbers; nothing of how they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stream_detector.errors import StreamDetectorError
from stream_detector.streaming.history import Recent
from stream_detector.streaming.registry import Line
from stream_detector.streaming.telemetry import Telemetry

MINUTES = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
MEASURED = ("loss", "alarms", "recall")


class TrainerNumbers:
    """The trainer's numbers; all totals are since the process started. holds: whether it has the lease."""

    def __init__(self, telemetry: Telemetry, holds: Callable[[], bool]) -> None:
        telemetry.gauge("trainer_lease", "1 while this trainer has the lease, 0 while it waits").set_function(
            lambda: float(holds())
        )
        self._refreshes = telemetry.counter("trainer_refreshes", "trainings by what became of the weights", "outcome")
        self._failures = telemetry.counter("trainer_failures", "trainings that came to nothing", "kind")
        self._drifts = telemetry.counter("trainer_drifts", "lines of weights whose sensors were seen to drift")
        self._round = telemetry.histogram("trainer_round_seconds", "time of a round of all lines", buckets=MINUTES)
        self._training = telemetry.histogram(
            "trainer_training_seconds", "time to train and judge the weights of one line", buckets=MINUTES
        )
        self._success = telemetry.gauge(
            "trainer_last_success_timestamp_seconds", "when a round last ended without a failure; seconds since 1970"
        )
        self._readings = telemetry.counter("trainer_readings", "readings of the history that were read")
        self._measured = telemetry.gauge(
            "trainer_challenger", "what the latest weights of a line measured", "model", "line", "measure"
        )

    @contextmanager
    def round(self) -> Iterator[None]:
        """Time a round; one that raises has failed."""
        try:
            with self._round.time():
                yield
        except StreamDetectorError as error:
            self.failed(error)
            raise

    @contextmanager
    def training(self) -> Iterator[None]:
        """Time what one line takes."""
        with self._training.time():
            yield

    def done(self, failed: bool) -> None:
        """A round has ended."""
        if not failed:
            self._success.set(time.time())

    def read(self, recent: Recent) -> None:
        """A history was read."""
        self._readings.inc(recent.readings)

    def refreshed(self, line: Line, outcome: str, measured: Mapping[str, Any]) -> None:
        """A line was trained and decided on."""
        self._refreshes.labels(outcome).inc()
        for name in MEASURED:
            if isinstance(value := measured.get(name), int | float):
                self._measured.labels(line.model, line.key, name).set(value)

    def failed(self, error: StreamDetectorError) -> None:
        """A training, or all of a round, came to nothing."""
        self._failures.labels(type(error).__name__).inc()

    def drifted(self) -> None:
        """Drift of a line was told."""
        self._drifts.inc()
