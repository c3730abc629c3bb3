"""What overlapping a worker's stages could give: a sketch that keeps no promise, held against the worker as it is.

    python -m tests.benchmarks.overlap [--output tests/benchmarks/overlap.md]

Three ways take turns on one worker, each round on new messages: as it is; with save and transaction on a thread of
their own while the next batch is fetched and scored; and with fetching on a thread of its own, too. The sketch does
what an overlapped worker would have to do at least, and nothing of what makes it right: nobody may join or leave the
group meanwhile, and nothing may fail. It says how much there is to win, not how.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from stream_detector.benchmark import identity
from stream_detector.benchmark.bare import Spent, Watch
from stream_detector.benchmark.load import Load, send
from stream_detector.benchmark.place import own_place
from stream_detector.benchmark.plan import Plan
from stream_detector.benchmark.running import caught_up, new_worker
from stream_detector.local import running
from stream_detector.settings import KafkaSettings, RedisSettings, Settings
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.holdings import Step
from stream_detector.streaming.topics import end_offsets
from stream_detector.streaming.worker import Worker

PLAN = Plan(model=identity.NAME)
CASES: dict[str, tuple[float, dict[str, Any]]] = {
    "one reading": (1, {}),
    "50 readings": (4, {"batched": 50}),
    "one reading, the default, stride 10": (0.5, {"model": "multiscale", "stride": 10}),
}
WAYS = ("as it is", "writing behind", "writing behind, fetching ahead")


class Overlapped:
    """A worker's two ends on threads: at most one batch is being written, and one is fetched."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._pool = worker, ThreadPoolExecutor(2)
        self._finish, self._gather = worker._finish, worker._gather
        self._rows = worker.holdings._rows.changed
        self._written: Future[None] | None = None
        self._fetched: Future[list[Fetched]] | None = None

    def choose(self, way: str) -> None:
        """Go on in one of the ways."""
        worker: Any = self._worker
        self.settle()
        worker._finish = self._finish if way == WAYS[0] else self._write_behind
        worker._gather = self._fetch_ahead if way == WAYS[2] else self._gather
        # The rows are taken before the next batch changes them, on the thread that detects.
        worker.holdings._rows.changed = self._rows if way == WAYS[0] else lambda rows: rows

    def settle(self) -> None:
        """Wait until nothing is under way."""
        if self._written is not None:
            self._written.result()
        self._written = None

    def _write_behind(self, steps: Sequence[Step]) -> None:
        worker = self._worker
        rows: Any = self._rows(worker._profiles.fleet.dirty())
        self.settle()

        def write() -> None:
            worker.holdings.save(steps, rows)
            worker.holdings.publish(steps)

        self._written = self._pool.submit(write)

    def _fetch_ahead(self) -> list[Fetched]:
        fetched = self._fetched.result() if self._fetched is not None else self._gather()
        self._fetched = self._pool.submit(self._gather)
        return fetched

    def stop_fetching(self) -> list[Fetched]:
        """What was fetched ahead and not worked on yet: there is nothing more to come when this is asked."""
        fetched, self._fetched = (self._fetched.result() if self._fetched is not None else []), None
        return fetched


def work(worker: Worker, overlapped: Overlapped, ends: dict[int, int]) -> Spent:
    """Let it work until it has answered for everything; how long that took."""
    watch = Watch()
    while not caught_up(worker, ends):
        worker.step()
    overlapped.settle()
    spent = watch.spent()
    if overlapped.stop_fetching():
        raise RuntimeError("something was fetched that nobody sent")
    return spent


def measure(settings: Settings, plan: Plan) -> dict[str, list[Spent]]:
    """Each way in each round, on messages of its own."""
    load, spent = Load(plan), {way: list[Spent]() for way in WAYS}
    with own_place(settings, plan) as own:
        send(own.kafka, load.full_windows())
        ends = end_offsets(own.kafka, own.kafka.readings_topic)
        worker, _ = new_worker(own, plan.artifact())
        overlapped = Overlapped(worker)
        try:
            work(worker, overlapped, ends)
            for number in range(plan.rounds * len(WAYS)):
                way = WAYS[number % len(WAYS)]
                send(own.kafka, load.messages(number * plan.messages, plan.messages))
                ends = end_offsets(own.kafka, own.kafka.readings_topic)
                overlapped.choose(way)
                spent[way].append(work(worker, overlapped, ends))
            overlapped.choose(WAYS[0])
        finally:
            worker.close()
    return spent


def page(found: dict[str, tuple[Plan, dict[str, list[Spent]]]]) -> list[str]:
    """The results as Markdown."""
    lines = [
        "# What overlapping could give",
        "",
        f"`python -m tests.benchmarks.overlap --output tests/benchmarks/overlap.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores (broker and store on the same machine; "
        f"load {os.getloadavg()[2]:.1f} over the last 15 minutes), Python {platform.python_version()}.",
        "",
        "A sketch of a worker that writes one batch while it detects in the next, and of one that also fetches ahead; "
        "the three ways take turns. Waiting is the share of the time in which the worker as it is uses no processor, "
        "be it that broker or store have not answered yet, or that they and others have the processor: more than that "
        "cannot be won. The worker itself overlaps nothing: what is given up is that a batch is saved and told before "
        "the next one changes a row, which the way back after an error stands on.",
        "",
        "| messages | " + " | ".join(f"{way}, readings/s" for way in WAYS) + " | gain of writing behind | of both "
        "| waiting as it is |",
        "| --- |" + " ---: |" * (len(WAYS) + 3),
    ]
    for name, (plan, spent) in found.items():
        a_round = plan.messages * plan.batched
        speeds = [a_round * len(spent[way]) / sum(one[0] for one in spent[way]) for way in WAYS]
        gains = [
            float(np.median([plain[0] / other[0] for plain, other in zip(spent[WAYS[0]], spent[way], strict=True)]))
            for way in WAYS[1:]
        ]
        waiting = 1 - sum(one[1] for one in spent[WAYS[0]]) / sum(one[0] for one in spent[WAYS[0]])
        cells = [*(f"{speed:,.0f}" for speed in speeds), *(f"{gain - 1:+.0%}" for gain in gains), f"{waiting:.0%}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--readings", type=int, default=300_000, help="for each way, of messages with one reading")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, tuple[Plan, dict[str, list[Spent]]]] = {}
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as servers:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=servers.kafka),
            redis=RedisSettings.model_validate({"url": servers.redis}),
        )
        for name, (times, changed) in CASES.items():
            plan = replace(PLAN, readings=round(args.readings * times), rounds=args.rounds, **changed)
            found[name] = plan, measure(settings, plan)
            print(page(found)[-1], flush=True)
    lines = page(found)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
