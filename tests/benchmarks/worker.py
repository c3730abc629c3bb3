"""Speed of the worker from Kafka to Kafka, against a loop that only polls and decodes, within one run.

    python -m tests.benchmarks.worker [--output tests/benchmarks/worker.md]

10,000 sensors in 4 partitions, all windows full before the clock starts; the model is next to nothing (how far the
newest value lies from the centre), everything around it is what runs in production: groups, decoding, windows,
thresholds, rows in Redis, transactions. Held against it, in the same process and on the same messages: polling alone,
and polling with `json.loads`. Then readings are sent at half the speed that was found, and it is measured how long
it takes from sending a reading to reading its alert, committed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from stream_detector.local import running
from stream_detector.settings import Settings
from stream_detector.streaming.kafka_client import consumer_options
from stream_detector.streaming.topics import end_offsets
from stream_detector.streaming.worker import Worker
from tests.benchmarks.delays import SECONDS, Delays, measure_delays
from tests.benchmarks.load import (
    A_MESSAGE,
    PARTITIONS,
    SENSORS,
    WINDOW,
    full_windows,
    messages,
    new_worker,
    send,
    settings_for,
)
from tests.benchmarks.stages import Stages

RECORDS_A_POLL = 5_000


Spent = tuple[float, float]
"""Seconds on the wall, and of this process on a processor."""


def loop(settings: Settings, begins: dict[int, int], ends: dict[int, int], decode: bool) -> Spent:
    """A plain consumer on the same messages, with the same options as the worker's."""
    kafka = settings.kafka
    consumer = KafkaConsumer(**consumer_options(kafka))
    places = [TopicPartition(kafka.readings_topic, partition) for partition in begins]
    consumer.assign(places)
    for place in places:
        consumer.seek(place, begins[place.partition])
    left, decoded = sum(ends.values()) - sum(begins.values()), 0
    start, busy = time.perf_counter(), time.process_time()
    while left > 0:
        for records in consumer.poll(timeout_ms=50, max_records=RECORDS_A_POLL).values():
            left -= len(records)
            if decode:
                for record in records:
                    json.loads(record.value)
                    decoded += 1
    spent = time.perf_counter() - start, time.process_time() - busy
    consumer.close()
    return spent


def work(worker: Worker, ends: dict[int, int]) -> Spent:
    """Let it work until it has answered for everything; how long that took."""
    start, busy = time.perf_counter(), time.process_time()
    while any(partition not in worker.holdings.held for partition in ends) or any(
        worker.holdings.held[partition].told_until < end for partition, end in ends.items()
    ):
        worker.step()
    return time.perf_counter() - start, time.process_time() - busy


@dataclass
class Speed:
    """What polling alone, the loop and the worker took in each round, and the readings of a round."""

    readings: int
    poll: list[Spent] = field(default_factory=list)
    loop: list[Spent] = field(default_factory=list)
    worker: list[Spent] = field(default_factory=list)
    stages: Stages = field(default_factory=Stages)

    @property
    def ratio(self) -> float:
        """Readings a second of the worker against those of the loop: the median of the rounds."""
        return float(np.median([loop[0] / worker[0] for loop, worker in zip(self.loop, self.worker, strict=True)]))

    def a_second(self, spent: list[Spent], clock: int = 0) -> float:
        """Readings a second over all rounds: on the wall, or, with `clock` 1, of processor time."""
        return self.readings * len(spent) / sum(one[clock] for one in spent)


