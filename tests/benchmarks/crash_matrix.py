"""Kills a worker at every place of its step, again and again, and holds what is left against a run without a kill.

    python -m tests.benchmarks.crash_matrix [--output tests/benchmarks/crash_matrix.md]

500 sensors with known faults, 200,000 readings. The worker is a process of its own that sends itself SIGKILL at a place
of its step when it has taken in about half of what there is; then the next one takes over. The places are those of
`tests/integration/crashing.py`: the checkpoints of a step, and four inside the transaction. At the end a worker that
nobody kills finishes. Another group of consumers has the same readings and no kills. Compared are all committed
alerts, incident by incident, byte for byte but for the time of detection, and all rows in the store.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import redis

from stream_detector.local import running
from stream_detector.settings import Settings
from stream_detector.streaming.store.codec import unpack_outboxed
from stream_detector.streaming.store.keys import PartitionKeys
from tests.integration.crashing import PLACES
from tests.integration.streams import (
    alerts_of,
    by_incident,
    drain,
    make_topics,
    outcome,
    plant,
    send,
    settings_for,
    weights,
)

ROOT = Path(__file__).parents[2]
PARTITIONS = 3
A_LIFE_S = 180
WHERE = {
    "fetched": "after the poll, before anything is decided",
    "scored": "decided, nothing written",
    "before save": "before the script",
    "saved": "between the script and the transaction",
    "sending": "transaction begun, nothing sent",
    "sent": "messages at the broker",
    "answered": "offsets in the transaction, too",
    "committed": "committed, the outbox not emptied",
    "published": "after the step",
}


def planned(kills: int) -> list[str]:
    """Places in a mixed order, each as often as the others."""
    places = [PLACES[i % len(PLACES)] for i in range(-(-kills // len(PLACES)) * len(PLACES))]
    return [places[i] for i in np.random.default_rng(0).permutation(len(places)).tolist()]


def kill(arguments: Sequence[str], place: str, readings: int) -> None:
    """One life of a worker; raises RuntimeError if it ends otherwise than by its own hand."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.dying", *arguments, place, str(readings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=A_LIFE_S, check=False)
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the worker ended with {done.returncode} at {place}: {done.stderr[-3000:]}")


def stored(settings: Settings) -> tuple[int, int]:
    """How many messages of the topic the state has taken in, and how many are saved and not known to be told yet."""
    store: Any = redis.Redis.from_url(settings.redis.url.get_secret_value())
    kafka, taken, waiting = settings.kafka, 0, 0
    for partition in range(PARTITIONS):
        keys = PartitionKeys(settings.redis.prefix, kafka.group_id, kafka.readings_topic, partition)
        taken += int(store.hget(keys.meta, "next_offset") or 0)
        waiting += sum(len(unpack_outboxed(entry).messages) for entry in store.lrange(keys.outbox, 0, -1))
    store.close()
    return taken, waiting


def run(kafka: str, redis_url: str, directory: Path, sensors: int, steps: int, kills: int) -> list[str]:
    """The lines of the page."""
    topic, made, begin = f"matrix-{uuid.uuid4().hex[:8]}", weights(directory), time.monotonic()
    killed = settings_for(kafka, redis_url, topic, made, group="killed")
    calm = settings_for(kafka, redis_url, topic, made, group="calm")
    for settings in (killed, calm):
        make_topics(settings, PARTITIONS)
    messages = plant(sensors, steps, PARTITIONS).messages
    plan, stakes = planned(kills), Counter[str]()
    # In portions: every life has something to lose, and dies when most of what there is has been taken in.
    rng, sent = np.random.default_rng(1), 0
    for number, (portion, place) in enumerate(
        zip(np.array_split(np.arange(len(messages)), len(plan)), plan, strict=True), 1
    ):
        send(killed, [messages[i] for i in portion])
        sent += len(portion)
        # A step may take in a third of a portion, and one more must follow for the place to be come to.
        left = sent - stored(killed)[0]
        kill([kafka, redis_url, topic, "killed", str(directory)], place, int(left * rng.uniform(0.25, 0.6)))
        taken, waiting = stored(killed)
        stakes[place] += waiting
        print(
            f"{number:3} of {len(plan)}  {time.monotonic() - begin:6.0f} s  {place}: {taken:,} of {sent:,}", flush=True
        )
    for settings in (killed, calm):
        drain(settings, PARTITIONS, limit_s=900)
    lines = page(killed, calm, plan, stakes)
    lines[2] += (
        f", {len(messages):,} readings of {sensors} sensors in {PARTITIONS} partitions, {len(plan)} times SIGKILL."
    )
    return [*lines, "", f"It took {(time.monotonic() - begin) / 60:.0f} minutes."]


def page(killed: Settings, calm: Settings, plan: Sequence[str], stakes: Counter[str]) -> list[str]:
    """What came of it."""
    told, expected = by_incident(alerts_of(killed)), by_incident(alerts_of(calm))
    states, wanted = outcome(killed, PARTITIONS).states, outcome(calm, PARTITIONS).states
    count, places = sum(map(len, told.values())), Counter(plan)
    kinds = Counter((alert.kind, alert.event) for alert in alerts_of(calm))
    return [
        "# Killed at every step",
        "",
        f"`python -m tests.benchmarks.crash_matrix --output tests/benchmarks/crash_matrix.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "",
        "| killed at | where that is | times | messages in the outbox then |",
        "| --- | --- | ---: | ---: |",
        *(f"| {place} | {WHERE[place]} | {places[place]} | {stakes[place]} |" for place in PLACES),
        "",
        "| | with kills | without |",
        "| --- | ---: | ---: |",
        f"| incidents | {len(told):,} | {len(expected):,} |",
        f"| committed alerts | {count:,} | {sum(map(len, expected.values())):,} |",
        f"| rows in the store | {len(states):,} | {len(wanted):,} |",
        "",
        f"Alerts byte for byte (but for `detected_at`): **{'equal' if told == expected else 'DIFFERENT'}**. "
        f"Rows byte for byte: **{'equal' if states == wanted else 'DIFFERENT'}**.",
        "",
        "Told: " + ", ".join(f"{kind} {event} {times:,}" for (kind, event), times in sorted(kinds.items())) + ".",
    ]


def main() -> int:
    """Run it, print, and write the page if asked to; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--sensors", type=int, default=500)
    parser.add_argument("--steps", type=int, default=410, help="readings of each sensor; some fall silent for a while")
    parser.add_argument("--kills", type=int, default=54)
    args = parser.parse_args()
    with running() as servers, tempfile.TemporaryDirectory() as directory:
        lines = run(servers.kafka, servers.redis, Path(directory), args.sensors, args.steps, args.kills)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int("DIFFERENT" in "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
