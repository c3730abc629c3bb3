"""How the worker's cost, memory and restart grow with sensors, channels and windows.

    python -m tests.benchmarks.growth [--output tests/benchmarks/growth.md] [--most 1000000]

The state of a fleet whose windows are full is put into Redis, then a worker is started on it, in a process of its own
each time: until it is ready, until all its sensors are back, and, over readings of all sensors in turn, the processor
time of a reading and what a sensor takes in memory. The scorer does next to nothing (`identity.Identity`).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis

from stream_detector.benchmark import identity
from stream_detector.benchmark.identity import EVERY_MS, START_MS
from stream_detector.benchmark.load import send
from stream_detector.benchmark.running import caught_up
from stream_detector.benchmark.stages import Stages
from stream_detector.local import running
from stream_detector.models.artifact import Artifact
from stream_detector.records import Readings
from stream_detector.settings import DetectorSettings, RedisSettings, Settings, WorkerSettings
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.store import PartitionSave, Rows, Store
from stream_detector.streaming.stored_rows import Meta
from stream_detector.streaming.topics import end_offsets, ensure_topics
from stream_detector.streaming.worker import Worker
from tests.integration.streams import own_topics

IMPORTED_S, IMPORTED_BUSY_S = time.time(), time.process_time()
SIZES = (
    (100, 1, 100),
    (10_000, 1, 100),
    (1_000_000, 1, 100),
    (10_000, 100, 100),
    (10_000, 1, 1_000),
    (10_000, 10, 100),
    (10_000, 1, 50),
    (100_000, 1, 100),
    (10_000, 1, 300),
)
"""Sensors, channels, window; the first is what the others are held against."""
PARTITIONS = 4
READINGS = 50_000
NUMBERS = 500_000
"""Readings of a round, or so many numbers where there are many channels."""
MODELLED = 64
"""Sensors whose rows stand for those of all."""
ROWS_A_SAVE = 20_000
WHY = (
    "What bends, and why. The readings of few sensors fall on few rows: a batch writes each once, but decides the many "
    "windows of one sensor in turn (thresholds). Of many sensors each reading has a row of its own, in memory that no "
    "cache holds; it is found, gathered, packed and written whole (columns, buffers, rows, Redis), and now and then "
    "all sensors are looked at, for silence and for the numbers (buffers, quality; the rest). A row is a window and a "
    "fifth of readings, 8 bytes for the time and 8 for each channel, and some hundred bytes of what was learned: so "
    "memory, here and in Redis, and what a reading writes grow with window times channels. Coming back costs the read "
    "of a row and meeting its sensor. Until it is ready a worker asks whose rows there are and reads the first 32 MiB "
    "of each partition, whatever the fleet; the rest of that time is the program's start and the group's.",
)


@dataclass(frozen=True)
class Size:
    """A fleet, and the place where its state and its readings are."""

    sensors: int
    channels: int
    window: int
    kafka: str
    redis: str
    name: str

    @property
    def readings(self) -> int:
        """Readings of a round."""
        return min(READINGS, NUMBERS // self.channels)

    @property
    def names(self) -> tuple[str, ...]:
        """The channels."""
        return tuple(f"c{i:02}" for i in range(self.channels)) if self.channels > 1 else ("value",)

    @property
    def filled_ms(self) -> int:
        """When the windows are full."""
        return START_MS + EVERY_MS * 2 * self.window

    def settings(self) -> Settings:
        """A worker's settings with topics that are there already."""
        return Settings(
            detector=DetectorSettings(window=self.window),
            kafka=own_topics(self.kafka, self.name),
            redis=RedisSettings.model_validate({"url": self.redis, "prefix": self.name}),
            worker=WorkerSettings(max_sensors=2_000_000, max_channels=100),
        )


@dataclass
class Found:
    """What one size came to. Seconds since the process was started, microseconds of processor time, bytes."""

    imported_s: float = 0.0
    ready_s: float = 0.0
    ready_busy_s: float = 0.0
    waiting: int = 0
    first_s: float = 0.0
    back_s: float = 0.0
    returning_us: float = 0.0
    reading_us: float = 0.0
    process_mb: float = 0.0
    redis_bytes: float = 0.0
    stages_us: dict[str, float] = field(default_factory=dict)


def judge(size: Size) -> Artifact:
    """The scorer that does next to nothing; it knows no sensor."""
    return identity.artifact(size.window, size.names, 0, 10 * size.window)


