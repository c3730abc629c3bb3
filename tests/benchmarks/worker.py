"""Speed of the worker from Kafka to Kafka, against a loop that only polls and decodes, within one run.

    python -m tests.benchmarks.worker [--output tests/benchmarks/worker.md]

10,000 sensors in 4 partitions, all windows full before the clock starts. The model is next to nothing (how far the
newest value lies from the centre), or the default one with a stride of 10; everything around it is what runs in
production: groups, decoding, windows, thresholds, rows in Redis, transactions. Held against it, in the same process
and on the same messages: polling alone, and polling with `json.loads`. Then readings are sent at a part of the speed
that was found, and it is measured how long it takes from sending a reading to reading its alert, committed.
`stream-detector benchmark` measures the same on any machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from stream_detector.benchmark import identity
from stream_detector.benchmark.delays import Delays, measure_delays
from stream_detector.benchmark.plan import STAGES, Plan
from stream_detector.benchmark.throughput import Speed, measure_speed
from stream_detector.local import running
from stream_detector.settings import KafkaSettings, RedisSettings, Settings

PLAN = Plan(model=identity.NAME)
SECONDS = 20.0
SINGLE = "one reading"
CASES: dict[str, tuple[float, dict[str, Any]]] = {
    SINGLE: (1, {}),
    "50 readings": (5, {"batched": 50}),
    "one reading, the default, stride 10": (0.5, {"model": "multiscale", "stride": 10}),
    "50 readings, the default, stride 10": (0.5, {"model": "multiscale", "stride": 10, "batched": 50}),
}
"""What is sent: readings, as a multiple of those asked for, and how the plan differs."""


def silent(done: int, total: int) -> None:
    """The page says it all."""


def page(speeds: Mapping[str, Speed], delays: Sequence[Delays]) -> list[str]:
    """The results as Markdown."""
    return [
        "# The worker from Kafka to Kafka",
        "",
        f"`python -m tests.benchmarks.worker --output tests/benchmarks/worker.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores (broker and store on the same machine; "
        f"load {os.getloadavg()[2]:.1f} over the last 15 minutes), Python {platform.python_version()}.",
        "",
        f"{PLAN.sensors:,} sensors, {PLAN.partitions} partitions, windows of {PLAN.window}; settings as they come, but "
        "for the stride where one is named. Redis writes its append-only file.",
        "",
        *speed_tables(speeds),
        "",
        "Microseconds of a reading on the wall, by stage:",
        "",
        *stage_table(speeds),
        "",
        "The model alone, on full batches that are made ready, in the same rounds:",
        "",
        *score_table(speeds),
        "",
        f"From sending a reading to reading its alert, committed, over {SECONDS:g} s; the sender (it made its messages "
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
    """Where the worker's time goes."""
    lines = ["| stage | " + " | ".join(speeds) + " |", "| --- |" + " ---: |" * len(speeds)]
    for stage in STAGES:
        costs = (one.stages.seconds.get(stage, 0.0) / one.total for one in speeds.values())
        lines.append(f"| {stage} | " + " | ".join(f"{cost * 1e6:.2f}" for cost in costs) + " |")
    return lines


def score_table(speeds: Mapping[str, Speed]) -> list[str]:
    """The scorer against the model alone."""
    lines = [
        "| | windows | model alone, windows/s | the stage `score` | it against the model alone |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, one in speeds.items():
        bare, stage = sum(spent[0] for spent in one.score), one.stages.seconds["score"]
        both = f"{one.windows / bare:,.0f} | {one.windows / stage:,.0f}"
        lines.append(f"| {name} | {one.windows:,} | {both} | {bare / stage:.2f} |")
    return lines


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument(
        "--readings", type=int, default=1_000_000, help="measured; five times as many of messages with many readings"
    )
    parser.add_argument("--rounds", type=int, default=5, help="in which they take turns")
    parser.add_argument(
        "--only", choices=CASES, nargs="*", default=list(CASES), help="these rows alone, without delays"
    )
    args = parser.parse_args()
    plans = {
        name: replace(PLAN, readings=round(args.readings * times), rounds=args.rounds, **changed)
        for name, (times, changed) in CASES.items()
        if name in args.only
    }
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as servers:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=servers.kafka),
            redis=RedisSettings.model_validate({"url": servers.redis}),
        )
        speeds = {name: measure_speed(settings, plan, plan.artifact(), silent) for name, plan in plans.items()}
        delays = []
        if len(plans) == len(CASES):
            full = speeds[SINGLE].a_second(speeds[SINGLE].worker)
            artifact = plans[SINGLE].artifact()
            delays = [
                measure_delays(settings, plans[SINGLE], artifact, full, share, SECONDS, True, silent)
                for share in (0.2, 0.5)
            ]
    lines = page(speeds, delays)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
