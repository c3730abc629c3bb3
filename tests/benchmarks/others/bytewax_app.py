"""A Bytewax application that keeps 100 readings of each sensor and computes a z-score: `... BROKER TOPIC READINGS`.

Runs where Bytewax is installed, which need not be where stream-detector is. Prints readings and seconds as JSON; the
seconds count from the first message on.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

WINDOW = 100


class Counted(StatelessSinkPartition[Any]):
    """Counts what comes out."""

    seen = 0
    began_s = ended_s = 0.0

    def write_batch(self, items: list[Any]) -> None:
        """Take the scores of a batch."""
        Counted.seen += len(items)
        Counted.ended_s = time.perf_counter()


class Counter(DynamicSink[Any]):
    """One count for each worker."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Counted:
        """The count of a worker."""
        return Counted()


def keyed(message: Any) -> tuple[str, float]:
    """Sensor and value of a message."""
    if not Counted.began_s:
        Counted.began_s = time.perf_counter()
    record = json.loads(message.value)
    return record["sensor_id"], record["value"]


def score(state: tuple[deque[float], float, float] | None, value: float) -> tuple[Any, float]:
    """The z-score of a value among the 100 before it, by running sums."""
    kept, total, squares = state or (deque(), 0.0, 0.0)
    z = 0.0
    if len(kept) == WINDOW:
        mean = total / WINDOW
        z = (value - mean) / max(squares / WINDOW - mean * mean, 1e-12) ** 0.5
        old = kept.popleft()
        total, squares = total - old, squares - old * old
    kept.append(value)
    return (kept, total + value, squares + value * value), z


def main() -> None:
    """Run to the end of the topic."""
    broker, topic, _ = sys.argv[1:]
    flow = Dataflow("zscore")
    read = kop.input("in", flow, brokers=[broker], topics=[topic], tail=False, batch_size=1000)
    scored = op.stateful_map("score", op.map("keyed", read.oks, keyed), score)
    op.output("out", scored, Counter())
    run_main(flow)
    print(json.dumps({"readings": Counted.seen, "seconds": Counted.ended_s - Counted.began_s}))


if __name__ == "__main__":
    main()