def fill(size: Size) -> float:
    """Put the state of all sensors into Redis; how many bytes there are to each."""
    settings, made = size.settings(), judge(size)
    profiles = Profiles(settings, lambda model, channels: made)
    name = profiles.name("machine-0000000", size.names)
    detector, steps = profiles.fleet.detectors[name], 2 * size.window
    rows = detector.sensors([f"model-{i}" for i in range(MODELLED)])
    values = np.random.default_rng(3).normal(size=(steps * MODELLED, size.channels))
    times = START_MS + EVERY_MS * np.arange(steps).repeat(MODELLED)
    detector.step(Readings(np.tile(rows, steps), times, values))
    state = detector.table.state_of(rows)
    meta = Meta(
        run=size.name,
        watermark_ms=int(times[-1]),
        channels={profiles.shape(name): list(size.names)},
        models={name: detector.writer.model.digest},
        feedback={},
    )
    with redis.Redis.from_url(size.redis) as client, Store(settings.redis, settings.kafka.group_id) as store:
        client.execute_command("FLUSHALL", "SYNC")
        before = int(client.info("memory")["used_memory"])
        for partition in range(PARTITIONS):
            claim = store.claim(settings.kafka.readings_topic, partition)
            mine = np.arange(partition, size.sensors, PARTITIONS)
            for step, part in enumerate(np.array_split(mine, -(-len(mine) // ROWS_A_SAVE)), 1):
                ids = [f"machine-{i:07}" for i in part.tolist()]
                packed = Rows(detector.table.layout(), ids, state[part % MODELLED].tobytes())
                saved = None if step == 1 else 0
                save = PartitionSave(
                    claim.topic,
                    partition,
                    claim.epoch,
                    step,
                    saved,
                    0,
                    msgspec.json.encode(meta),
                    {profiles.shape(name): packed},
                )
                store.save([save])
        return (int(client.info("memory")["used_memory"]) - before) / size.sensors


def messages(size: Size, begin: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Readings of all sensors in turn, behind `begin` others."""
    values = np.random.default_rng(begin).normal(size=(count, size.channels)).round(4).tolist()
    for number, row in zip(range(begin, begin + count), values, strict=True):
        turn, place = divmod(number, size.sensors)
        # Where not all come to their turn, those that do are spread over the whole fleet.
        sensor = place * 7_919 % size.sensors
        record: dict[str, Any] = {"sensor_id": f"machine-{sensor:07}", "timestamp": size.filled_ms + EVERY_MS * turn}
        record |= {"value": row[0]} if size.channels == 1 else {"values": dict(zip(size.names, row, strict=True))}
        yield sensor % PARTITIONS, json.dumps(record).encode()


def restart(size: Size, begun: float) -> Found:
    """Start a worker on the fleet and let it work; begun: when this process was started."""
    settings, found, made = size.settings(), Found(IMPORTED_S - begun), judge(size)
    idle = resident()
    built, trained_s = time.time(), time.process_time() - IMPORTED_BUSY_S  # a real worker reads its weights instead
    profiles = Profiles(settings, lambda model, channels: made)
    worker = Worker(settings, profiles)
    begun += built - IMPORTED_S
    gc.collect()
    gc.freeze()
    topic = settings.kafka.readings_topic
    ends = end_offsets(settings.kafka, topic)
    busy = time.process_time()
    while not (worker.ready and len(worker.holdings.held) == PARTITIONS):
        worker.step()
    found.ready_s, found.waiting = time.time() - begun, worker.holdings.waiting
    found.ready_busy_s = time.process_time() - trained_s
    while not worker.counts.readings:
        worker.step()
    found.first_s = time.time() - begun
    while not found.returning_us or not found.back_s:
        worker.step()
        if not found.returning_us and all(worker.holdings.held[p].told_until >= end for p, end in ends.items()):
            found.returning_us = (time.process_time() - busy) / size.readings * 1e6
        if not found.back_s and not worker.holdings.waiting:
            found.back_s = time.time() - begun
    gc.collect()
    found.process_mb = (resident() - idle) / 1e6
    stages = Stages(time.process_time)
    stages.watch_worker(worker, profiles)
    for number in (1, 2):
        # The same sensors as in the round before, where there are more than a round has readings.
        turns = -(-size.readings // size.sensors)
        send(settings.kafka, messages(size, number * turns * size.sensors, size.readings))
        ends, begin_s = end_offsets(settings.kafka, topic), time.process_time()
        while not caught_up(worker, ends):
            worker.step()
        spent = (time.process_time() - begin_s) / size.readings * 1e6
        found.reading_us = min(spent, found.reading_us or spent)
    found.stages_us = {stage: spent / 2 / size.readings * 1e6 for stage, spent in stages.seconds.items()}
    worker.close()
    return found


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(kafka: str, redis_url: str, sensors: int, channels: int, window: int) -> Found:
    """One size, its worker in a process of its own."""
    size = Size(sensors, channels, window, kafka, redis_url, f"growth-{uuid.uuid4().hex[:8]}")
    topics = size.settings().kafka
    others = (topics.alerts_topic, topics.dead_letters_topic, topics.feedback_topic, topics.events_topic)
    ensure_topics(topics, {topics.readings_topic: PARTITIONS, **dict.fromkeys(others, 1)})
    redis_bytes = fill(size)
    send(size.settings().kafka, messages(size, 0, size.readings))
    command = [sys.executable, "-m", "tests.benchmarks.growth", "--child", json.dumps(asdict(size))]
    done = subprocess.run([*command, repr(time.time())], stdout=subprocess.PIPE, check=True, text=True)
    found = Found(**json.loads(done.stdout.splitlines()[-1]))
    found.redis_bytes = redis_bytes
    return found


def page(found: Sequence[tuple[tuple[int, int, int], Found]]) -> list[str]:
    """The results as Markdown."""
    least = found[0][1].reading_us
    lines = [
        "# Growth",
        "",
        f"`python -m tests.benchmarks.growth --output tests/benchmarks/growth.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores (broker and store on the same machine; "
        f"load {os.getloadavg()[2]:.1f} over the last 15 minutes), Python {platform.python_version()}.",
        "",
        f"One worker, {PARTITIONS} partitions, single readings as JSON, a score for each by a scorer that does next to "
        "nothing; the sensors take turns. Cost is the worker's processor time of a reading, sensors all there; "
        "returning: over the first readings after the start, while sensors come back from Redis. Times count from the "
        "start of the process. Imported: the program is loaded. Ready: all partitions are claimed, and the processor "
        "time until then; first: the first readings are answered for; all back: no sensor is in Redis alone any more, "
        "while readings are worked on.",
        "",
        "| sensors | channels | window | cost, µs | to the first | returning, µs | process grew by, MB "
        "| Redis, bytes a sensor | imported, s | ready, s | processor, s | first, s | not back then | all back, s |",
        "|" + " ---: |" * 14,
    ]
    found = sorted(found, key=lambda one: (one[0][1:] != (1, 100), one[0][1], one[0][2], one[0][0]))
    for (sensors, channels, window), one in found:
        cost = f"{one.reading_us:.1f} | {one.reading_us / least:.2f} | {one.returning_us:.1f}"
        memory = f"{one.process_mb:,.0f} | {one.redis_bytes:,.0f}"
        times = f"{one.imported_s:.1f} | {one.ready_s:.1f} | {one.ready_busy_s:.1f} | {one.first_s:.1f}"
        times += f" | {one.waiting:,} | {one.back_s:.1f}"
        lines.append(f"| {sensors:,} | {channels} | {window} | {cost} | {memory} | {times} |")
    stages = sorted(found[0][1].stages_us, key=lambda one: -max(size.stages_us.get(one, 0.0) for _, size in found))
    lines += [
        "",
        "Processor time of a reading by stage, µs:",
        "",
        f"| sensors | channels | window | {' | '.join(stages)} |",
    ]
    lines.append("|" + " ---: |" * (3 + len(stages)))
    for (sensors, channels, window), one in found:
        costs = " | ".join(f"{one.stages_us.get(stage, 0.0):.2f}" for stage in stages)
        lines.append(f"| {sensors:,} | {channels} | {window} | {costs} |")
    return [*lines, "", *WHY]


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--most", type=int, default=1_000_000, help="leave larger fleets out: a million take 8 GB")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(asdict(restart(Size(**json.loads(args.child[0])), float(args.child[1])))))
        return
    found: list[tuple[tuple[int, int, int], Found]] = []
    with running() as servers:
        for size in (one for one in SIZES if one[0] <= args.most):
            found.append((size, measure(servers.kafka, servers.redis, *size)))
            print(*size, found[-1][1], flush=True)
            if args.output:  # a large fleet takes long: what is known already is not lost with it
                args.output.write_text("\n".join(page(found)) + "\n", encoding="utf-8")
    print("\n".join(page(found)))


if __name__ == "__main__":
    main()
