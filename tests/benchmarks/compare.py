"""Other stream processors beside the worker, in one run, and what another client of Kafka would give.

    python -m venv others && others/bin/pip install bytewax confluent-kafka quixstreams
    python -m tests.benchmarks.compare --python others/bin/python [--output tests/benchmarks/compare.md]

The same readings, one in a message, are worked on by applications of Bytewax and Quix Streams that keep 100 readings of
each sensor and compute a z-score (`tests/benchmarks/others`), by the worker with the model that costs nothing, and by
bare loops of both clients. The packages are the extra `compare`; an environment of its own keeps their needs apart from
ours. What is not installed, or fails, is said and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from stream_detector.benchmark import identity
from stream_detector.benchmark.load import Load
from stream_detector.benchmark.plan import Plan
from stream_detector.benchmark.throughput import Speed, measure_speed
from stream_detector.local import running
from stream_detector.settings import KafkaSettings, RedisSettings, Settings
from stream_detector.streaming.topics import ensure_topics

PLAN = Plan(model=identity.NAME, sensors=1_000)
"""So few that the windows of the others become full, and they have scores to compute."""
OTHERS = Path(__file__).with_name("others")
LIMIT_S = 300
CONFLUENT = "confluent-kafka, poll and `json.loads`"
APPLICATIONS = {
    "Bytewax, z-score": ("bytewax", "bytewax_app.py", ()),
    "Quix Streams, z-score, at least once": ("quixstreams", "quix_app.py", ()),
    "Quix Streams, z-score, exactly once": ("quixstreams", "quix_app.py", ("exactly-once",)),
    CONFLUENT: ("confluent-kafka", "confluent_loop.py", ()),
}
"""What is run beside: its package, its file, and what it is told."""


@dataclass(frozen=True)
class Ran:
    """What an application said of itself, or why it said nothing."""

    version: str
    found: Mapping[str, Any] | None
    failure: str = ""

    @property
    def a_second(self) -> float:
        """Readings."""
        return float(self.found["readings"] / self.found["seconds"]) if self.found else float("nan")


def run(python: Path, name: str, broker: str, topic: str, readings: int) -> Ran:
    """One application, in a process of its own."""
    package, file, more = APPLICATIONS[name]
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    asked = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    if asked.returncode:
        return Ran("", None, f"{package} is not installed there")
    command = [str(python), str(OTHERS / file), broker, topic, str(readings), *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return Ran(asked.stdout.strip(), None, f"it had not ended after {LIMIT_S} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Ran(asked.stdout.strip(), None, f"exit code {done.returncode}: {last[:200]}")
    return Ran(asked.stdout.strip(), json.loads(done.stdout.strip().splitlines()[-1]))


def send_keyed(kafka: KafkaSettings, plan: Plan) -> None:
    """The messages with their sensors as keys, which the others share the work by."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=20, batch_size=1 << 18)
    for number, (partition, value) in enumerate(Load(plan).messages(0, plan.readings)):
        key = identity.sensor_id(number % plan.sensors).encode()
        producer.send(kafka.readings_topic, key=key, value=value, partition=partition)
    producer.flush()
    producer.close()


def page(speed: Speed, ran: Mapping[str, Ran], readings: int) -> list[str]:
    """The results as Markdown."""
    ours, loop = speed.a_second(speed.worker), speed.a_second(speed.loop)
    rows = {
        "kafka-python, poll and `json.loads`": (loop, ""),
        "**the worker**, windows, thresholds, exactly once": (ours, ""),
        **{name: (one.a_second, one.version) for name, one in ran.items() if one.found},
    }
    missing = [f"{name}: {one.failure}." for name, one in ran.items() if not one.found]
    return [
        "# Beside others",
        "",
        f"`python -m tests.benchmarks.compare --python others/bin/python --output tests/benchmarks/compare.md`, "
        f"{date.today()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores (broker and store on "
        f"the same machine; load {os.getloadavg()[2]:.1f} over the last 15 minutes), Python "
        f"{platform.python_version()}.",
        "",
        f"{readings:,} readings of {PLAN.sensors:,} sensors in {PLAN.partitions} partitions, one reading a message. "
        "The others keep 100 readings of a sensor and compute a z-score; their windows begin empty, the worker's are "
        "full.",
        "",
        "| | version | readings/s | the worker against it |",
        "| --- | --- | ---: | ---: |",
        *(
            f"| {name} | {version} | {speed_of:,.0f} | {ours / speed_of:.2f} |"
            for name, (speed_of, version) in rows.items()
        ),
        "",
        *(["Not run: " + " ".join(missing), ""] if missing else []),
        *confluent_lines(speed, ran[CONFLUENT]),
    ]


def confluent_lines(speed: Speed, other: Ran) -> list[str]:
    """What the worker would be with the other client, reckoned: all else stays as it was measured."""
    if not other.found:
        return []
    whole = sum(one[0] for one in speed.worker) / speed.total * 1e6
    poll = speed.stages.seconds["poll"] / speed.total * 1e6
    theirs = float(other.found["poll_seconds"]) / other.found["readings"] * 1e6
    then = whole - poll + theirs
    return [
        f"Of a reading's {whole:.2f} microseconds in the worker {poll:.2f} go into polling; a bare poll of "
        f"confluent-kafka takes {theirs:.2f}. With it, all else as it is, the worker would take {then:.2f}: "
        f"**{whole / then:.2f} times** as quick. Its messages would still have to become columns.",
    ]


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter that has the others")
    parser.add_argument("--readings", type=int, default=200_000)
    args = parser.parse_args()
    plan = replace(PLAN, readings=args.readings)
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as servers:
        kafka = KafkaSettings(bootstrap_servers=servers.kafka, readings_topic="beside")
        settings = Settings(kafka=kafka, redis=RedisSettings.model_validate({"url": servers.redis}))
        speed = measure_speed(settings, plan, plan.artifact(), lambda done, total: None)
        ensure_topics(kafka, {kafka.readings_topic: plan.partitions, f"{kafka.readings_topic}-scores": 1})
        send_keyed(kafka, plan)
        ran = {
            name: run(args.python, name, servers.kafka, kafka.readings_topic, plan.readings) for name in APPLICATIONS
        }
    lines = page(speed, ran, plan.readings)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
