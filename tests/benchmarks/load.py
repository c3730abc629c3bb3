"""What the benchmarks of the worker put on a topic, and the model that they judge it with."""

from __future__ import annotations

import gc
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from kafka import KafkaProducer

from stream_detector.models.artifact import Artifact
from stream_detector.models.interface import Scores
from stream_detector.records import Floats, Readings
from stream_detector.settings import KafkaSettings, RedisSettings, Settings, WorkerSettings
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.topics import ensure_topics
from stream_detector.streaming.worker import Worker
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train
from tests.integration.streams import own_topics

SENSORS, PARTITIONS, WINDOW = 10_000, 4, 100
A_MESSAGE = 50
START_MS = 1_760_000_000_000
EVERY_MS = 1_000


@dataclass(frozen=True)
class NearlyNothingConfig:
    """There is nothing to configure."""

    window: int
    channels: int


class NearlyNothing(torch.nn.Module):
    """Scores the newest values (B, T, C) by how far they are from the centre."""

    name: ClassVar[str] = "nearly-nothing"

    def __init__(self, config: NearlyNothingConfig) -> None:
        super().__init__()
        self.config = config

    def prepare(self, windows: torch.Tensor) -> None:
        """Nothing is computed in advance."""

    def loss(self, windows: torch.Tensor, epoch: int) -> torch.Tensor:
        """Nothing is learned."""
        return windows.new_zeros(())

    def calibrate(self, windows: torch.Tensor) -> None:
        """There is nothing to set."""

    def score(self, windows: torch.Tensor, steps: int) -> Scores:
        """See `Model.score`."""
        far = windows[:, -steps:].abs()
        return Scores(far.amax(dim=2), far, far, far, far)


def nearly_nothing() -> Artifact:
    """The model with a calibration: that of a moving z-score of noise, which is about what its scores are."""
    rng = np.random.default_rng(7)
    steps, sensors = 1_000, 8
    readings = Readings(
        np.tile(np.arange(sensors), steps),
        START_MS + EVERY_MS * np.arange(steps).repeat(sensors),
        rng.normal(size=(steps * sensors, 1)),
    )
    history = History(readings, [f"trained-{i}" for i in range(sensors)], ("value",))
    made = train(history, TrainOptions("moving-z", WINDOW), lambda *_: None)
    # All sensors are alike, and known: each is judged from its first window.
    seeds = dict.fromkeys((f"machine-{i:05}" for i in range(SENSORS)), next(iter(made.scaler.values())))
    return Artifact(NearlyNothing(NearlyNothingConfig(WINDOW, 1)), ("value",), seeds, made.calibration, made.trained_on)


def single(number: int, value: float, time_ms: int | None = None) -> tuple[int, bytes]:
    """The message of one reading, in a round through all sensors: partition and value."""
    sensor = number % SENSORS
    at = START_MS + EVERY_MS * (WINDOW + number // SENSORS) if time_ms is None else time_ms
    text = f'{{"sensor_id": "machine-{sensor:05}", "timestamp": {at}, "value": {value:.4f}}}'
    return sensor % PARTITIONS, text.encode()


def many(sensor: int, values: Floats, first_ms: int, every_ms: int = EVERY_MS) -> tuple[int, bytes]:
    """The message of many readings of one sensor: partition and value."""
    record = {
        "sensor_id": f"machine-{sensor:05}",
        "timestamps": [first_ms + every_ms * i for i in range(len(values))],
        "values": [round(value, 4) for value in values.tolist()],
    }
    return sensor % PARTITIONS, json.dumps(record).encode()


def messages(kind: str, begin: int, readings: int) -> Iterator[tuple[int, bytes]]:
    """What is measured: so many readings, after `begin` others, that go on where the full windows end."""
    rng = np.random.default_rng(begin)
    end = begin + readings
    if kind == "single":
        for number, value in zip(range(begin, end), rng.normal(size=readings).tolist(), strict=True):
            yield single(number, value)
    else:
        for number in range(begin // A_MESSAGE, end // A_MESSAGE):
            first_ms = START_MS + EVERY_MS * (WINDOW + number // SENSORS * A_MESSAGE)
            yield many(number % SENSORS, rng.normal(size=A_MESSAGE), first_ms)


def full_windows(end_ms: int = START_MS + EVERY_MS * WINDOW, every_ms: int = EVERY_MS) -> Iterator[tuple[int, bytes]]:
    """What fills the windows beforehand, up to a time."""
    rng = np.random.default_rng(0)
    for number in range(SENSORS * WINDOW // A_MESSAGE):
        left = WINDOW - number // SENSORS * A_MESSAGE
        yield many(number % SENSORS, rng.normal(size=A_MESSAGE), end_ms - left * every_ms, every_ms)


def send(kafka: KafkaSettings, stream: Iterator[tuple[int, bytes]]) -> None:
    """Put messages on the readings topic."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=20, batch_size=1 << 18)
    for partition, value in stream:
        producer.send(kafka.readings_topic, value=value, partition=partition)
    producer.flush()
    producer.close()


def settings_for(kafka: str, redis_url: str, **worker: Any) -> Settings:
    """Settings of a worker with topics of its own; all else is as it comes."""
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    settings = Settings(
        kafka=own_topics(kafka, name),
        redis=RedisSettings.model_validate({"url": redis_url, "prefix": name}),
        worker=WorkerSettings(**worker),
    )
    topics = settings.kafka
    ensure_topics(topics, {topics.readings_topic: PARTITIONS})
    ensure_topics(
        topics, {topics.alerts_topic: 1, topics.dead_letters_topic: 1, topics.feedback_topic: 1, topics.events_topic: 1}
    )
    return settings


def new_worker(settings: Settings) -> tuple[Worker, Profiles]:
    """A worker with the model that is next to nothing, ready as it is when it begins to run."""
    artifact = nearly_nothing()
    profiles = Profiles(settings, lambda model, channels: artifact)
    worker = Worker(settings, profiles)
    gc.collect()
    gc.freeze()
    return worker, profiles