def throughput(kafka: str, redis_url: str, kind: str, readings: int, rounds: int) -> Speed:
    """The three in turns on the same messages, a part of the readings in each round."""
    settings = settings_for(kafka, redis_url)
    topics = settings.kafka
    send(topics, full_windows())
    begins = end_offsets(topics, topics.readings_topic)
    worker, profiles = new_worker(settings)
    speed = Speed(readings // rounds)
    try:
        work(worker, begins)
        speed.stages.watch_worker(worker, profiles)
        for number in range(rounds):
            send(topics, messages(kind, number * speed.readings, speed.readings))
            ends = end_offsets(topics, topics.readings_topic)
            speed.poll.append(loop(settings, begins, ends, decode=False))
            speed.loop.append(loop(settings, begins, ends, decode=True))
            speed.worker.append(work(worker, ends))
            begins = ends
    finally:
        worker.close()
    return speed


def page(speeds: Mapping[str, Speed], delays: Sequence[Delays]) -> list[str]:
    """The results as Markdown."""
    return [
        "# The worker from Kafka to Kafka",
        "",
        f"`python -m tests.benchmarks.worker --output tests/benchmarks/worker.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores (broker and store on the same machine; "
        f"load {os.getloadavg()[2]:.1f} over the last 15 minutes), Python {platform.python_version()}.",
        "",
        f"{SENSORS:,} sensors, {PARTITIONS} partitions, windows of {WINDOW}, a score for every reading; settings as "
        f"they come. Redis writes its append-only file.",
        "",
        *speed_tables(speeds),
        "",
        "Microseconds of a reading on the wall, by stage:",
        "",
        *stage_table(speeds),
        "",
        f"From sending a reading to reading its alert, committed, over {SECONDS} s; the sender (it made its messages "
        "before), broker, worker, store and reader share the cores:",
        "",
        "| sent, readings/s | of the speed above | sender late by, s | alerts | median, s | 99th percentile, s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *map(delay_line, delays),
    ]


def delay_line(one: Delays) -> str:
    """A row of the table of delays."""
    sent = f"| {one.sent_a_second:,.0f} | {one.share:.0%} | {one.late_s:.2f} | {len(one.seconds)} "
    return sent + f"| {np.median(one.seconds):.2f} | {np.percentile(one.seconds, 99):.2f} |"


def speed_tables(speeds: Mapping[str, Speed]) -> list[str]:
    """Readings a second by the clock on the wall, and by that of the processor."""
    wall = [
        "| messages | readings | poll alone, readings/s | poll and `json.loads` | worker | worker against the loop |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    busy = [
        "| messages | poll alone | poll and `json.loads` | worker | worker against the loop |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, speed in speeds.items():
        sides = " | ".join(f"{speed.a_second(spent):,.0f}" for spent in (speed.poll, speed.loop, speed.worker))
        wall.append(f"| {name} | {speed.readings * len(speed.worker):,} | {sides} | {speed.ratio:.2f} |")
        poll, plain, ours = (speed.a_second(spent, 1) for spent in (speed.poll, speed.loop, speed.worker))
        busy.append(f"| {name} | {poll:,.0f} | {plain:,.0f} | {ours:,.0f} | {ours / plain:.2f} |")
    between = (
        "Readings to a second of the process's own processor time, which others on the machine disturb less (the "
        "store's and the broker's is not in it):"
    )
    return [*wall, "", between, "", *busy]


def stage_table(speeds: Mapping[str, Speed]) -> list[str]:
    """Where the worker's time goes, the dearest stage first."""
    lines = ["| stage | " + " | ".join(speeds) + " |", "| --- |" + " ---: |" * len(speeds)]
    first = next(iter(speeds.values())).stages.seconds
    for stage in sorted(first, key=lambda one: -first[one]):
        costs = (one.stages.seconds.get(stage, 0.0) / (one.readings * len(one.worker)) for one in speeds.values())
        lines.append(f"| {stage} | " + " | ".join(f"{cost * 1e6:.2f}" for cost in costs) + " |")
    return lines


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument(
        "--readings", type=int, default=1_000_000, help="measured; five times as many of messages with many readings"
    )
    parser.add_argument("--rounds", type=int, default=5, help="in which the three take turns")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as servers:
        speeds = {
            name: throughput(servers.kafka, servers.redis, kind, readings, args.rounds)
            for name, kind, readings in (
                ("one reading", "single", args.readings),
                (f"{A_MESSAGE} readings", "many", 5 * args.readings),
            )
        }
        single_speed = speeds["one reading"]
        full = single_speed.a_second(single_speed.worker)
        delays = [
            measure_delays(settings_for(servers.kafka, servers.redis), full * share, full) for share in (0.2, 0.5)
        ]
    lines = page(speeds, delays)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
