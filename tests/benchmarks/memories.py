"""One memory that all sensors of a profile share, beside one for each sensor: quality, bytes, windows a second.

    python -m tests.benchmarks.memories [SMD] [--sensors 1000] [--own 200]
        [--output tests/benchmarks/memories.md]

A fleet is simulated (the field plant: four channels, one fault a sensor behind the part that is learned). The default
detector learns from all sensors together, with one memory, as it does everywhere; and from each of some sensors alone,
with a memory of its own, once of all its windows and once of as many as fit into 20 KB. The forecast stays as it was
pretrained, so that memories alone differ. SMD, where given, is a directory of machines whose names end in `_trainN`,
with the same channels: these are a fleet too. What is judged are the later rows, scored as in production; the measure
is VUS-PR, mean over the sensors that have a fault, and the difference to the shared memory is paired.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import torch

from stream_detector.detect.scoring import Scorer
from stream_detector.evaluation import sets
from stream_detector.evaluation.metrics.buffer import buffer_of
from stream_detector.evaluation.metrics.ranking import vus_pr
from stream_detector.evaluation.metrics.spread import mean_with_interval
from stream_detector.evaluation.results import lowest_where_missing
from stream_detector.models.artifact import Artifact
from stream_detector.records import Bools, Floats, Ints, Readings
from stream_detector.simulate import simulate
from stream_detector.training.fit import FitOptions
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, consecutive_scores, train

WINDOW, ROWS, LEARNED = 128, 2000, 0.5
OWN_BYTES = 20_000
AS_PRETRAINED = FitOptions(epochs=1, steps=1)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sensor:
    """A sensor's readings (N, C), the first `learned` of them normal, and which are faulty (N,)."""

    name: str
    time_ms: Ints
    values: Floats
    label: Bools
    learned: int


@dataclass
class Arm:
    """What one kind of memory came to. quality: VUS-PR by sensor. held: bytes of its windows, of all sensors."""

    quality: dict[str, float] = field(default_factory=dict)
    sensors: int = 0
    held: int = 0
    windows: int = 0
    seconds: float = 0.0


def simulated(count: int) -> list[Sensor]:
    """A fleet of machines."""
    fleet = simulate("plant", sensors=count, rows=ROWS, seed=0, faults_per_sensor=1, clean=LEARNED)
    return [Sensor(one.sensor_id, one.time_ms, one.values, one.label, round(LEARNED * ROWS)) for one in fleet.series]


def machines(directory: Path) -> list[Sensor]:
    """Those of a directory."""
    found = []
    for series in sets.find(directory, "csv"):
        labelled = sets.read(series)
        if labelled.learned is None:
            raise SystemExit(f"{series.path}: its name does not end in _trainN")
        order = labelled.table.order
        values, time_ms = labelled.table.values[order], labelled.table.time_ms[order]
        found.append(Sensor(series.name, time_ms, values, labelled.labels[order], labelled.learned))
    return found


def history(sensors: Sequence[Sensor], rows: Callable[[Sensor], slice]) -> History:
    """Some rows of each sensor, in time order."""
    parts = [
        (np.full(len(one.time_ms[rows(one)]), number), one.time_ms[rows(one)], one.values[rows(one)])
        for number, one in enumerate(sensors)
    ]
    sensor, time_ms, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(time_ms, kind="stable")
    channels = tuple(f"c{i:02}" for i in range(values.shape[1]))
    return History(Readings(sensor[order], time_ms[order], values[order]), [one.name for one in sensors], channels)


def learned(sensors: Sequence[Sensor], **config: int) -> Artifact:
    """The default detector, from what these sensors are known to have been like."""
    options = TrainOptions("multiscale", WINDOW, fit=AS_PRETRAINED, config=config)
    return train(history(sensors, lambda one: slice(0, one.learned)), options, lambda done, total, loss: None)


def judge(sensors: Sequence[Sensor], weights: Artifact, arm: Arm) -> None:
    """Score the later rows of these sensors, all at once, with a memory that nobody else has."""
    later = history(sensors, lambda one: slice(one.learned - WINDOW + 1, None))
    scorer = Scorer(weights.model, CPU)
    begun = time.process_time()
    scores = consecutive_scores(later, scorer, weights.scaler)
    arm.seconds += time.process_time() - begun
    known = weights.model.state_dict()["memory.known"]
    arm.sensors += len(sensors)
    arm.held += known.numel() * known.element_size()
    for one in sensors:
        score, label = scores[one.name], one.label[one.learned :]
        arm.windows += len(score)
        if label.any():
            arm.quality[one.name] = vus_pr(label, lowest_where_missing(score), buffer_of(one.values[:, 0]))


def measured(sensors: Sequence[Sensor], own_of: int) -> dict[str, Arm]:
    """All kinds of memory; of so many sensors their own, evenly taken."""
    channels = sensors[0].values.shape[1]
    few = OWN_BYTES // (2 * WINDOW * channels)
    arms = {"shared": Arm(), "its own, all windows": Arm(), f"its own, {few} windows (20 KB)": Arm()}
    shared, own, small = arms.values()
    judge(sensors, learned(sensors), shared)
    some = sensors[:: max(1, len(sensors) // own_of)]
    for number, one in enumerate(some):
        judge([one], learned([one]), own)
        judge([one], learned([one], memory=few), small)
        if number % 50 == 0:
            print(f"{number} of {len(some)}", flush=True)
    return arms


def table(title: str, sensors: Sequence[Sensor], own_of: int) -> list[str]:
    """One fleet's part of the page."""
    arms = measured(sensors, own_of)
    base = arms["shared"].quality
    channels = sensors[0].values.shape[1]
    lines = [
        f"## {title}",
        "",
        f"{len(sensors)} sensors, {channels} channels, {sensors[0].learned:,} rows learned from, of each.",
        "",
        "| memory | VUS-PR | less the shared one | of sensors | bytes of memory a sensor | windows/s of one core |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, arm in arms.items():
        both = base.keys() & arm.quality.keys()
        mean, low, high = mean_with_interval([arm.quality[sensor] - base[sensor] for sensor in sorted(both)])
        gained = "" if arm.quality is base else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        lines.append(
            f"| {name} | {np.mean(list(arm.quality.values())):.3f} | {gained} | {len(both)} | "
            f"{arm.held / arm.sensors:,.0f} | {arm.windows / arm.seconds:,.0f} |"
        )
    return [*lines, ""]


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("smd", type=Path, nargs="?")
    parser.add_argument("--sensors", type=int, default=1000)
    parser.add_argument("--own", type=int, default=200, help="sensors that get memories of their own, at most")
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fleets = f"{' SMD' if given.smd else ''} --sensors {given.sensors} --own {given.own}"
    lines = [
        "# A memory that sensors share, and one for each",
        "",
        f"`python -m tests.benchmarks.memories{fleets}`, {date.today()}, {platform.machine()}. The "
        f"default detector; mean over the sensors that have a fault, with a 95 % interval of the difference (paired, "
        "bootstrap).",
        "",
        *table("Simulated machines", simulated(given.sensors), given.own),
    ]
    if given.smd:
        lines += table("Machines of the Server Machine Dataset", machines(given.smd), given.own)
    print("\n".join(lines))
    if given.output:
        given.output.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
