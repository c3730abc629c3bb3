"""Speed and memory of the core without a model, as ratios within one run.

    python tests/benchmarks/core.py [--output tests/benchmarks/core.md]

Readings of many sensors go through `Detector.step` in batches of 5,000, every one with a score of its own: its
value's distance from the centre. What
is compared: readings a second with 1,000 sensors, the cost of a reading with 100,000 sensors against 100, and the
bytes of the rows against the bytes of the readings that a window holds.
"""

from __future__ import annotations

import argparse
import platform
import time
import tracemalloc
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from stream_detector.detect import buffers
from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.detect.due import Due
from stream_detector.detect.scoring import Scored
from stream_detector.detect.state import SensorTable
from stream_detector.models.artifact import Artifact, TrainedOn
from stream_detector.records import Readings
from stream_detector.settings import Budget

BATCH = 5_000
WINDOW = 100


@dataclass(frozen=True)
class IdentityConfig:
    """An identity model has nothing to configure."""

    window: int
    channels: int


class Identity(torch.nn.Module):
    """Stands where a model would: never called."""

    name = "identity"

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config


class IdentityScorer:
    """The newest value's distance from the centre is its score: no model, only what is around one."""

    def score(self, due: Due) -> Scored:
        """Absolute values of the freshest steps."""
        fresh = due.held.last(due.time_ms.shape[1])
        return Scored(np.abs(fresh - due.center[:, None])[:, :, 0], fresh, fresh, fresh, fresh, fresh)


def detector() -> Detector:
    """A detector without a model, for one channel."""
    trained_on = TrainedOn("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0, 0)
    artifact = Artifact(Identity(IdentityConfig(WINDOW, 1)), ("value",), {}, None, trained_on)
    running = Detector(artifact, DetectorOptions(Budget.parse("1 per 7d")))
    running.scorer = IdentityScorer()
    return running


def batches(sensors: int, count: int) -> list[Readings]:
    """`count` batches of readings that go round all sensors, a minute apart for each sensor."""
    rng = np.random.default_rng(0)
    place = np.arange(count * BATCH)
    sensor, time_ms = place % sensors, place // sensors * 60_000
    values = rng.normal(size=(len(place), 1))
    return [
        Readings(sensor[i : i + BATCH], time_ms[i : i + BATCH], values[i : i + BATCH])
        for i in range(0, len(place), BATCH)
    ]


def seconds_a_reading(sensors: int, measured: int) -> float:
    """Time of a reading when all windows are full, the least disturbed half of the batches."""
    running = detector()
    running.sensors([f"sensor-{i}" for i in range(sensors)])
    warm = -(-sensors * (WINDOW + 5) // BATCH)
    spent = []
    for number, batch in enumerate(batches(sensors, warm + measured)):
        start = time.perf_counter()
        running.step(batch)
        if number >= warm:
            spent.append(time.perf_counter() - start)
    return float(np.mean(np.sort(spent)[: len(spent) // 2])) / BATCH


def memory_ratio(sensors: int = 20_000) -> float:
    """Bytes that live on when all windows are full, against the bytes of the readings that the windows hold."""
    readings = batches(sensors, -(-sensors * (WINDOW + 30) // BATCH))
    ids = [f"sensor-{i}" for i in range(sensors)]
    tracemalloc.start()
    table = SensorTable(buffers.fields(WINDOW, 1))
    table.rows(ids)
    rolling = buffers.Buffers(table, WINDOW, 1)
    for batch in readings:
        rolling.append(batch)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / (sensors * WINDOW * 16)


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--batches", type=int, default=100, help="batches measured for each size of fleet")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cost = {sensors: seconds_a_reading(sensors, args.batches) for sensors in (100, 1_000, 10_000, 100_000)}
    lines = [
        "# The core without a model",
        "",
        f"`python tests/benchmarks/core.py --output tests/benchmarks/core.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, one thread.",
        "",
        "| sensors | readings a second | cost of a reading against 100 sensors |",
        "| ---: | ---: | ---: |",
        *(f"| {n:,} | {1 / c:,.0f} | {c / cost[100]:.2f} |" for n, c in cost.items()),
        "",
        f"Memory of the buffers: {memory_ratio():.2f} times the bytes of the windows' readings (time and value, "
        f"{WINDOW} readings of one channel).",
    ]
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
