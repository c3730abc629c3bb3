"""How long it takes from sending a reading to reading its alert, committed, while a worker has much to do.

One process sends at a steady pace, what it made before the clock started; a second one reads alerts, the worker is in
this one. Now and then a reading is far off; its own time is when it was to be sent, and its alert says that time.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import msgspec
import numpy as np
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from stream_detector.records import Alert, parse_time
from stream_detector.settings import KafkaSettings, Settings
from stream_detector.streaming.kafka_client import consumer_options
from stream_detector.streaming.topics import end_offsets
from tests.benchmarks.load import SENSORS, full_windows, new_worker, send, single
from tests.benchmarks.prepared import play, request

SECONDS = 20
SETTLE_S = 3
PREPARE_S = 70
"""In which windows are filled, and requests made, before the sending begins."""
TICK_S = 0.01
MARKS_A_SECOND = 20
MARK = 1e6


@dataclass(frozen=True)
class Delays:
    """Of each alert; how many readings a second were sent, and what share of the full speed that is.

    late_s: the longest that a request had to wait for the sender; the delays have it in them.
    """

    seconds: list[float]
    sent_a_second: float
    share: float
    late_s: float


def schedule(topic: str, pace: float, begin_s: float) -> list[tuple[float, bytes]]:
    """Requests with readings of all sensors in turn, every so often one that is far off, and when each is to go."""
    rng = np.random.default_rng(3)
    settled, every = int(pace * SETTLE_S), int(pace / MARKS_A_SECOND) // 10 * 10 + 1  # meets all sensors in turn
    found, sent = [], 0
    for tick in range(1, round((SETTLE_S + SECONDS) / TICK_S) + 1):
        at_s = begin_s + tick * TICK_S
        parts: dict[int, list[bytes]] = {}
        for value in rng.normal(size=int(tick * TICK_S * pace) - sent).tolist():
            far = MARK if sent > settled and sent % every == 0 else value
            partition, message = single(sent, far, int(at_s * 1000))
            parts.setdefault(partition, []).append(message)
            sent += 1
        found.append((at_s, request(topic, parts, int(at_s * 1000))))
    return found


def send_steadily(kafka: KafkaSettings, pace: float, begin_s: float, answer: Connection) -> None:
    """Send the schedule; answers with the longest delay of a request."""
    requests = schedule(kafka.readings_topic, pace, begin_s)
    gc.freeze()
    late_s = play(kafka.bootstrap_servers, requests)
    answer.send(late_s)


def read_alerts(kafka: KafkaSettings, until_s: float, answer: Connection) -> None:
    """Answers with the delay of each alert of a reading that is far off."""
    consumer = KafkaConsumer(**consumer_options(kafka))
    place = TopicPartition(kafka.alerts_topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    decoder, delays = msgspec.json.Decoder(Alert), []
    while time.time() < until_s:
        for record in consumer.poll(timeout_ms=20).get(place, ()):
            alert = decoder.decode(record.value)
            if alert.event == "opened" and alert.channels and (alert.channels[0].actual or 0) == MARK:
                delays.append(time.time() - parse_time(alert.starts_at) / 1000)
    consumer.close()
    answer.send(delays)


def measure_delays(settings: Settings, pace: float, full: float) -> Delays:
    """Send at a pace, in readings a second, while the worker works; `full` is its full speed."""
    kafka = settings.kafka
    begin_s = time.time() + PREPARE_S
    end_s = begin_s + SETTLE_S + SECONDS + 5
    send(kafka, full_windows(int(begin_s * 1000), round(1000 * SENSORS / pace)))
    ends = end_offsets(kafka, kafka.readings_topic)
    worker = new_worker(settings)[0]
    context = multiprocessing.get_context("spawn")
    sending, sent = context.Pipe(duplex=False)
    reading, read = context.Pipe(duplex=False)
    helpers = [
        context.Process(target=send_steadily, args=(kafka, pace, begin_s, sent)),
        context.Process(target=read_alerts, args=(kafka, end_s, read)),
    ]
    try:
        for helper in helpers:
            helper.start()
        while time.time() < end_s:
            worker.step()
        held = worker.holdings.held
        if any(held[partition].told_until < end for partition, end in ends.items()):
            raise RuntimeError("the worker did not even fill its windows: give it more time")
        late_s, delays = sending.recv(), reading.recv()
    finally:
        worker.close()
        for helper in helpers:
            helper.join(20)
    return Delays(delays, pace, pace / full, late_s)
