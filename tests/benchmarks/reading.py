"""How fast the trainer reads its history, and how much memory that takes, for topics of growing size.

    python -m tests.benchmarks.reading [--output tests/benchmarks/reading.md] [--readings 200000,2000000,8000000]

10,000 sensors in 4 partitions; topics with one reading a message and with 50. The history is read as the trainer reads
it, with its default limits (500 sensors and 200,000 readings of a line are kept, whatever there is), each time in a
process of its own, whose largest resident size is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from stream_detector.benchmark.load import Load, send
from stream_detector.benchmark.plan import Plan
from stream_detector.local import running
from stream_detector.settings import KafkaSettings, QualitySettings, Settings
from stream_detector.streaming import history
from stream_detector.streaming.topics import ensure_topics
from stream_detector.streaming.weights import Weights

A_MESSAGE, PARTITIONS, SENSORS = 50, 4, 10_000
NOW_MS = 4_000_000_000_000


def read(address: str, topic: str) -> dict[str, Any]:
    """Read a topic as the trainer does; what was found, in plain values. For a process of its own."""
    kafka = KafkaSettings(bootstrap_servers=address, readings_topic=topic)
    settings = Settings(kafka=kafka, quality=QualitySettings(clock_ahead="36500d"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    weights = Weights(settings.detector.window)
    recent = history.read(settings, weights.artifact, NOW_MS, NOW_MS)
    return {
        "messages": recent.messages,
        "readings": recent.readings,
        "skipped": recent.skipped,
        "kept": sum(len(one.readings) for one in recent.histories.values()),
        "sensors": sum(len(one.sensor_ids) for one in recent.histories.values()),
        "seconds": recent.seconds,
        "before_mb": before / 1024,
        "most_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def page(rows: Sequence[tuple[str, int, Mapping[str, Any]]]) -> list[str]:
    """The results page."""
    lines = [
        "# The trainer's reading",
        "",
        f"`python -m tests.benchmarks.reading --output tests/benchmarks/reading.md`, {date.today()}, "
        f"{platform.machine()}, {os.cpu_count()} cores, the broker on the same machine. {SENSORS:,} sensors.",
        "",
        "| messages | readings in the topic | read | too far back | kept, readings | of sensors | readings/s "
        "| largest resident size, MB | of it before reading |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, there, one in rows:
        lines.append(
            f"| {kind} | {there:,} | {one['readings']:,} | {one['skipped']:,} messages | {one['kept']:,} "
            f"| {one['sensors']:,} | {one['readings'] / one['seconds']:,.0f} | {one['most_mb']:.0f} "
            f"| {one['before_mb']:.0f} |"
        )
    return lines


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--readings", default="200000,2000000,8000000")
    parser.add_argument("--read", nargs=2, metavar=("KAFKA", "TOPIC"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        print(json.dumps(read(*args.read)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as servers:
        for kind, batched, most in (("single", 1, 2_000_000), ("many", A_MESSAGE, sys.maxsize)):
            for count in map(int, args.readings.split(",")):
                if count > most:
                    continue
                kafka = KafkaSettings(bootstrap_servers=servers.kafka, readings_topic=f"{kind}-{count}")
                ensure_topics(kafka, {kafka.readings_topic: PARTITIONS})
                plan = Plan(sensors=SENSORS, partitions=PARTITIONS, batched=batched)
                send(kafka, Load(plan).messages(0, count // batched))
                command = [sys.executable, "-m", "tests.benchmarks.reading", "--read", servers.kafka]
                done = subprocess.run([*command, kafka.readings_topic], capture_output=True, text=True, check=True)
                rows.append(
                    (
                        f"{batched} readings" if batched > 1 else "one reading",
                        count,
                        json.loads(done.stdout.splitlines()[-1]),
                    )
                )
                print(rows[-1], flush=True)
    lines = page(rows)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
