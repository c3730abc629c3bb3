"""One receiver's loop: alerts from the topic to the receiver, each at least once, in order.

1. Read the topic up to where the group has come to: which incidents are open, and known to the receiver. A receiver
   that is new is told of those that are open, and then of all that comes.
2. Send each step; try again with growing pauses while the receiver is away. Only then is its place remembered, so a
   process that is killed sends what it was about once more: the receiver tells repeats by their ids.
3. A step that is refused, or not taken for `forward.give_up_after`, is kept in the topic of undelivered ones before its
   place is remembered, and so are the steps of that incident that follow, until they were sent again.

Each receiver has a thread and a consumer group of its own, and waits for no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing

from stream_detector.errors import DataError, OutsideError
from stream_detector.records import Alert
from stream_detector.settings import Settings, parse_duration
from stream_detector.streaming import answers_file
from stream_detector.streaming.forward import undelivered
from stream_detector.streaming.forward.delivery import Outcome, pause
from stream_detector.streaming.forward.numbers import Numbers
from stream_detector.streaming.forward.receiver import Receiver, attempt
from stream_detector.streaming.forward.source import Source
from stream_detector.streaming.forward.told import Told
from stream_detector.streaming.topics import Record, read_topic
from stream_detector.streaming.wanted import Wanted

logger = logging.getLogger(__name__)
RECONNECT_S = 3.0
TELL_AGAIN_S = 60.0
LOOK_AGAIN_S = 5.0
"""So long it is believed that what is undelivered still is."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """The forwarder is to end."""


class Forwarder(threading.Thread):
    """See the module's docstring. name: of the receiver, and of its group. error: what ended the thread, if anything.

    from_beginning: a receiver that is new is told all that is there, instead of what is open.
    """

    def __init__(
        self,
        settings: Settings,
        receiver: Receiver,
        name: str,
        wanted: Wanted,
        numbers: Numbers,
        from_beginning: bool = False,
    ) -> None:
        super().__init__(name=name, daemon=True)
        chosen = settings.forward
        self._kafka, self._receiver, self._wanted, self._numbers = settings.kafka, receiver, wanted, numbers
        self._from_beginning = from_beginning
        self._give_up_s = parse_duration(chosen.give_up_after) / 1000
        self._renew_s = parse_duration(chosen.renew_every) / 1000
        self._told = Told(wanted)
        self._held: set[str] = set()
        self._held_s = 0.0
        self._impatient = False
        self._ending = threading.Event()
        self.beat_s = time.monotonic()
        self.connected = False
        self.error: BaseException | None = None

    def stop(self) -> None:
        """End soon; what is under way is sent again next time."""
        self._ending.set()

    def run(self) -> None:
        """Forward until it is stopped; wait for a broker that is away."""
        try:
            while not self._ending.is_set():
                try:
                    self._forward()
                except OutsideError as error:
                    self.connected = False
                    logger.warning("%s: %s", self.name, error)
                    self._wait(RECONNECT_S)
        except Stopped:
            return
        except BaseException as error:
            self.error = error

    def _forward(self) -> None:
        with closing(Source(self._kafka, self._kafka.alerts_topic, undelivered.group_of(self._kafka, self.name))) as at:
            if at.new and self._from_beginning:
                at.position = dict(at.first)
            self._recollect(at)
            at.seek(at.position)
            self._look_for_held()
            self.connected = True
            if at.new:
                self._catch_up()
            at.commit()
            renewed_s = time.monotonic()
            while True:
                self._beat()
                for record in at.poll():
                    # Before it is dealt with: while the receiver is away this is what tells of it.
                    self._numbers.behind(self.name, at.behind())
                    self._take(record)
                at.commit()
                self._numbers.behind(self.name, at.behind())
                if time.monotonic() - renewed_s >= self._renew_s:
                    renewed_s = time.monotonic()
                    self._renew()

    def _recollect(self, at: Source) -> None:
        """Which incidents the receiver knows, from what was told before."""
        self._told = Told(self._wanted)
        todo = {p for p, until in at.position.items() if until > at.first[p]}
        if not todo:
            return
        for record in read_topic(self._kafka, self._kafka.alerts_topic, partitions=frozenset(todo)):
            self._beat()
            if record.offset < at.position[record.partition]:
                alert = decoded(record)
                if alert is not None and self._told.asks_for(alert):
                    self._told.note(alert)

    def _catch_up(self) -> None:
        """A receiver that is new hears of what is open; should it be killed meanwhile, it is new again."""
        for alert in self._told.going_on:
            self._deliver(alert, None)

    def _take(self, record: Record) -> None:
        """Deal with one record for good."""
        alert = decoded(record)
        if alert is None:
            logger.warning(
                "%s/%d, offset %d is no alert that this version reads and is not forwarded",
                record.topic,
                record.partition,
                record.offset,
            )
            return
        if not self._told.asks_for(alert):
            return
        if self._holds_back(alert):
            undelivered.keep(self._kafka, self.name, alert, "it waits for earlier steps of its incident", 0)
            self._numbers.undelivered(self.name)
        else:
            self._deliver(alert, self._told.before(alert))
        self._told.note(alert)

    def _deliver(self, alert: Alert, before: Alert | None) -> None:
        outcomes = list(self._attempts(alert, before))
        outcome = outcomes[-1]
        if outcome.delivered:
            self._numbers.delivered(self.name)
            return
        undelivered.keep(self._kafka, self.name, alert, outcome.reason, len(outcomes))
        self._held.add(alert.alert_id)
        self._numbers.undelivered(self.name)
        logger.error(
            "%s (%s) does not take step %d of %s: %s; it is kept in %s, and sent again with `forward --retry`",
            self.name,
            self._receiver.shown,
            alert.seq,
            alert.alert_id,
            outcome.reason,
            self._kafka.undelivered_topic,
        )

    def _attempts(self, alert: Alert, before: Alert | None) -> Iterator[Outcome]:
        """Outcomes up to the one that counts. After giving up once, each gets one attempt until one succeeds."""
        begun_s = told_s = time.monotonic()
        failures = 0
        while True:
            self._beat()
            outcome = attempt(self._receiver, alert, before)
            yield outcome
            if outcome.delivered:
                self._impatient = False
                return
            if outcome.refused:
                return
            if self._impatient or time.monotonic() - begun_s >= self._give_up_s:
                self._impatient = True
                return
            failures += 1
            self._numbers.retried(self.name)
            if failures == 1 or time.monotonic() - told_s > TELL_AGAIN_S:
                told_s = time.monotonic()
                logger.warning("%s (%s): %s; trying again", self.name, self._receiver.shown, outcome.reason)
            self._wait(pause(failures, outcome.pause_s))

    def _holds_back(self, alert: Alert) -> bool:
        """Whether earlier steps of this incident are still undelivered."""
        if alert.alert_id in self._held and time.monotonic() - self._held_s > LOOK_AGAIN_S:
            self._look_for_held()
        return alert.alert_id in self._held

    def _look_for_held(self) -> None:
        self._held = {one.alert.alert_id for one in undelivered.pending(self._kafka, self.name)}
        self._held_s = time.monotonic()

    def _renew(self) -> None:
        """Tell what goes on. What fails is told again the next time."""
        outcome = self._receiver.renew([one for one in self._told.going_on if one.alert_id not in self._held])
        if not outcome.delivered:
            self._numbers.retried(self.name)
            logger.warning(
                "%s (%s): %s; open incidents are told again soon", self.name, self._receiver.shown, outcome.reason
            )

    def _beat(self) -> None:
        self.beat_s = time.monotonic()
        if self._ending.is_set():
            raise Stopped

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._beat()
            self._ending.wait(min(left, 1.0))
        self._beat()


def decoded(record: Record) -> Alert | None:
    """The alert in a record; None where there is none."""
    try:
        return answers_file.decode(record.value or b"", Alert)
    except DataError:
        return None
