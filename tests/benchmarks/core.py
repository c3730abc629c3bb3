"""Speed and memory of the core without a model, as ratios within one run.

    python tests/benchmarks/core.py [--output tests/benchmarks/core.md]

Readings of many sensors go through `Detector.step` in batches of 5,000, every one scored by an identity model. What
is compared: readings a second with 1,000 sensors, the cost of a reading with 100,000 sensors against 100, and the
bytes of the rows against the bytes of the readings that a window holds.
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from stream_detector.detect import buffers
from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.models.artifact import Artifact, TrainedOn
from stream_detector.models.interface import Scores
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
    """The distance of the newest value from the centre is its score: no model, only what is around one."""

    name = "identity"

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config

    def score(self, windows: torch.Tensor, steps: int) -> Scores:
        """The freshest steps' absolute values."""
        fresh = windows[:, -steps:].abs()
        return Scores(fresh.mean(dim=2), fresh, fresh, fresh, fresh)


def detector() -> Detector:
    """A detector around the identity model, one channel."""
    trained_on = TrainedOn("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0, 0)
    artifact = Artifact(Identity(IdentityConfig(WINDOW, 1)), ("value",), {}, None, trained_on)
    return Detector(artifact, DetectorOptions(Budget.parse("1 per 7d")))


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
    """Bytes that the process grows by for the buffers of full windows, against the bytes of their readings."""
    from stream_detector.detect.state import SensorTable

    table = SensorTable(buffers.fields(WINDOW, 1))
    before = resident()
    table.rows([f"sensor-{i}" for i in range(sensors)])
    rolling = buffers.Buffers(table, WINDOW, 1)
    for batch in batches(sensors, -(-sensors * (WINDOW + 30) // BATCH)):
        rolling.append(batch)
    return (resident() - before) / (sensors * WINDOW * 16)


def resident() -> int:
    """Resident bytes of this process now."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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
