"""The trainer: weights that refresh themselves, from what workers read.

One round:

1. Hold the lease: one trainer at a time. It is renewed all along, and every write names it.
2. Read recent history (`history`), without disturbing anyone.
3. For each line of weights: train a challenger and decide on it (`refresh`), keep it with its decision, promote it if
   it passed and settings say so, or have workers try it beside the champion, and tell it on the topic of events.

What goes wrong with one line is said, and the next line's turn comes. Rounds follow at an interval, and sooner where
nothing was learned yet (`rhythm`). Between them the trials of shadows end when enough was counted (`shadow_verdict`),
and the latest readings are held against what the weights know: drift brings the next round of its lines forward, once
an interval. A trainer that is stopped in the middle leaves nothing half-written, and goes on where it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from stream_detector.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    FencedError,
    OutsideError,
    StreamDetectorError,
    TransportError,
)
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings, parse_duration
from stream_detector.streaming import history, profiles
from stream_detector.streaming.events import Events
from stream_detector.streaming.history import Recent
from stream_detector.streaming.lease import WAIT_S, Lease
from stream_detector.streaming.refresh import InUse, Refreshed, latest, refresh
from stream_detector.streaming.registry import Line, Registry
from stream_detector.streaming.rhythm import Next, Rhythm
from stream_detector.streaming.shadow_verdict import Trials
from stream_detector.streaming.telemetry import Telemetry
from stream_detector.streaming.topic_reader import TopicReader
from stream_detector.streaming.trainer_numbers import TrainerNumbers
from stream_detector.training import drift
from stream_detector.training.fit import Progress
from stream_detector.training.sample import History
from stream_detector.training.transfer import aligned

logger = logging.getLogger(__name__)
DRIFT_READINGS = 20_000
TRIALS_EVERY_S = 5.0
BROKER_EVERY_S = 30.0
"""Between rounds nothing is read for hours: the broker is asked so often whether it is there, for /readyz."""
Bars = Callable[[], AbstractContextManager[Callable[[str], Progress]]]
"""For one round: progress, by the name of the work."""


@dataclass
class Round:
    """What became of each line. failed: the error of those that could not be refreshed."""

    outcome: dict[Line, str] = field(default_factory=dict)
    failed: dict[Line, StreamDetectorError] = field(default_factory=dict)


class Trainer:
    """See the module's docstring."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        bars: Bars,
        clock: Callable[[], float] = time.time,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._settings, self._registry, self._bars, self._clock = settings, registry, bars, clock
        self._in_use = InUse(registry, settings)
        self._device = profiles.device(settings.detector.device)
        self._interval_ms = parse_duration(settings.trainer.interval)
        self._rhythm = Rhythm(self._interval_ms / 1000, clock)
        telemetry = telemetry or Telemetry()
        telemetry.ready = lambda: self.ready
        self._lease = Lease(registry, telemetry.beat)
        self._numbers = TrainerNumbers(telemetry, lambda: self._lease.token is not None)
        self._kafka_away = False
        self._events = Events(settings.kafka, clock)
        self._trials = Trials(registry, settings.trainer, self._events)
        self._drifted: set[Line] = set()

    @property
    def ready(self) -> bool:
        """Registry and broker answered when they were asked last; also of a trainer that waits for another to end."""
        return self._lease.well and not self._kafka_away

    def stop(self) -> None:
        """End soon, wherever it is; nothing stays half-written."""
        self._lease.stopping = True

    def once(self) -> Round:
        """One round; raises what kept it, or a line of it, from being done. None is done when it is stopped."""
        done = Round()
        try:
            with self._lease.until_stopped():
                self._lease.take()
                done = self.round()
        except (DataError, ArtifactError) as error:
            raise StreamDetectorError(str(error)) from error  # it is not the user's doing, as it would be with a file
        for line, reason in done.failed.items():
            raise reason if isinstance(reason, ConfigError) else StreamDetectorError(f"{line}: {reason}") from reason
        return done

    def run(self) -> None:
        """Round after round, until it is stopped; errors are said, and the next round tries again."""
        only: frozenset[Line] | None = None
        with self._lease.until_stopped():
            while True:
                try:
                    self._lease.take()
                    self.round(only)
                    again = self._ended(only)
                except StreamDetectorError as error:
                    again = self._after(error, only)
                logger.info("the next training comes in %.0f s", again.pause_s)
                only = self._wait(again)

    def _ended(self, only: frozenset[Line] | None) -> Next:
        self._rhythm.ended(only)
        return self._rhythm.next

    def round(self, only: frozenset[Line] | None = None) -> Round:
        """Refresh all lines that have readings, or only some; raises an error that concerns them all."""
        with self._numbers.round():
            done = self._round(only)
        self._numbers.done(bool(done.failed))
        return done

    def _round(self, only: frozenset[Line] | None) -> Round:
        done = Round()
        self._trials.settle(self._lease.token)
        self._in_use.look()
        recent = self._read(parse_duration(self._settings.trainer.history))
        lines = [line for line in recent.histories if only is None or line in only]
        if only is None:
            self._drifted.clear()
        with self._bars() as bars:
            for line in sorted(lines, key=str):
                try:
                    done.outcome[line] = self._refresh(line, recent, bars(f"training {line}"))
                except OutsideError:
                    raise  # the registry is away, or somebody else's: so it is for the other lines
                except StreamDetectorError as error:
                    logger.warning("%s: %s", line, error)
                    self._numbers.failed(error)
                    done.failed[line] = error
        return done

    # -- one line ---------------------------------------------------------------------------------------------------

    def _refresh(self, line: Line, recent: Recent, bar: Progress) -> str:
        """Train, decide, keep, promote, tell; in one word what became of it."""
        champion = self._in_use.champion(line)
        self._rhythm.meet(line, _learned(champion))
        if champion is not None:
            self._look_for_drift(line, latest(recent.histories[line]), champion)

        def progress(done: int, total: int, loss: float) -> None:
            self._lease.pulse()
            bar(done, total, loss)

        drifted = line in self._drifted
        with self._numbers.training():
            found = refresh(self._settings, line, recent, champion, drifted, progress, self._lease.pulse)
        if found is None:
            logger.info("%s: its sensors have just changed: too little came after it to learn from, yet", line)
            self._rhythm.renew(line)
            self._numbers.refreshed(line, "postponed", {})
            return "postponed"
        self._lease.pulse()
        outcome = self._outcome(found)
        decision = {**found.verdict.to_json(), "status": outcome}
        digest = found.challenger.digest
        if found.verdict.sound:
            self._registry.put(found.challenger, line, parent=found.parent, decision=decision, lease=self._lease.token)
        if outcome == "promoted":
            reason = "; ".join(found.verdict.reasons)
            self._registry.promote(line, digest, reason, lease=self._lease.token)
        elif outcome == "shadow":
            self._registry.try_beside(line, digest, lease=self._lease.token)
        self._numbers.refreshed(line, outcome, found.verdict.numbers)
        for reason in found.verdict.reasons:
            logger.info("%s: %s", line, reason)
        logger.info("%s: %s %s, trained from %s", line, digest[:12], outcome, (found.parent or "scratch")[:12])
        kind = {"promoted": "model.promoted", "refused": "model.refused"}.get(outcome, "model.trained")
        self._events.tell(kind, line, digest, {**decision, "parent": found.parent and f"sha256:{found.parent}"})
        return outcome

    def _outcome(self, found: Refreshed) -> str:
        if not found.verdict.passed:
            return "refused"
        if found.challenger.digest == found.parent:
            return "unchanged"
        return {"auto": "promoted", "shadow": "shadow", "manual": "challenger"}[self._settings.trainer.promotion]

    def _look_for_drift(self, line: Line, recent: History, champion: Artifact) -> bool:
        """Tell drift of a line, once an interval; whether it was told now."""
        if line in self._drifted:
            return False
        found = drift.measure(aligned(recent, champion), champion, self._device, self._lease.pulse)
        if found is None or not found.seen:
            return False
        self._drifted.add(line)
        self._numbers.drifted()
        logger.warning("%s: drift: %s", line, found.words)
        self._events.tell("drift", line, champion.digest, {**found.to_json(), "reasons": [found.words]})
        return True

    # -- between rounds ---------------------------------------------------------------------------------------------

    def _wait(self, again: Next) -> frozenset[Line] | None:
        """Wait for the next round, or for drift; the lines that the next round is for, None for all."""
        until = time.monotonic() + again.pause_s
        look_every = self._rhythm.look_every_s
        look = time.monotonic() + look_every
        trials = broker = time.monotonic()
        while time.monotonic() < until:
            try:
                self._lease.pulse()
                if time.monotonic() >= broker:
                    self._ask_broker()
                    broker = time.monotonic() + BROKER_EVERY_S
                if time.monotonic() >= trials and self._lease.token is not None:
                    trials = time.monotonic() + TRIALS_EVERY_S
                    self._trials.settle(self._lease.token)
                if time.monotonic() >= look and self._lease.token is not None:
                    if moved := self._moved():
                        return moved
                    look = time.monotonic() + look_every
            except StreamDetectorError as error:
                self._say(error)
                look = time.monotonic() + look_every
            time.sleep(WAIT_S)
        return again.only

    def _ask_broker(self) -> None:
        """Note whether the broker answers; that it is away is said once."""
        try:
            with TopicReader(self._settings.kafka, self._lease.pulse) as reader:
                reader.has(self._settings.kafka.readings_topic)
        except TransportError as error:
            if not self._kafka_away:
                logger.warning("%s", error)
            self._kafka_away = True
        else:
            self._kafka_away = False

    def _moved(self) -> frozenset[Line]:
        """The lines whose drift is told now, and those that are new."""
        self._in_use.look()
        recent = self._read(self._interval_ms, DRIFT_READINGS)
        moved = set()
        for line in recent.histories:
            champion = self._in_use.champion(line)
            new = self._rhythm.meet(line, _learned(champion))
            if new or (champion is not None and self._look_for_drift(line, recent.histories[line], champion)):
                moved.add(line)
        return frozenset(moved)

    def _read(self, span_ms: int, readings: int | None = None) -> Recent:
        now_ms = round(self._clock() * 1000)
        try:
            recent = history.read(
                self._settings, self._in_use.artifact, now_ms, span_ms, readings=readings, pulse=self._lease.pulse
            )
        except TransportError:
            self._kafka_away = True
            raise
        self._kafka_away = False
        self._numbers.read(recent)
        logger.info(
            "read %d readings in %.1f s (%.0f a second): %d messages, %d of no use, %d too far back to read",
            recent.readings,
            recent.seconds,
            recent.pace,
            recent.messages,
            recent.rejected,
            recent.skipped,
        )
        if not recent.histories:
            raise DataError(
                f"there is no history yet: the topic {self._settings.kafka.readings_topic} has no usable readings of "
                f"the last {self._settings.trainer.history}; wait, or raise trainer.history"
            )
        return recent

    def _after(self, error: StreamDetectorError, only: frozenset[Line] | None) -> Next:
        """Say what a round has failed with; when the next one is tried."""
        self._say(error)
        if isinstance(error, FencedError):
            return Next(0.0)
        return self._rhythm.retry if isinstance(error, OutsideError) else self._ended(only)

    def _say(self, error: StreamDetectorError) -> None:
        logger.warning("%s", error)
        if isinstance(error, FencedError):
            self._lease.token = None


def _learned(champion: Artifact | None) -> bool:
    """Whether weights were trained on sensors, and not on simulated signals or nothing."""
    return champion is not None and bool(champion.scaler)
