"""A fleet whose normal behaviour changes half way, with the trainer beside the worker and without it.

    python -m tests.benchmarks.refresh [--output tests/benchmarks/refresh.md]

Sensors with a reading every 5 minutes, 28 days. From the 15th day on all machines run faster, with another shape, more
swing and more noise: nothing of it is a fault. Faults of known kind and time are planted before and after, in the first
fleet about as many as the budget grants alarms, in the second three times as many: a threshold that no label has told
which alarms were right cannot let all of them through for long. The real worker reads from a real Kafka and keeps its
rows in a real Redis; the real trainer runs at the end of each day, with the default settings but for the interval. Both
arms begin with the weights that the trainer makes after 7 days; in the second it stays away from then on. Messages bear
the time of their readings, and the trainer is told that time, so that 28 days pass in minutes. What can be reached
after the change is shown by a third arm, without refreshes, in which the machines have run in the new way from the
first day on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from kafka import KafkaProducer

from stream_detector.evaluation.matching import match
from stream_detector.local import running
from stream_detector.records import Alert, Floats, parse_time
from stream_detector.settings import DetectorSettings, RedisSettings, Settings, TrainerSettings
from stream_detector.simulate import INJECTORS, Fault, draw_length, draw_magnitude
from stream_detector.streaming.hot_swap import HotSwap
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import Registry, open_registry
from stream_detector.streaming.trainer import Trainer
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from stream_detector.training.fit import Progress
from tests.integration.streams import alerts_of, lag, make_topics, own_topics

A_DAY, DAYS, PARTITIONS = 288, 28, 2
FLEETS = {"a fault a week": (48, 3), "a fault every other day": (24, 1)}
"""Sensors of a fleet, and of how many days with faults each of them has one."""
LEARNED, CHANGED, SETTLED = 7, 14, 16
"""Days after which the first weights are there, normal is another, and two refreshes have known of it."""
STEP_MS = 300_000
START_MS = 1_767_571_200_000
A_MESSAGE = 12
KINDS = ("spike", "level_shift", "drift", "frequency_change")
PHASES = {"before": (LEARNED, CHANGED), "until two refreshes": (CHANGED, SETTLED), "after them": (SETTLED, DAYS)}
WEEK_DAYS = 7
ARMS = (("with the trainer", True, CHANGED), ("without", False, CHANGED), ("new from the first day", False, 0))
"""Name, whether weights are refreshed, and after how many days machines run in the new way."""


@dataclass(frozen=True)
class Plant:
    """values: (days * A_DAY, sensors)."""

    values: Floats
    faults: Sequence[Fault]

    @property
    def sensors(self) -> int:
        """How many there are."""
        return len(self.values[0])


@dataclass
class Arm:
    """What came of the readings. outcomes: of the refreshes. swaps: how many weights alerts name."""

    alerts: list[Alert] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    swaps: int = 0


def plant(sensors: int, every: int, changed_after: int = CHANGED, seed: int = 0) -> Plant:
    """The fleet and its faults; healthy values of the two ways, noise and faults' places are the same in every arm."""
    rng = np.random.default_rng(seed)
    steps = DAYS * A_DAY
    t = np.arange(steps)[:, None]
    turn = 2 * np.pi / rng.uniform(22, 30, sensors)
    early = np.sin(turn * t) + 0.3 * np.sin(2 * turn * t + 1)
    late = 1.6 * np.abs(((1.9 * turn * t / np.pi) % 2) - 1) * 2 - 1.6 + 0.4 * np.sin(5 * turn * t)
    changed = t >= changed_after * A_DAY
    healthy = np.where(changed, late, early) + rng.normal(size=(steps, sensors)) * np.where(changed, 0.25, 0.15)
    healthy = rng.uniform(40, 80, sensors) + rng.uniform(2, 6, sensors) * healthy
    values, faults = healthy.copy(), []
    for sensor in range(sensors):
        for number, day in enumerate((8, 10, 12, 17, 19, 21, 23, 25)):
            if (sensor + number) % every:
                continue
            kind = KINDS[(sensor // every + number) % len(KINDS)]
            length, magnitude = draw_length(kind, rng), draw_magnitude(kind, rng)
            start = day * A_DAY + int(rng.integers(A_DAY))
            faulty = INJECTORS[kind](healthy[:, [sensor]], start, length, [0], magnitude, rng)
            values[start : start + length, sensor] = faulty[start : start + length, 0]
            ends = (START_MS + STEP_MS * row for row in (start, start + length - 1))
            faults.append(Fault(f"machine-{sensor:02}", kind, ("value",), *ends, magnitude))
    return Plant(np.round(values, 3), faults)


def send(settings: Settings, values: Floats, begin: int) -> None:
    """Readings (steps, sensors) from a step on; each message has the time of its newest reading."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20, acks="all")
    for first in range(0, len(values), A_MESSAGE):
        times = [START_MS + STEP_MS * (begin + first + i) for i in range(len(values[first : first + A_MESSAGE]))]
        for sensor in range(values.shape[1]):
            rows = [[value] for value in values[first : first + A_MESSAGE, sensor].tolist()]
            body = {"sensor_id": f"machine-{sensor:02}", "timestamps": times, "values": rows, "channels": ["value"]}
            producer.send(
                settings.kafka.readings_topic,
                json.dumps(body).encode(),
                partition=sensor % PARTITIONS,
                timestamp_ms=times[-1],
            )
    producer.flush()
    producer.close()


def settings_of(kafka: str, redis: str, name: str, directory: Path) -> Settings:
    """What an arm runs with."""
    return Settings(
        detector=DetectorSettings(budget="1 per 7d"),
        kafka=own_topics(kafka, name),
        redis=RedisSettings.model_validate({"url": redis, "prefix": name}),
        trainer=TrainerSettings(interval="1d", directory=directory / name),
    )


@contextlib.contextmanager
def quiet() -> Iterator[Callable[[str], Progress]]:
    """Progress for nobody."""
    yield lambda name: lambda done, total, loss: None


def run(settings: Settings, registry: Registry, fleet: Plant, refreshes: bool) -> Arm:
    """Let 28 days pass."""
    arm = Arm()
    make_topics(settings, PARTITIONS)
    weights = Weights(settings.detector.window, registry)
    champions = HotSwap(registry, weights)
    worker = Worker(settings, Profiles(settings, weights.artifact, former=weights.by_digest), champions=champions)
    for day in range(DAYS):
        send(settings, fleet.values[day * A_DAY : (day + 1) * A_DAY], day * A_DAY)
        while len(worker.holdings.held) < PARTITIONS or lag(settings, worker) > 0:
            worker.step()
        if day + 1 == LEARNED or (refreshes and day + 1 > LEARNED):
            now_s = (START_MS + STEP_MS * A_DAY * (day + 1)) / 1000
            done = Trainer(settings, registry, quiet, lambda at=now_s: at).once()  # type: ignore[misc]
            arm.outcomes += [f"day {day + 1}: {outcome}" for outcome in done.outcome.values()]
            print(settings.kafka.group_id, arm.outcomes[-1], flush=True)
            champions.look()
            worker.step()
    worker.close()
    arm.alerts = [alert for alert in alerts_of(settings) if alert.kind in ("anomaly", "regime_change")]
    arm.swaps = len({alert.model.digest for alert in arm.alerts if alert.model})
    return arm


def within(at_ms: int, phase: tuple[int, int]) -> bool:
    """Whether a time lies in these days."""
    return phase[0] <= (at_ms - START_MS) / (STEP_MS * A_DAY) < phase[1]


def anomalies(arm: Arm, phase: tuple[int, int]) -> list[Alert]:
    """All steps of the anomalies that began in these days."""
    return [one for one in arm.alerts if one.kind == "anomaly" and within(parse_time(one.starts_at), phase)]


def false_alarms(arm: Arm, fleet: Plant, phase: tuple[int, int]) -> float:
    """Incidents without a fault that began in these days, by sensor and week."""
    false = match(anomalies(arm, phase), fleet.faults, grace_ms=100 * STEP_MS).false_incidents
    return false / fleet.sensors / (phase[1] - phase[0]) * WEEK_DAYS


def found(arm: Arm, faults: Sequence[Fault], phase: tuple[int, int]) -> tuple[int, int]:
    """Faults of these days that an incident which began in them has met, and how many there were."""
    mine = [fault for fault in faults if within(fault.start_ms, phase)]
    begun = [one for one in arm.alerts if one.kind == "anomaly"]
    # An incident that began long before the fault tells nobody of it.
    hits = sum(
        any(
            one.event == "opened"
            and one.sensor_id == fault.sensor_id
            and fault.start_ms - 10 * STEP_MS <= parse_time(one.starts_at) <= fault.end_ms + 10 * STEP_MS
            for one in begun
        )
        for fault in mine
    )
    return hits, len(mine)


def muted(arm: Arm, phase: tuple[int, int]) -> int:
    """Times that a sensor fell silent for having alerted too often."""
    told = [one for one in arm.alerts if one.kind == "regime_change" and one.event == "opened"]
    return sum(within(parse_time(one.starts_at), phase) for one in told)


def page(title: str, arms: dict[str, Arm], fleet: Plant) -> list[str]:
    """What one fleet came to."""
    lines = [
        f"## {title[0].upper()}{title[1:]}",
        "",
        f"{fleet.sensors} sensors.",
        "",
        "| | days | false alarms by sensor and week | faults found | sensors that fell silent (`regime_change`) |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, arm in arms.items():
        for when, phase in PHASES.items():
            hits, of = found(arm, fleet.faults, phase)
            recall = f"{hits} of {of} ({hits / of:.0%})" if of else "-"
            days = f"{phase[0] + 1} to {phase[1]}"
            false = false_alarms(arm, fleet, phase)
            lines.append(f"| {name}, {when} | {days} | {false:.2f} | {recall} | {muted(arm, phase)} |")
    lines += ["", "Faults found after the change, by kind:", "", *by_kind(arms, fleet)]
    lines += ["", "False alarms by sensor and week, day by day:", "", *picture(arms, fleet), ""]
    for name, arm in arms.items():
        lines.append(f"- {name}: {'; '.join(arm.outcomes)}. Alerts name {arm.swaps} different weights.")
    return lines


def by_kind(arms: dict[str, Arm], fleet: Plant) -> list[str]:
    """A table of the faults found in the last phase."""
    lines = ["| | " + " | ".join(KINDS) + " |", "| --- |" + " ---: |" * len(KINDS)]
    for name, arm in arms.items():
        cells = []
        for kind in KINDS:
            hits, of = found(arm, [fault for fault in fleet.faults if fault.kind == kind], (SETTLED, DAYS))
            cells.append(f"{hits} of {of}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def picture(arms: dict[str, Arm], fleet: Plant) -> list[str]:
    """A chart as Mermaid text, a line an arm."""
    days = range(LEARNED, DAYS)
    lines = ["```mermaid", "xychart-beta", f'    title "{", ".join(arms)}: the lines in this order"']
    lines.append(f'    x-axis "day" {[day + 1 for day in days]}')
    lines.append('    y-axis "false alarms by sensor and week"')
    for arm in arms.values():
        lines.append(f"    line {[round(false_alarms(arm, fleet, (day, day + 1)), 2) for day in days]}")
    return [*lines, "```"]


def measured(title: str, directory: Path) -> list[str]:
    """Let a fleet's 28 days pass in each arm; its part of the page."""
    sensors, every = FLEETS[title]
    arms = {}
    with running(directory) as servers:
        for name, refreshes, changed in ARMS:
            settings = settings_of(servers.kafka, servers.redis, name.split()[0], directory)
            with open_registry(settings) as registry:
                arms[name] = run(settings, registry, plant(sensors, every, changed), refreshes)
    return page(title, arms, plant(sensors, every))


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    lines = [
        "# A change of what is normal, with and without the trainer",
        "",
        f"`python -m tests.benchmarks.refresh`, {date.today()}, {platform.machine()}. {DAYS} days of readings every 5 "
        f"minutes; after {CHANGED} days all machines run differently. The budget is 1 false alarm per sensor and week. "
        f"A fault counts as found by an incident that begins at it (within 10 readings).",
    ]
    for title in FLEETS:
        with tempfile.TemporaryDirectory() as directory:
            lines += ["", *measured(title, Path(directory))]
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
