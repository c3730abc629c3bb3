"""A worker under steady load for a long time: whether its memory grows, and its alerts come later and later.

    python -m tests.benchmarks.soak [--minutes 20] [--output tests/benchmarks/soak.md]

First the worker's full speed is measured, then readings are sent at a share of it, minute after minute, while the
worker works in this process. One process sends, a second one reads the alerts. The first minutes do not count: windows
are full from the beginning, but buffers of clients and of the allocator are not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from stream_detector.benchmark import identity
from stream_detector.benchmark.delays import MARK, TICK_S, coprime
from stream_detector.benchmark.load import Load, send
from stream_detector.benchmark.place import own_place
from stream_detector.benchmark.plan import Plan
from stream_detector.benchmark.prepared import play, request
from stream_detector.benchmark.report import resident_bytes
from stream_detector.benchmark.running import caught_up, new_worker
from stream_detector.benchmark.throughput import measure_speed
from stream_detector.local import running
from stream_detector.records import Alert, parse_time
from stream_detector.settings import KafkaSettings, RedisSettings, Settings
from stream_detector.streaming.kafka_client import consumer_options
from stream_detector.streaming.topics import end_offsets
from stream_detector.streaming.worker import Worker

PLAN = Plan(model=identity.NAME)
MARKS_A_SECOND = 10
WARM_UP = 4
"""Minutes that do not count."""
SAMPLE_S = 2.0
LINGER_S = 10.0
MEBIBYTE = 1 << 20
Delay = tuple[float, float]
"""Seconds since the beginning at which an alert came, and its delay."""


@dataclass(frozen=True)
class Soaked:
    """What was seen: memory and readings taken in by second, delays of alerts, and the longest delay of the sender."""

    pace: float
    memory: list[tuple[float, int, int]]
    delays: list[Delay]
    late_s: float


def requests(
    kafka: KafkaSettings, load: Load, pace: float, begin_s: float, total_s: float
) -> Iterator[tuple[float, bytes]]:
    """Readings of all sensors in turns, made just before they go; every so often one that is far off."""
    rng, number = np.random.default_rng(5), 0
    every = coprime(int(pace / MARKS_A_SECOND), PLAN.sensors)
    for tick in range(1, round(total_s / TICK_S) + 1):
        at_s = begin_s + tick * TICK_S
        parts: dict[int, list[bytes]] = {}
        for rows in rng.normal(size=(int(tick * TICK_S * pace) - number, 1, 1)).round(4):
            if number % every == 0:
                rows[-1] = MARK
            partition, message = load.message_at(number, int(at_s * 1000), rows)
            parts.setdefault(partition, []).append(message)
            number += 1
        yield at_s, request(kafka.readings_topic, parts, int(at_s * 1000))


def send_steadily(
    kafka: KafkaSettings, load: Load, pace: float, begin_s: float, total_s: float, to: Connection
) -> None:
    """Answers with the longest delay of a request."""
    to.send(play(kafka.bootstrap_servers, requests(kafka, load, pace, begin_s, total_s)))


def read_alerts(kafka: KafkaSettings, begin_s: float, until_s: float, to: Connection) -> None:
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
                now = time.time()
                delays.append((now - begin_s, now - parse_time(alert.starts_at) / 1000))
    consumer.close()
    to.send(delays)


def soak(settings: Settings, pace: float, minutes: float) -> Soaked:
    """Let the worker work for so long."""
    begin_s = time.time() + 20
    load = Load(PLAN, int(begin_s * 1000), 1000 * PLAN.sensors / pace)
    total_s = minutes * 60
    with own_place(settings, PLAN) as own:
        kafka = own.kafka
        send(kafka, load.full_windows())
        ends = end_offsets(kafka, kafka.readings_topic)
        worker = new_worker(own, PLAN.artifact())[0]
        context = multiprocessing.get_context("spawn")
        sent, to_sent = context.Pipe(duplex=False)
        read, to_read = context.Pipe(duplex=False)
        until_s = begin_s + total_s + LINGER_S
        helpers = [
            context.Process(target=send_steadily, args=(kafka, load, pace, begin_s, total_s, to_sent), daemon=True),
            context.Process(target=read_alerts, args=(kafka, begin_s, until_s, to_read), daemon=True),
        ]
        try:
            for helper in helpers:
                helper.start()
            while not caught_up(worker, ends):
                worker.step()
            memory = watched(worker, begin_s, total_s)
            while not (sent.poll() and read.poll()):
                worker.step()
            return Soaked(pace, memory, read.recv(), sent.recv())
        finally:
            worker.close()
            for helper in helpers:
                helper.terminate()
                helper.join(5)


def watched(worker: Worker, begin_s: float, total_s: float) -> list[tuple[float, int, int]]:
    """Work until the time is up; seconds since the beginning, resident bytes and readings taken in, now and then."""
    found: list[tuple[float, int, int]] = []
    next_s = begin_s
    while time.time() < begin_s + total_s:
        worker.step()
        if time.time() >= next_s:
            next_s += SAMPLE_S
            found.append((time.time() - begin_s, resident_bytes(), worker.counts.readings))
            if len(found) % round(60 / SAMPLE_S) == 0:
                print(
                    f"{found[-1][0]:6.0f} s  {found[-1][1] / MEBIBYTE:.1f} MiB  {found[-1][2]:,} readings", flush=True
                )
    return found


def page(found: Soaked, minutes: int, share: float, full: float) -> list[str]:
    """The results as Markdown."""
    rows = [minute_of(found, minute) for minute in range(minutes)]
    warm_up = min(WARM_UP, minutes // 3)
    counted = rows[warm_up:]
    memory = [row[1] for row in counted]
    growth = max(memory[-2:]) / memory[0] - 1
    third = max(1, len(counted) // 3)
    before, after = (float(np.median([row[2] for row in part])) for part in (counted[:third], counted[-third:]))
    return [
        "# Under steady load",
        "",
        f"`python -m tests.benchmarks.soak --minutes {minutes} --share {share} --output tests/benchmarks/soak.md`, "
        f"{date.today()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores (broker, store, sender "
        f"and reader on the same machine; load {os.getloadavg()[2]:.1f} over the last 15 minutes), Python "
        f"{platform.python_version()}.",
        "",
        f"{PLAN.sensors:,} sensors, {PLAN.partitions} partitions, one reading a message, the model that costs nothing; "
        f"{found.pace:,.0f} readings/s for {minutes} minutes, {share:.0%} of the {full:,.0f} that were measured just "
        f"before. The sender was late by {found.late_s:.2f} s at most, which is in the delays.",
        "",
        f"Memory after the first {warm_up} minutes: **{growth:+.2%}**. Median delay, last third against the first: "
        f"**{after / before - 1:+.0%}** ({before:.2f} s, then {after:.2f} s).",
        "",
        "| minute | readings/s taken in | resident memory, MiB | delay, median, s | 99th percentile, s | alerts |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {i + 1} | {row[0]:,.0f} | {row[1] / MEBIBYTE:.1f} | {row[2]:.2f} | {row[3]:.2f} | {row[4]} |"
            for i, row in enumerate(rows)
        ),
    ]


def minute_of(found: Soaked, minute: int) -> tuple[float, float, float, float, int]:
    """Readings a second, the most memory, median and 99th percentile of delays, and their number."""
    some = [one for one in found.memory if minute <= one[0] / 60 < minute + 1]
    delays = [delay for at_s, delay in found.delays if minute <= at_s / 60 < minute + 1] or [float("nan")]
    pace = (some[-1][2] - some[0][2]) / max(some[-1][0] - some[0][0], 1e-9) if len(some) > 1 else float("nan")
    most = float(max((one[1] for one in some), default=0))
    return pace, most, float(np.median(delays)), float(np.percentile(delays, 99)), len(delays)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--minutes", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.7, help="of the full speed")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as servers:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=servers.kafka),
            redis=RedisSettings.model_validate({"url": servers.redis}),
        )
        speed = measure_speed(settings, PLAN, PLAN.artifact(), lambda done, total: None)
        full = speed.a_second(speed.worker)
        found = soak(settings, full * args.share, args.minutes)
    lines = page(found, args.minutes, args.share, full)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
