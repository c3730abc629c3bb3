"""Threads that follow the topics and the store for the pages. They read only, in no consumer group.

What they find is replaced whole, so that a page may read it at any time; the book of incidents has a lock. A broker or
a store that is away is said, waited for, and taken up again where it was left.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from stream_detector.console.incidents import Answer, Book
from stream_detector.console.numbers import Fleet, Numbers
from stream_detector.errors import DataError, StoreError, StreamDetectorError
from stream_detector.records import Alert, Feedback, encode
from stream_detector.settings import Settings
from stream_detector.streaming import answers_file
from stream_detector.streaming.answers_file import Reply
from stream_detector.streaming.overlook import partition_of
from stream_detector.streaming.registry import open_registry
from stream_detector.streaming.store import Store
from stream_detector.streaming.store.connection import Patience
from stream_detector.streaming.topic_reader import TopicReader
from stream_detector.streaming.topics import Message, produce

logger = logging.getLogger(__name__)
EVERY_S, WATCH_EVERY_S = 0.25, 2.0
AFTER_FAILURE_S = 1.0
MOST_MESSAGES = 60_000
"""Alerts, and answers, that are read of a topic that is there already."""
LOOKED_UP = 20
LONGEST_EVENT = 200
PATIENCE = Patience(attempts=2)


@dataclass(frozen=True, slots=True)
class Status:
    """How the reading goes. alerts_s, fleet_s: when it last succeeded (time.monotonic), 0 never.

    kafka, redis: why it is away; empty where it is not. missing: the topic of alerts is not there.
    unreadable: messages that were no alerts. event: the latest news of weights, in words.
    """

    kafka: str = ""
    redis: str = ""
    alerts_s: float = 0.0
    fleet_s: float = 0.0
    missing: bool = False
    unreadable: int = 0
    event: str = ""


class Feed:
    """See the module's docstring. book: to be read with `lock` held."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.book, self.lock, self._saying = Book(), threading.Lock(), threading.Lock()
        self.status, self.fleet = Status(), Fleet()
        self._places: dict[str, int] = {}
        self._at: dict[str, dict[int, int]] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("alerts", self._follow), ("fleet", self._watch))
        ]

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; a read that is under way is left to itself."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(2)

    def send(self, alert_id: str, reply: Reply) -> Feedback:
        """Put a person's answer on the topic of feedback; blocks. Raises DataError, TransportError or ConfigError."""
        with self.lock:
            incident = self.book.find(alert_id)
            steps = list(incident.steps) if incident else []
        record = reply.to(answers_file.find(steps, alert_id))
        kafka = self.settings.kafka
        key = record.sensor_id.encode("utf-8", "surrogatepass")
        produce(kafka, [Message(kafka.feedback_topic, key, encode(record))])
        logger.info("answered %s: %s", record.alert_id, record.verdict)
        return record

    def taken(self, answer: Answer) -> bool | None:
        """Whether the worker that holds the sensor has heard an answer; None where its state cannot be seen."""
        heard = self.fleet.heard
        place = self._places.get(answer.feedback.sensor_id)
        some = [heard[place]] if place is not None and place in heard else list(heard.values())
        if not some or self.status.redis:
            return None
        return all(one.get(str(answer.partition), 0) > answer.offset for one in some)

    def _follow(self) -> None:
        """Alerts, answers and events, as they come."""
        kafka, reader = self.settings.kafka, None
        topics: dict[str, Callable[[bytes, int, int, int], None]] = {
            kafka.alerts_topic: self._alert,
            kafka.feedback_topic: self._answer,
            kafka.events_topic: self._event,
        }
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            try:
                reader = reader or TopicReader(kafka)
                there = {topic: reader.has(topic) for topic in topics}
                for topic, take in topics.items():
                    if there[topic]:
                        self._catch_up(reader, topic, take)
                self._say(kafka="", missing=not there[kafka.alerts_topic], alerts_s=time.monotonic())
                pause_s = EVERY_S
            except StreamDetectorError as error:
                self._say(kafka=str(error))
                _close(reader)
                reader, pause_s = None, AFTER_FAILURE_S
        _close(reader)

    def _catch_up(self, reader: TopicReader, topic: str, take: Callable[[bytes, int, int, int], None]) -> None:
        bounds, at = reader.bounds(topic), self._at.setdefault(topic, {})
        most = max(1, MOST_MESSAGES // len(bounds))
        ranges = {}
        for partition, (first, end) in bounds.items():
            begin = at.get(partition, end - most)
            ranges[partition] = (first if begin > end else max(begin, first), end)
        for fetched in reader.between(topic, ranges) if any(a < b for a, b in ranges.values()) else ():
            columns = zip(fetched.values, fetched.offsets.tolist(), fetched.timestamps_ms.tolist(), strict=True)
            with self.lock:
                for value, offset, time_ms in columns:
                    take(value or b"", fetched.partition, offset, time_ms)
            at[fetched.partition] = int(fetched.offsets[-1]) + 1
        at |= {partition: end for partition, (_, end) in ranges.items()}

    def _alert(self, value: bytes, partition: int, offset: int, time_ms: int) -> None:
        try:
            self.book.take(answers_file.decode(value, Alert))
        except DataError as error:
            self._say(unreadable=self.status.unreadable + 1)
            self._passed_over(self.settings.kafka.alerts_topic, partition, offset, error)

    def _answer(self, value: bytes, partition: int, offset: int, time_ms: int) -> None:
        try:
            self.book.answer(Answer(answers_file.decode(value, Feedback), partition, offset, time_ms))
        except DataError as error:
            self._passed_over(self.settings.kafka.feedback_topic, partition, offset, error)

    def _event(self, value: bytes, partition: int, offset: int, time_ms: int) -> None:
        try:
            told = msgspec.json.decode(value)
            self._say(event=f"{told['type']} at {told['at']}"[:LONGEST_EVENT])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            self._passed_over(self.settings.kafka.events_topic, partition, offset, error)

    @staticmethod
    def _passed_over(topic: str, partition: int, offset: int, error: Exception) -> None:
        logger.info("%s/%d, offset %d: not what belongs there, passed over (%s)", topic, partition, offset, error)

    def _watch(self) -> None:
        """What the fleet does, now and then."""
        reader, pause_s = None, 0.0
        with (
            open_registry(self.settings) as registry,
            Store(self.settings.redis, self.settings.kafka.group_id, PATIENCE) as store,
        ):
            numbers = Numbers(self.settings, registry, store)
            while not self._stop.wait(pause_s):
                pause_s = WATCH_EVERY_S
                try:
                    reader = reader or TopicReader(self.settings.kafka)
                    self.fleet = numbers.look(reader)
                    self._find_places(store)
                    self._say(redis="", fleet_s=time.monotonic())
                except StoreError as error:
                    self._say(redis=str(error))
                except StreamDetectorError as error:
                    # That the broker is away is said by the thread that follows it.
                    logger.info("the fleet's numbers cannot be read now: %s", error)
                    _close(reader)
                    reader = None
        _close(reader)

    def _find_places(self, store: Store) -> None:
        """Where the sensors are whose answers are not heard by all."""
        with self.lock:
            several = [one for answers in reversed(self.book.answers.values()) for one in answers]
        waiting = [one.feedback.sensor_id for one in several if self.taken(one) is False]
        for sensor_id in [one for one in dict.fromkeys(waiting) if one not in self._places][:LOOKED_UP]:
            place = partition_of(self.settings, store, self.fleet.heard, sensor_id)
            if place is not None:
                self._places[sensor_id] = place

    def _say(self, **changed: object) -> None:
        with self._saying:
            self.status = replace(self.status, **changed)  # type: ignore[arg-type]


def _close(reader: TopicReader | None) -> None:
    if reader is not None:
        reader.__exit__()
