"""The worker: readings from Kafka, state in Redis, alerts back to Kafka, each exactly once.

One step:

1. Fetch until a batch is full or has waited long enough. What the group takes away meanwhile is let go of, what it
   gives is claimed (`holdings` has the cases).
2. Decode to columns; append, score, decide (`detect`). Nothing is written yet.
3. Save the sensors' rows, the next offset and an outbox of final messages: one atomic script a partition, refused if
   another worker has claimed it.
4. One Kafka transaction: the outbox's messages and the offsets. Then the outbox is emptied.

A crash before 3 leaves nothing: the readings are read again. A crash between 3 and 4 leaves an outbox that the next
owner tells. After an error of a broker or a store the worker forgets what it holds and claims it anew: there is one
way back, and it is the one that is taken after every crash.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from stream_detector.detect.fleet import Part, Told
from stream_detector.errors import FencedError, OutsideError
from stream_detector.records import Alert
from stream_detector.settings import Settings
from stream_detector.streaming.answers import Answers
from stream_detector.streaming.envelope import alert_message
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.gaps import state_gap
from stream_detector.streaming.holdings import Holdings, Step
from stream_detector.streaming.intake import Batch, Intake
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.store import Store
from stream_detector.streaming.transport import Transport

logger = logging.getLogger(__name__)
POLL_MS = 50
RECORDS_A_POLL = 5_000
ALIVE_EVERY_S = 1.0
STEP_S = 0.5
"""About how long a step may take to serve many readings that wait; the first portion may take longer."""
MOST_PORTIONS = 8
GATHERED_BYTES = 64 << 20
BACKOFF_S = (0.2, 10.0)
"""First and longest pause after an error."""


@dataclass
class Counts:
    """What the worker has done since it started."""

    readings: int = 0
    windows: int = 0
    alerts: int = 0
    dead_letters: int = 0
    steps: int = 0
    errors: int = 0


class Worker:
    """See the module's docstring. `checkpoint` is called by name at each place of a step, for tests that stop it."""

    def __init__(
        self, settings: Settings, profiles: Profiles, checkpoint: Callable[[str], None] = lambda place: None
    ) -> None:
        self._settings = settings
        self._profiles = profiles
        self._checkpoint = checkpoint
        self._store = Store(settings.redis, settings.kafka.group_id)
        self._store.check()
        self._transport = Transport(settings.kafka, settings.worker)
        self._intake = Intake(profiles, settings.kafka, settings.worker)
        self.holdings = Holdings(settings, self._transport, self._store, profiles, self._intake)
        self._answers = Answers(settings.kafka)
        self._portion = settings.worker.batch_size * settings.detector.stride
        self._pace = 0.0
        self._alive_s = time.monotonic()
        profiles.pulse = self._keep_alive
        self.counts = Counts()
        self.stopping = False

    @property
    def ready(self) -> bool:
        """The group has this worker, and all that it was given is claimed."""
        return self.holdings.ready and self._transport.connected

    def run(self) -> None:
        """Step until `stopping` is set; after an error outside, go on as soon as that is mended."""
        failures = 0
        try:
            while not self.stopping:
                try:
                    self.step()
                    failures = 0
                except OutsideError as error:
                    failures += 1
                    self._recover(error, failures)
        finally:
            self.close()

    def step(self) -> None:
        """Fetch, detect, save, publish: the steps of the module's docstring."""
        fetched = self._gather()
        self._hear()
        if fetched:
            begin = time.monotonic()
            batch = self._intake.take(fetched)
            self._checkpoint("fetched")
            told = self._detect(batch)
            self._checkpoint("scored")
            self._finish(self._steps(batch, told))
            self._count(batch, told)
            self._pace = len(batch.offset) / (time.monotonic() - begin)

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._answers.close()
        self._transport.close(self._settings.worker.shutdown_timeout_ms)
        self._store.close()

    def _gather(self) -> list[Fetched]:
        """Records of the partitions held, until they make a batch or the first has waited long enough."""
        # Where many wait and the work is quick, one save and one transaction serve more of them.
        full = int(min(max(1.0, self._pace * STEP_S / self._portion), MOST_PORTIONS) * self._portion)
        fetched: list[Fetched] = []
        deadline: float | None = None
        while not self.stopping:
            now = time.monotonic()
            wait_ms = POLL_MS if deadline is None else min(POLL_MS, max(0, round((deadline - now) * 1000)))
            room = full - sum(len(one.values) for one in fetched)
            fetched += self._transport.poll(wait_ms, min(room, RECORDS_A_POLL))
            self._alive_s = time.monotonic()
            moved = self.holdings.follow()
            fetched = self._held_only([one for one in fetched if one.partition not in moved])
            if not fetched or sum(len(one.values) for one in fetched) >= full:
                break
            if sum(one.size for one in fetched) >= GATHERED_BYTES:
                break
            deadline = deadline or self._alive_s + self._settings.worker.max_wait_ms / 1000
            if self._alive_s >= deadline:
                break
        return fetched

    def _held_only(self, fetched: Sequence[Fetched]) -> list[Fetched]:
        """Without what the group took away while it was gathered, and without what is in the state already."""
        kept = []
        for one in fetched:
            held = self.holdings.held.get(one.partition)
            if held is not None:
                new = one.since(held.position)
                kept += [new] if len(new.values) else []
        return kept

    def _detect(self, batch: Batch) -> list[tuple[int, Told]]:
        """What the batch's readings bring, each with the place of its record; so many at a time as fit a cache."""
        found: list[tuple[int, Told]] = []
        for begin, parts in batch.portions(self._portion):
            told = self._profiles.fleet.step(parts)
            found += [(batch.place(begin + one.position), one) for one in told]
            self._set_aside(batch, begin, parts)
            for part in parts:
                evidence = self._profiles.fleet.detectors[part.profile].evidence
                self.counts.windows += len(evidence.due) if evidence else 0
        return found

    def _steps(self, batch: Batch, told: Sequence[tuple[int, Told]]) -> list[Step]:
        """What the batch changes in each partition: alerts and dead letters that were not told before."""
        kafka = self._settings.kafka
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        messages: dict[int, list[Message]] = {partition: [] for partition in batch.ends}
        for partition, held in self.holdings.held.items():
            if held.gap and partition in batch.ends:
                gap = state_gap(kafka.readings_topic, batch, partition, held.told_until)
                messages[partition].append(alert_message(_detected(gap, now), kafka.alerts_topic))
        for place, one in told:
            if batch.offset[place] >= self.holdings.held[one.partition].told_until:
                messages[one.partition].append(alert_message(_detected(one.alert, now), kafka.alerts_topic))
        for partition, offset, letter in batch.dead_letters(kafka):
            if offset >= self.holdings.held[partition].told_until:
                messages[partition].append(letter)
        return [Step(partition, end, messages[partition]) for partition, end in batch.ends.items()]

    def _set_aside(self, batch: Batch, begin: int, parts: Sequence[Part]) -> None:
        """Readings whose time cannot be believed become dead letters; begin: where in the batch the parts do."""
        for part in parts:
            aside = self._profiles.fleet.detectors[part.profile].set_aside
            if aside is not None:
                for position in part.position[aside].tolist():
                    batch.rejected.setdefault(
                        batch.place(begin + position),
                        f"far-future: a reading is dated more than {self._settings.quality.clock_ahead} after it "
                        f"arrived (quality.clock_ahead): set the sensor's clock",
                    )

    def _hear(self) -> None:
        """Take people's answers in, each in a step of its own."""
        for partition, told, feedback in self._answers.hear(self._profiles.fleet, self.holdings.held):
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            topic = self._settings.kafka.alerts_topic
            held = self.holdings.held[partition]
            held.feedback.update(feedback)
            messages = [alert_message(_detected(one.alert, now), topic) for one in told]
            self._finish([Step(partition, held.position, messages)])

    def _finish(self, steps: Sequence[Step]) -> None:
        self._checkpoint("before save")
        self.holdings.save(steps, self._profiles.fleet.dirty())
        self._checkpoint("saved")
        self.holdings.publish(steps)
        self._checkpoint("published")

    def _recover(self, error: OutsideError, failures: int) -> None:
        """Say what happened, give up what is held, and wait a little longer each time."""
        self.counts.errors += 1
        fenced = isinstance(error, FencedError)
        logger.log(logging.INFO if fenced else logging.WARNING, "%s", error)
        self.holdings.reclaim()
        pause = 0.0 if fenced and failures < 3 else min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** min(failures, 10))
        self._wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
        try:
            self._transport.reset()
        except OutsideError as still:
            logger.info("%s", still)

    def _wait(self, pause_s: float) -> None:
        """Pause, and stay in the group meanwhile."""
        until = time.monotonic() + pause_s
        while time.monotonic() < until and not self.stopping:
            try:
                self._transport.keep_alive()
            except OutsideError as error:
                logger.info("%s", error)
            time.sleep(POLL_MS / 1000)

    def _keep_alive(self) -> None:
        """Called now and then while windows are scored: the group must not take this worker for dead."""
        if time.monotonic() - self._alive_s > ALIVE_EVERY_S:
            self._transport.keep_alive()
            self._alive_s = time.monotonic()

    def _count(self, batch: Batch, told: Sequence[object]) -> None:
        counts = self.counts
        counts.steps += 1
        counts.readings += sum(len(part.readings) for part in batch.parts)
        counts.alerts += len(told)
        counts.dead_letters += len(batch.rejected)


def _detected(alert: Alert, now: str) -> Alert:
    return msgspec.structs.replace(alert, detected_at=now)
