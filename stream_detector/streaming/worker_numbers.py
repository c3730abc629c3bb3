"""What a worker counts and times. Knows the telemetry's kinds of numbers; nothing of how they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stream_detector.detect.fleet import Told
from stream_detector.records import parse_time
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.intake import Batch
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.telemetry import SHARES, STAGES, Telemetry

DELAYS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Numbers:
    """The worker's numbers; all totals are since the process started."""

    def __init__(self, telemetry: Telemetry, profiles: Profiles, batch_size: int) -> None:
        self._telemetry, self._profiles, self._batch_size = telemetry, profiles, batch_size
        self.readings = telemetry.counter("readings", "readings taken in")
        self.windows = telemetry.counter("windows", "windows scored")
        self.alerts = telemetry.counter("alerts", "alerts told", "kind", "event", "severity")
        self.dead_letters = telemetry.counter("dead_letters", "messages that could not be used", "reason")
        self.late = telemetry.counter("late_readings", "readings out of order that took their place")
        self.too_late = telemetry.counter("too_late_readings", "readings older than everything held of their sensor")
        self.duplicates = telemetry.counter("duplicate_readings", "readings that repeat a time of their sensor")
        self.steps = telemetry.counter("steps", "batches finished")
        self.errors = telemetry.counter("errors", "errors of broker or store that the worker came back from", "kind")
        self.rebalances = telemetry.counter("rebalances", "times that the group gave or took partitions")
        self.swaps = telemetry.counter("swaps", "times that weights were swapped for others")
        self.shadow_windows = telemetry.counter("shadow_windows", "windows scored by a challenger beside")
        self.shadow_alerts = telemetry.counter(
            "shadow_alerts",
            "anomalies that open in those windows, by the challenger or the champion",
            "weights",
        )
        self.fenced = telemetry.counter("fenced", "times that another worker had taken over what this one held")
        self.transactions = telemetry.counter(
            "transactions", "transactions of alerts and offsets, by how they ended", "outcome"
        )
        self.stage = telemetry.histogram(
            "stage_seconds",
            "time of a step by stage: save is the round trip to Redis, publish the transaction",
            "stage",
        )
        self.delay = telemetry.histogram(
            "delay_seconds", "from the broker's taking in of a batch's oldest message to its commit", buckets=DELAYS
        )
        self.fill = telemetry.histogram("batch_fill", "windows of a batch by batch size", buckets=SHARES)
        self.lag = telemetry.gauge("lag_messages", "messages not answered for yet, of the partitions held")
        self.event_lag = telemetry.gauge("event_lag_seconds", "now less the newest reading's time")
        self.sensors = telemetry.gauge("sensors", "sensors held")
        self.open = telemetry.gauge("open_incidents", "anomalies open")
        self.partitions = telemetry.gauge("partitions", "partitions held")
        self.model = telemetry.gauge("model_info", "weights in use", "model", "version")
        self.model_age = telemetry.gauge("model_age_seconds", "time since weights in use were made", "model", "version")
        for stage in STAGES:
            self.stage.labels(stage)
        for outcome in ("committed", "aborted"):
            self.transactions.labels(outcome)
        self._buffers = (0, 0, 0)
        self._models: set[tuple[str, str]] = set()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage of a step."""
        with self.stage.labels(stage).time():
            yield

    def count(self, batch: Batch, told: Sequence[Told], windows: int) -> None:
        """A batch is finished; windows: those that were scored for it."""
        self.steps.inc()
        self.readings.inc(sum(len(part.readings) for part in batch.parts))
        self.windows.inc(windows)
        self.fill.observe(windows / self._batch_size)
        for one in told:
            self.alerts.labels(one.alert.kind, one.alert.event, one.alert.severity).inc()
        for reason in batch.rejected.values():
            self.dead_letters.labels(reason.partition(":")[0]).inc()
        self._count_buffers()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Time a transaction, and count how it ends; what is not known to be committed counts as aborted."""
        outcome = "aborted"
        try:
            with self.timed("publish"):
                yield
            outcome = "committed"
        finally:
            self.transactions.labels(outcome).inc()

    def committed(self, fetched: Sequence[Fetched]) -> None:
        """What the messages of a batch bring is told."""
        oldest_ms = min((int(one.timestamps_ms[0]) for one in fetched if len(one.timestamps_ms)), default=None)
        if oldest_ms is not None:
            self.delay.observe(max(0.0, time.time() - oldest_ms / 1000))

    def look(self, partitions: int, waiting: int, lag: Callable[[], int]) -> None:
        """Bring what goes up and down up to date; seldom, since it looks at every sensor.

        waiting: sensors whose state is still in the store alone.
        """
        detectors = self._profiles.fleet.detectors.values()
        self.partitions.set(partitions)
        self.sensors.set(waiting + sum(len(d.table) for d in detectors))
        self.open.set(sum(int((d.table.state["in_open"] > 0).sum()) for d in detectors))
        self.lag.set(lag())
        if newest := max(self._profiles.fleet.watermarks.of.values(), default=None):
            self.event_lag.set(time.time() - newest / 1000)
        made = {(d.writer.model.name, d.writer.model.version): d.artifact.created for d in detectors}
        for gone in self._models - made.keys():
            self.model.remove(*gone)
            self.model_age.remove(*gone)
        for model, created in made.items():
            self.model.labels(*model).set(1)
            # What needs no training was never made, and is never old.
            self.model_age.labels(*model).set(time.time() - parse_time(created) / 1000 if created else 0.0)
        self._models = set(made)

    def _count_buffers(self) -> None:
        counts = [d.buffers.counts for d in self._profiles.fleet.detectors.values()]
        now = (sum(c.late for c in counts), sum(c.too_late for c in counts), sum(c.duplicate for c in counts))
        for counter, after, before in zip((self.late, self.too_late, self.duplicates), now, self._buffers, strict=True):
            counter.inc(max(0, after - before))
        self._buffers = now
