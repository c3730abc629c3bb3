"""How long it takes from sending a reading to reading its alert, committed, while a worker has much to do.

One process sends at a steady pace, a second one reads alerts, the worker is in this one. Now and then a reading is far
off; its own time is when it was sent, and its alert says that time.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from stream_detector.records import Alert, parse_time
from stream_detector.settings import KafkaSettings, Settings
from stream_detector.streaming.kafka_client import consumer_options
from stream_detector.streaming.topics import end_offsets
from tests.benchmarks.load import SENSORS, full_windows, new_worker, send, single

SECONDS = 20
SETTLE_S = 3
PREPARE_S = 25
"""In which windows are filled before the sending begins."""
TICK_S = 0.01
MARKS_A_SECOND = 20
MARK = 1e6


@dataclass(frozen=True)
class Delays:
    """Of each alert; how many readings a second were sent, and what share of the full speed that is."""

    seconds: list[float]
    sent_a_second: float
    share: float


def send_steadily(kafka: KafkaSettings, pace: float, begin_s: float, answer: Connection) -> None:
    """Readings of all sensors in turn, every so often one that is far off; answers with the pace that was kept."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=5, batch_size=1 << 17)
    rng = np.random.default_rng(3)
    time.sleep(max(0.0, begin_s - time.time()))
    sent, settled, total = 0, int(pace * SETTLE_S), int(pace * (SETTLE_S + SECONDS))
    every = int(pace / MARKS_A_SECOND) // 10 * 10 + 1  # so that it meets all sensors in turn
    while sent < total:
        due = min(total, int((time.time() - begin_s) * pace), sent + every)
        for value in rng.normal(size=due - sent).tolist():
            far = MARK if sent > settled and sent % every == 0 else value
            partition, message = single(sent, far, int(time.time() * 1000))
            producer.send(kafka.readings_topic, value=message, partition=partition)
            sent += 1
        time.sleep(TICK_S)
    answer.send(sent / (time.time() - begin_s))
    producer.flush()
    producer.close()


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
        kept, delays = sending.recv(), reading.recv()
    finally:
        worker.close()
        for helper in helpers:
            helper.join(20)
    return Delays(delays, kept, kept / full)
