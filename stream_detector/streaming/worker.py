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

import gc
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from stream_detector.detect.fleet import Part, Told
from stream_detector.errors import ArtifactError, ConfigError, FencedError, OutsideError
from stream_detector.records import Alert
from stream_detector.settings import Settings
from stream_detector.streaming import watchdog
from stream_detector.streaming.answers import Answers
from stream_detector.streaming.envelope import alert_message
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.gaps import state_gap
from stream_detector.streaming.holdings import Holdings, Step
from stream_detector.streaming.hot_swap import HotSwap
from stream_detector.streaming.intake import Batch, Intake
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.kafka_errors import USURPED
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.shadow import Shadows
from stream_detector.streaming.store import Store
from stream_detector.streaming.store.connection import Patience
from stream_detector.streaming.telemetry import Telemetry
from stream_detector.streaming.transport import Transport
from stream_detector.streaming.worker_numbers import Numbers

logger = logging.getLogger(__name__)
POLL_MS = 50
RECORDS_A_POLL = 5_000
ALIVE_EVERY_S = 1.0
LOOK_EVERY_S = 5.0
PATIENCE = Patience(attempts=2)
"""With the store: a save that got no answer is decided anew, which is sooner done than waited for."""
STEP_S = 0.5
"""About how long a step may take to serve many readings that wait; the first portion may take longer."""
MOST_PORTIONS = 8
MOST_TOGETHER = 4
"""Portions in one, where messages hold several readings."""
GATHERED_BYTES = 64 << 20
BACKOFF_S = (0.2, 10.0)
"""First and longest pause after an error."""
PUT_OUT, PUT_OUT_WITHIN_S = 3, 60.0
"""How often, in how long, another producer takes this worker's place before it is clear that there are two of them."""


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
        self,
        settings: Settings,
        profiles: Profiles,
        checkpoint: Callable[[str], None] = lambda place: None,
        champions: HotSwap | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._settings = settings
        self._champions = champions
        self._profiles = profiles
        self._checkpoint = checkpoint
        self._store = Store(settings.redis, settings.kafka.group_id, PATIENCE)
        self._store.check()
        self._transport = Transport(settings.kafka, settings.worker)
        self._intake = Intake(profiles, settings.kafka, settings.worker)
        self.holdings = Holdings(settings, self._transport, self._store, profiles, self._intake)
        self._answers = Answers(settings.kafka)
        self._portion = settings.worker.batch_size * settings.detector.stride
        self._pace = 0.0
        self._gathered_s = 0.0
        self._alive_s = time.monotonic()
        profiles.pulse = self._keep_alive
        self._put_out_s: list[float] = []
        self.counts = Counts()
        self._telemetry = telemetry or Telemetry()
        self._telemetry.ready = lambda: self.ready
        self._numbers = Numbers(self._telemetry, profiles, settings.worker.batch_size)
        self._shadows = Shadows(settings, profiles, self._numbers)
        if champions:
            champions.also.append(self._shadows.look)
        self._looked_s = 0.0
        self.stopping = False
        self._closed = threading.Event()

    @property
    def ready(self) -> bool:
        """The group has this worker, and all that it was given is claimed."""
        return self.holdings.ready and self._transport.connected

    def stop(self) -> None:
        """End after the step at hand."""
        self.stopping = True

    def run(self) -> None:
        """Step until `stopping` is set; after an error outside, go on as soon as that is mended."""
        failures = 0
        # What is loaded by now stays. To look through it for garbage again and again would double the time of a poll.
        gc.collect()
        gc.freeze()
        watchdog.watch(lambda: self.stopping, self._closed, self._settings.worker.shutdown_timeout_ms)
        try:
            while not self.stopping:
                try:
                    self.step()
                    failures = 0
                except OutsideError as error:
                    failures += 1
                    self._give_way(error)
                    self._recover(error, failures)
        finally:
            self.close()

    def step(self) -> None:
        """Fetch, detect, save, publish: the steps of the module's docstring."""
        timed = self._numbers.timed
        self._telemetry.beat()
        with timed("fetch"):
            fetched = self._gather()
        self._hear()
        self._swap()
        self._look()
        if fetched:
            begin = time.monotonic()
            with timed("decode"):
                batch = self._intake.take(fetched)
            self._checkpoint("fetched")
            with timed("detect"):
                told, windows = self._detect(batch)
            self._checkpoint("scored")
            self._finish(self._steps(batch, told))
            self._numbers.committed(fetched)
            self._count(batch, told, windows)
            self._pace = len(batch.offset) / (time.monotonic() - begin)
        self._bring_back()

    def close(self) -> None:
        """Leave the group, so that others take over at once; if that fails, they do when the session is over."""
        try:
            if self._champions:
                self._champions.close()
            self._answers.close()
            self._transport.close(self._settings.worker.shutdown_timeout_ms)
        except OutsideError as error:
            logger.warning("%s", error)
        self._store.close()
        self._closed.set()

    def _gather(self) -> list[Fetched]:
        """Records of the partitions held, until they make a batch or the first has waited long enough."""
        # Where many wait and the work is quick, one save and one transaction serve more of them.
        full = int(min(max(1.0, self._pace * STEP_S / self._portion), MOST_PORTIONS) * self._portion)
        fetched: list[Fetched] = []
        # What came while the last batch was worked on has waited already.
        wait_s = self._settings.worker.max_wait_ms / 1000
        deadline, latest = self._gathered_s + wait_s, time.monotonic() + wait_s
        while not self.stopping:
            left_ms = round((deadline - time.monotonic()) * 1000)
            asked = min(full - sum(len(one.values) for one in fetched), RECORDS_A_POLL)
            polled = self._transport.poll(min(POLL_MS, max(0, left_ms)) if fetched else POLL_MS, asked)
            self._alive_s = time.monotonic()
            moved = self.holdings.follow()
            if moved:
                self._numbers.rebalances.inc()
            fetched = self.holdings.admit([one for one in fetched + polled if one.partition not in moved])
            if not fetched or sum(len(one.values) for one in fetched) >= full:
                break
            if sum(one.size for one in fetched) >= GATHERED_BYTES:
                break
            # The more there are, the cheaper is each, and those of a backlog have waited for long already. Without one
            # the first of them would wait: on a busy machine new ones come as quickly as they are fetched.
            got = sum(len(one.values) for one in polled)
            more = got >= asked or (got > asked // 2 and self._alive_s < latest)
            if self._alive_s >= deadline and not more:
                break
        self._gathered_s = time.monotonic()
        return fetched

    def _detect(self, batch: Batch) -> tuple[list[tuple[int, Told]], int]:
        """What the batch's readings bring, each with the place of its record, and how many windows were scored.

        So many readings at a time as fit a cache.
        """
        found: list[tuple[int, Told]] = []
        windows = 0
        # Windows that came in one message share their readings, and so more of them fit.
        together = min(MOST_TOGETHER, max(1, int(batch.start[-1]) // len(batch.offset)))
        for begin, parts in batch.portions(self._portion * together):
            told = self._profiles.fleet.step(parts)
            found += [(batch.place(begin + one.position), one) for one in told]
            self._set_aside(batch, begin, parts)
            self._shadows.step()
            for part in parts:
                evidence = self._profiles.fleet.detectors[part.profile].evidence
                windows += len(evidence.due) if evidence else 0
        return found, windows

    def _steps(self, batch: Batch, told: Sequence[tuple[int, Told]]) -> list[Step]:
        """What the batch changes in each partition: alerts and dead letters that were not told before."""
        kafka, now = self._settings.kafka, _now()
        messages: dict[int, list[Message]] = {partition: [] for partition in batch.ends}
        for partition, held in self.holdings.held.items():
            if held.gap and partition in batch.ends:
                gap = state_gap(kafka.readings_topic, batch, partition, held.told_until)
                messages[partition].append(self._message(gap, now))
        for place, one in told:
            if batch.offset[place] >= self.holdings.held[one.partition].told_until:
                messages[one.partition].append(self._message(one.alert, now))
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
        for partition, told, feedback in self._answers.hear(self._profiles.fleet, self.holdings):
            now, held = _now(), self.holdings.held[partition]
            held.feedback.update(feedback)
            messages = [self._message(one.alert, now) for one in told]
            self._finish([Step(partition, held.position, messages)])
            self._shadows.renew()

    def _swap(self) -> None:
        """Go on with new champions, if there are any; all rows are saved with the word of it, in a step of its own."""
        if self._champions is None or self.holdings.waiting:  # all rows are saved with one word of their weights
            return
        for name, artifact in self._champions.ready(self._profiles).items():
            try:
                self._profiles.swap(name, artifact)
            except ArtifactError as error:
                logger.error("the weights %s are refused, the old ones go on: %s", artifact.info.version, error)
                continue
            logger.info("profile %s goes on with the weights %s", name, artifact.info.version)
            self._numbers.swaps.inc()
            self._finish([Step(partition, held.position, []) for partition, held in self.holdings.held.items()])

    def _bring_back(self) -> None:
        """Fetch some of the sensors that are still in the store alone, and tell of those that fell silent meanwhile."""
        for partition in self.holdings.bring_back():
            now, told = _now(), self._profiles.fleet.notice(partition)
            if told:
                messages = [self._message(one.alert, now) for one in told]
                self._finish([Step(partition, self.holdings.held[partition].position, messages)])
                self._shadows.renew()

    def _finish(self, steps: Sequence[Step]) -> None:
        self._checkpoint("before save")
        with self._numbers.timed("save"):
            self.holdings.save(steps, self._profiles.fleet.dirty())
        self._checkpoint("saved")
        with self._numbers.transaction():
            self.holdings.publish(steps)
        self._checkpoint("published")

    def _give_way(self, error: OutsideError) -> None:
        """End where another process has this worker's slot: the two would put each other out without end.

        It takes more than once, because the broker says the same of a transaction that was left open for too long.
        The process that came last is put out last.
        """
        if isinstance(error.__cause__, USURPED):
            now = time.monotonic()
            self._put_out_s = [*(moment for moment in self._put_out_s if now - moment < PUT_OUT_WITHIN_S), now]
            if len(self._put_out_s) >= PUT_OUT:
                raise ConfigError(
                    "another worker with the same worker.slot is at work: this one ends; give each a slot of its own"
                ) from error

    def _recover(self, error: OutsideError, failures: int) -> None:
        """Say what happened, give up what is held, and wait a little longer each time."""
        self.counts.errors += 1
        fenced = isinstance(error, FencedError)
        self._numbers.errors.labels(type(error).__name__).inc()
        if fenced:
            self._numbers.fenced.inc()
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
        """Called now and then while windows are scored: neither group nor probe must take this worker for dead."""
        self._telemetry.beat()
        if time.monotonic() - self._alive_s > ALIVE_EVERY_S:
            self._transport.keep_alive()
            self._alive_s = time.monotonic()

    def _look(self) -> None:
        """Bring the numbers up to date that nobody counts one by one."""
        if time.monotonic() - self._looked_s > LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            self._store.ping()
            self._numbers.look(len(self.holdings.held), self.holdings.waiting, self._lag)

    def _lag(self) -> int:
        """Messages that are not answered for yet, of the partitions held, as far as fetching knows."""
        return sum(self._transport.behind(partition, one.position) for partition, one in self.holdings.held.items())

    def _message(self, alert: Alert, now: str) -> Message:
        """An alert as it is told: detected now."""
        return alert_message(msgspec.structs.replace(alert, detected_at=now), self._settings.kafka.alerts_topic)

    def _count(self, batch: Batch, told: Sequence[tuple[int, Told]], windows: int) -> None:
        self._numbers.count(batch, [one for _, one in told], windows)
        counts = self.counts
        counts.steps += 1
        counts.windows += windows
        counts.readings += sum(len(part.readings) for part in batch.parts)
        counts.alerts += len(told)
        counts.dead_letters += len(batch.rejected)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
