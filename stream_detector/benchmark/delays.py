"""How long it takes from sending a reading to reading its alert, committed, while a worker has much to do.

One process sends at a steady pace, what it made before the clock started; a second one reads alerts, the worker is in
this one. Now and then a reading is far off; its own time says when it was to be sent, and its alert says that time.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from stream_detector.benchmark.load import Load, send
from stream_detector.benchmark.place import own_place
from stream_detector.benchmark.plan import Plan
from stream_detector.benchmark.prepared import play, request
from stream_detector.benchmark.running import caught_up, new_worker
from stream_detector.errors import OutsideError
from stream_detector.models.artifact import Artifact
from stream_detector.records import Alert, parse_time
from stream_detector.settings import KafkaSettings, Settings
from stream_detector.streaming.kafka_client import consumer_options, producer_options
from stream_detector.streaming.topics import end_offsets
from stream_detector.streaming.worker import Worker

SETTLE_S = 2.0
"""In which nothing is marked yet."""
LINGER_S = 3.0
"""In which alerts may still come when the sending is over."""
LEAD_S = 0.5
TICK_S = 0.01
MARKS_A_SECOND = 20
MARK = 1e6
READY_S = 300.0
Schedule = list[tuple[float, dict[int, list[bytes]]]]


@dataclass(frozen=True)
class Delays:
    """Of each alert, in seconds, and how it was sent.

    sent_a_second: readings. share: of the worker's full speed. marked: readings that should have brought an alert.
    late_s: the longest that a message had to wait for the sender; the delays have it in them.
    """

    seconds: list[float]
    sent_a_second: float
    share: float
    marked: int
    late_s: float


def measure_delays(
    settings: Settings,
    plan: Plan,
    artifact: Artifact,
    full: float,
    share: float,
    seconds: float,
    local: bool,
    progress: Callable[[int, int], None],
) -> Delays:
    """Send for so many seconds at a share of the full speed, in readings a second, while the worker works.

    local: the broker is a single one of this machine, which takes ready-made requests.
    """
    pace = full * share
    load = Load(plan, int(time.time() * 1000), 1000 * plan.sensors / pace)
    with own_place(settings, plan) as own:
        send(own.kafka, load.full_windows())
        ends = end_offsets(own.kafka, own.kafka.readings_topic)
        worker, _ = new_worker(own, artifact)
        try:
            while not caught_up(worker, ends):
                worker.step()
            return _measure(own, load, worker, _Pace(pace, share, seconds, local), progress)
        finally:
            worker.close()


@dataclass(frozen=True)
class _Pace:
    readings_a_second: float
    share: float
    seconds: float
    local: bool


def _measure(
    settings: Settings, load: Load, worker: Worker, pace: _Pace, progress: Callable[[int, int], None]
) -> Delays:
    context = multiprocessing.get_context("spawn")
    sender, at_sender = context.Pipe()
    reader, at_reader = context.Pipe()
    helpers = [
        context.Process(target=_send, args=(settings.kafka, load, pace, at_sender), daemon=True),
        context.Process(target=_read, args=(settings.kafka, load.start_ms, at_reader), daemon=True),
    ]
    try:
        for helper in helpers:
            helper.start()
        _work(worker, READY_S, lambda: sender.poll() and reader.poll())
        marked, _ = sender.recv(), reader.recv()
        begin_s = time.time() + LEAD_S
        total_s = SETTLE_S + pace.seconds + LINGER_S
        sender.send(begin_s)
        reader.send((begin_s, begin_s + total_s))
        for second in range(round(LEAD_S + total_s)):
            _work(worker, 1.0, lambda: False)
            progress(second + 1, round(LEAD_S + total_s))
        _work(worker, READY_S, lambda: sender.poll() and reader.poll())
        if not sender.poll() or not reader.poll():
            raise OutsideError(
                "the benchmark's sender does not keep up: see whether Kafka answers, or leave delays out"
            )
        late_s, seconds = sender.recv(), reader.recv()
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join(5)
    if isinstance(late_s, str):
        raise OutsideError(f"the benchmark's sender stopped: {late_s}")
    return Delays(seconds, pace.readings_a_second, pace.share, marked, late_s)


def _work(worker: Worker, seconds: float, done: Callable[[], Any]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not done():
        worker.step()


def schedule(load: Load, pace: float, seconds: float) -> tuple[Schedule, int]:
    """Messages of all sensors in turns, by the second after the beginning at which each is to go; how many are far off.

    Every so often a reading that makes a window due is far off, of a sensor that was not far off lately.
    """
    plan, rng = load.plan, np.random.default_rng(3)
    total = SETTLE_S + seconds
    every = coprime(int(pace / plan.batched / MARKS_A_SECOND), plan.sensors)
    found: Schedule = []
    number = marked = 0
    next_mark = int(pace * SETTLE_S / plan.batched)
    for tick in range(1, round(total / TICK_S) + 1):
        at_s = tick * TICK_S
        parts: dict[int, list[bytes]] = {}
        until = int(at_s * pace / plan.batched)
        for rows in rng.normal(size=(until - number, plan.batched, plan.channels)).round(4):
            if number >= next_mark and load.falls_due(number):
                rows[-1] = MARK
                next_mark, marked = number + every, marked + 1
            partition, message = load.message_at(number, load.start_ms + round(at_s * 1000), rows)
            parts.setdefault(partition, []).append(message)
            number += 1
        found.append((at_s, parts))
    return found, marked


def coprime(at_least: int, sensors: int) -> int:
    """A distance between messages at which all sensors are met before one is met again."""
    every = max(1, at_least)
    while math.gcd(every, sensors) > 1:
        every += 1
    return every


def _send(kafka: KafkaSettings, load: Load, pace: _Pace, parent: Connection) -> None:
    """Send the schedule when told to; answers with the longest delay of a message, or with what went wrong."""
    messages, marked = schedule(load, pace.readings_a_second, pace.seconds)
    topic, begin_ms = kafka.readings_topic, load.start_ms
    if pace.local:
        requests = [(at_s, request(topic, parts, begin_ms + round(at_s * 1000))) for at_s, parts in messages]
    gc.collect()
    gc.freeze()
    parent.send(marked)
    begin_s = parent.recv()
    try:
        if pace.local:
            late_s = play(kafka.bootstrap_servers, [(begin_s + at_s, sent) for at_s, sent in requests])
        else:
            late_s = _produce(kafka, messages, begin_s)
        parent.send(late_s)
    except Exception as error:
        parent.send(f"{type(error).__name__}: {error}")
        raise


def _produce(kafka: KafkaSettings, messages: Schedule, begin_s: float) -> float:
    """The same through an ordinary producer, for brokers that only that can speak to."""
    producer = KafkaProducer(**producer_options(kafka) | {"linger_ms": 5})
    late_s = 0.0
    for at_s, parts in messages:
        time.sleep(max(0.0, begin_s + at_s - time.time()))
        late_s = max(late_s, time.time() - begin_s - at_s)
        for partition, values in parts.items():
            for value in values:
                producer.send(kafka.readings_topic, value=value, partition=partition)
    producer.flush()
    producer.close()
    return late_s


def _read(kafka: KafkaSettings, nominal_ms: int, parent: Connection) -> None:
    """Answers with the delay of each alert of a reading that is far off.

    nominal_ms: the time that the readings take for the beginning, which was fixed before it was known.
    """
    consumer = KafkaConsumer(**consumer_options(kafka))
    place = TopicPartition(kafka.alerts_topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    decoder, delays = msgspec.json.Decoder(Alert), []
    parent.send("ready")
    begin_s, until_s = parent.recv()
    while time.time() < until_s:
        for record in consumer.poll(timeout_ms=20).get(place, ()):
            alert = decoder.decode(record.value)
            if alert.event == "opened" and alert.channels and (alert.channels[0].actual or 0) == MARK:
                delays.append(time.time() - begin_s - (parse_time(alert.starts_at) - nominal_ms) / 1000)
    consumer.close()
    parent.send(delays)
