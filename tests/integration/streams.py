"""Readings with known faults on a real topic, and workers that take them in."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from stream_detector.detect.fleet import Part
from stream_detector.records import Alert, Readings
from stream_detector.settings import (
    DetectorSettings,
    IncidentSettings,
    KafkaSettings,
    QualitySettings,
    RedisSettings,
    SensorSettings,
    Settings,
    WorkerSettings,
)
from stream_detector.streaming.profiles import Columns, Profiles
from stream_detector.streaming.store import Store
from stream_detector.streaming.topics import ensure_topics, read_topic
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

WINDOW = 24
START_MS = 1_760_000_000_000
Message = tuple[int, bytes, bytes]
"""Partition, key, value."""


@dataclass(frozen=True)
class Stream:
    """Messages in the order in which they are sent: partition, key, value."""

    partitions: int
    messages: Sequence[Message]


def plant(sensors: int, steps: int, partitions: int = 3, seed: int = 0) -> Stream:
    """Two kinds of sensors with spikes, shifts, silence and stuck values, their readings in turn."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(steps, sensors, 2)) + np.sin(np.arange(steps) / 7)[:, None, None]
    late = rng.random((steps, sensors)) < 0.01
    gone = np.zeros((steps, sensors), bool)
    for sensor in range(sensors):
        begin = int(rng.integers(steps // 2, steps - 40))
        what = sensor % 5
        if what == 0:
            values[begin, sensor] += 25
        elif what == 1:
            values[begin : begin + 20, sensor] += 12
        elif what == 2:
            gone[begin : begin + 35, sensor] = True
        elif what == 3:
            values[begin : begin + 35, sensor] = 0.5
    # A fault of a whole hall: its pumps are in one partition, 1 of 3.
    values[steps * 3 // 4 : steps * 3 // 4 + 12, [1, 7, 13]] += 15
    messages = []
    for step in range(steps):
        for sensor in range(sensors):
            if gone[step, sensor]:
                continue
            name = f"pump-{sensor}" if sensor % 2 else f"fan-{sensor}"
            group = sensor % partitions
            time_ms = START_MS + 1000 * (step - (2 if late[step, sensor] else 0))
            reading: dict[str, object] = {"sensor_id": name, "timestamp": time_ms}
            pair = [round(float(value), 4) for value in values[step, sensor]]
            reading |= {"value": pair[0]} if sensor % 2 else {"values": {"a": pair[0], "b": pair[1]}}
            messages.append((group, name.encode(), json.dumps(reading).encode()))
    return Stream(partitions, messages)


def weights(directory: Path) -> dict[tuple[str, ...], Path]:
    """A moving z-score, trained on noise so that it knows what a fleet is like, for both kinds of sensors."""
    made: dict[tuple[str, ...], Path] = {}
    for channels in (("value",), ("a", "b")):
        rng = np.random.default_rng(7)
        steps, sensors = 600, 8
        values = rng.normal(size=(steps * sensors, len(channels)))
        values += np.sin(np.arange(steps) / 7).repeat(sensors)[:, None]
        readings = Readings(
            np.tile(np.arange(sensors), steps), START_MS + 1000 * np.arange(steps).repeat(sensors), values
        )
        names = [f"trained-{i}" for i in range(sensors)]
        artifact = train(History(readings, names, channels), TrainOptions("moving-z", WINDOW), lambda *_: None)
        made[channels] = directory / "-".join(channels)
        artifact.save(made[channels])
    return made


def settings_for(
    kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path], *, group: str = "one", slot: str = "a"
) -> Settings:
    """Settings of a worker; `group` keeps its state and its alerts apart from those of others on the same readings."""
    return Settings(
        detector=DetectorSettings(model=str(made["value",]), window=WINDOW, budget="1 per 400 readings"),
        incidents=IncidentSettings(close_after=5, group_within="20s"),
        quality=QualitySettings(silent_after=10, stuck_after=12),
        sensors=(
            SensorSettings(match="fan-*", model=str(made["a", "b"]), channels=("a", "b"), labels={"kind": "fan"}),
            SensorSettings(match="pump-[17]", group="hall"),
            SensorSettings(match="pump-13", group="hall"),
        ),
        kafka=KafkaSettings(
            bootstrap_servers=kafka,
            group_id=f"{topic}-{group}",
            readings_topic=f"{topic}-readings",
            alerts_topic=f"{topic}-alerts-{group}",
            dead_letters_topic=f"{topic}-dead-{group}",
            feedback_topic=f"{topic}-feedback",
            events_topic=f"{topic}-events",
        ),
        redis=RedisSettings.model_validate({"url": redis_url, "prefix": "test"}),
        worker=WorkerSettings(
            slot=slot, batch_size=150, max_wait_ms=50, session_timeout_ms=6000, transaction_timeout_ms=8000
        ),
    )


def own_topics(kafka: str, name: str) -> KafkaSettings:
    """A broker's settings with a group and topics that nobody else has."""
    return KafkaSettings(
        bootstrap_servers=kafka,
        group_id=name,
        readings_topic=f"{name}-readings",
        alerts_topic=f"{name}-alerts",
        dead_letters_topic=f"{name}-dead",
        feedback_topic=f"{name}-feedback",
        events_topic=f"{name}-events",
    )


def make_topics(settings: Settings, partitions: int) -> None:
    """The topics of a test."""
    kafka = settings.kafka
    ensure_topics(kafka, {kafka.readings_topic: partitions})
    ensure_topics(
        kafka,
        dict.fromkeys((kafka.alerts_topic, kafka.dead_letters_topic, kafka.feedback_topic, kafka.events_topic), 1),
    )


def send(settings: Settings, messages: Sequence[Message]) -> None:
    """Put messages on the readings topic, each with the time of its reading."""
    producer = KafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20, acks="all", max_request_size=10_000_000
    )
    for partition, key, value in messages:
        producer.send(settings.kafka.readings_topic, key=key, value=value, partition=partition)
    producer.flush()
    producer.close()


def new_worker(settings: Settings) -> Worker:
    """A worker in this process."""
    return Worker(settings, Profiles(settings, Weights(settings.detector.window).artifact))


def lag(settings: Settings, worker: Worker) -> int:
    """Messages that are not answered for yet, of the partitions that the worker holds."""
    held = worker.holdings.held
    return sum(worker._transport.bounds(partition)[1] - one.told_until for partition, one in held.items())


def drain(settings: Settings, partitions: int, limit_s: float = 120) -> Worker:
    """Run a worker until all is answered for, and close it."""
    worker = new_worker(settings)
    deadline = time.monotonic() + limit_s
    try:
        while time.monotonic() < deadline:
            worker.step()
            if len(worker.holdings.held) == partitions and lag(settings, worker) <= 0:
                return worker
    finally:
        worker.close()
    raise TimeoutError(f"{lag(settings, worker)} messages are left after {limit_s} s")


class Running(threading.Thread):
    """A worker on a thread of its own, until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.worker = new_worker(settings)
        self.error: BaseException | None = None

    def run(self) -> None:
        """Let it work."""
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error
            raise

    def stop(self) -> None:
        """End it cleanly."""
        self.worker.stopping = True
        self.join(30)


def alerts_of(settings: Settings) -> list[Alert]:
    """All committed alerts, with the only processing time taken out."""
    found = read_topic(settings.kafka, settings.kafka.alerts_topic)
    alerts = [msgspec.json.decode(record.value or b"", type=Alert) for record in found]
    return [msgspec.structs.replace(alert, detected_at=None) for alert in alerts]


def by_incident(alerts: Sequence[Alert]) -> dict[str, list[bytes]]:
    """The steps of each incident as bytes, in the order in which they were told."""
    lives: dict[str, list[bytes]] = {}
    for alert in alerts:
        lives.setdefault(alert.alert_id, []).append(msgspec.json.encode(alert))
    return lives


def readings_of(messages: Sequence[Message], profiles: Profiles) -> list[Part]:
    """The messages of a plant as parts of one batch."""
    records = [json.loads(value) for _, _, value in messages]
    partition = np.array([one[0] for one in messages])
    parts: list[Part] = []
    for channels, key in ((("value",), "value"), (("a", "b"), "values")):
        mine = [i for i, record in enumerate(records) if key in record]
        ids = sorted({records[i]["sensor_id"] for i in mine})
        rows = [[records[i]["value"]] if key == "value" else [records[i]["values"][c] for c in "ab"] for i in mine]
        parts += profiles.parts(
            Columns(
                channels,
                ids,
                np.array([ids.index(records[i]["sensor_id"]) for i in mine]),
                np.array([records[i]["timestamp"] for i in mine]),
                np.array(rows, float),
                partition[mine],
                np.array(mine),
            )
        )
    return parts


@dataclass(frozen=True)
class Outcome:
    """What is to come of readings: the steps of each incident, and each sensor's row by shape and id."""

    lives: dict[str, list[bytes]]
    states: dict[tuple[str, str], bytes]

    def differences(self, other: Outcome) -> list[str]:
        """In what the two differ, in words; equal ones in nothing."""
        found = []
        for alert_id in sorted(set(self.lives) | set(other.lives)):
            mine, others = self.lives.get(alert_id, []), other.lives.get(alert_id, [])
            if mine != others:
                found.append(f"steps of {alert_id}:\n  {mine}\n  instead of\n  {others}")
        for shape, sensor_id in sorted(set(self.states) | set(other.states)):
            if self.states.get((shape, sensor_id)) != other.states.get((shape, sensor_id)):
                found.append(f"state of {sensor_id}")
        return found


def undisturbed(settings: Settings, messages: Sequence[Message]) -> Outcome:
    """What the detectors make of these readings when all are at hand at once."""
    profiles = Profiles(settings, Weights(settings.detector.window).artifact)
    told = profiles.fleet.step(readings_of(messages, profiles))
    states = {
        (profiles.shape(name), sensor_id): detector.table.state_of(np.array([row])).tobytes()
        for name, detector in profiles.fleet.detectors.items()
        for row, sensor_id in enumerate(detector.table.ids)
    }
    return Outcome(by_incident([one.alert for one in told]), states)


def wait_until_decided(settings: Settings, limit_s: float = 40) -> None:
    """Wait until no transaction hides what is behind it: one that a killed worker left is open until its time is up."""
    deadline = time.monotonic() + limit_s
    while True:
        found = set()
        for isolation in ("read_committed", "read_uncommitted"):
            consumer = KafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers, isolation_level=isolation)
            place = TopicPartition(settings.kafka.alerts_topic, 0)
            found.add(consumer.end_offsets([place])[place])
            consumer.close(autocommit=False)
        if len(found) == 1:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"a transaction is still open after {limit_s} s")
        time.sleep(0.5)


def outcome(settings: Settings, partitions: int) -> Outcome:
    """What workers have told and saved, when none is at work any more."""
    wait_until_decided(settings)
    states = {}
    with Store(settings.redis, settings.kafka.group_id) as store:
        for partition in range(partitions):
            for shape, several in store.claim(settings.kafka.readings_topic, partition).sensors.items():
                for rows in several:
                    for i, sensor_id in enumerate(rows.ids):
                        states[shape, sensor_id] = rows.packed[i * rows.width : (i + 1) * rows.width]
    return Outcome(by_incident(alerts_of(settings)), states)


def told_twice(settings: Settings) -> list[tuple[str, int]]:
    """Steps of incidents that were committed more than once."""
    steps = Counter((alert.alert_id, alert.seq) for alert in alerts_of(settings))
    return [step for step, count in steps.items() if count > 1]


def kinds(settings: Settings, kind: str) -> list[Alert]:
    """The committed alerts of one kind."""
    return [alert for alert in alerts_of(settings) if alert.kind == kind]
