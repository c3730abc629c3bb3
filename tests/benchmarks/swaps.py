"""Weights are swapped under load while workers and the trainer are killed at random moments.

    python -m tests.benchmarks.swaps [--output tests/benchmarks/swaps.md] [--swaps 20]

Two workers and a trainer run as a user starts them, with a real Kafka and a real Redis, which holds the registry too.
Readings of two kinds of sensors, with faults, come at an even pace. The trainer refreshes both lines of weights again
and again; in between a person goes back to the weights before. Every few seconds a worker or the trainer is killed
with SIGKILL and started again. When the lines have had so many champions and everything is answered for, what was told
is held against itself, against the registry, and against the state that the workers leave.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from stream_detector.errors import ArtifactError, OutsideError
from stream_detector.local import running
from stream_detector.records import Alert
from stream_detector.settings import Settings, load
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import Registry, open_registry
from stream_detector.streaming.weights import Weights
from tests.integration.streams import alerts_of, make_topics, outcome, plant, send
from tests.integration.workers import Feeder, wait_until_answered

COMMAND = Path(sys.executable).with_name("stream-detector")
MODEL, WINDOW, PARTITIONS, SENSORS = "sub-pca", 24, 3, 40
BEFORE, STEPS = 700, 9000
A_SECOND = 1500
KILL_EVERY_S = (1.0, 4.0)
SETTINGS = """
[detector]
model = "{model}"
window = {window}
budget = "1 per 400 readings"
[incidents]
close_after = 5
[quality]
clock_ahead = "36500d"
[[sensors]]
match = "fan-*"
channels = ["a", "b"]
[kafka]
bootstrap_servers = "{kafka}"
group_id = "swaps"
readings_topic = "swaps-readings"
alerts_topic = "swaps-alerts"
dead_letters_topic = "swaps-dead"
feedback_topic = "swaps-feedback"
events_topic = "swaps-events"
[redis]
url = "{redis}"
prefix = "swaps"
[worker]
session_timeout_ms = 6000
transaction_timeout_ms = 8000
[http]
port = 0
[trainer]
interval = "2s"
history = "7d"
max_readings = 20000
tolerance = 1.0
directory = "{directory}"
"""


@dataclass
class Found:
    """What the run came to. swaps: champions that followed another. kills: by whom they hit."""

    swaps: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)
    logs: str = ""


class Crew:
    """The processes, each started again when it is killed."""

    def __init__(self, config: Path, directory: Path) -> None:
        self._config, self._directory = config, directory
        self._arguments = {"worker a": ["worker"], "worker b": ["worker"], "trainer": ["trainer"]}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one of them, or start it again."""
        slot = {"STREAM_DETECTOR_WORKER__SLOT": name.replace(" ", "-")}
        with (self._directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [COMMAND, *self._arguments[name], "--config", str(self._config)],
                env={**os.environ, "OMP_NUM_THREADS": "1", **slot},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_all(self) -> None:
        """Start all of them."""
        for name in self._arguments:
            self.start(name)

    def kill(self, name: str) -> None:
        """SIGKILL, and a new start; raises RuntimeError if it had ended by itself."""
        process = self._processes[name]
        if process.poll() is not None:
            raise RuntimeError(f"the {name} ended by itself with {process.returncode}: {self.logs()[-3000:]}")
        process.kill()
        process.wait()
        self.start(name)

    def stop(self) -> None:
        """End all cleanly."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            process.wait(60)

    def logs(self) -> str:
        """All that they said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._directory.glob("*.log")))


def look(registry: Registry, found: Found) -> None:
    """Note the champions that there have been so far."""
    records = registry.records()
    found.swaps = sum(max(record.generation - 1, 0) for record in records)
    found.versions |= {version.digest for record in records for version in record.versions if version.promoted_at}


def disturb(settings: Settings, crew: Crew, feeder: Feeder, swaps: int) -> Found:
    """Kill and roll back until there were enough swaps and all readings are sent."""
    rng, found = np.random.default_rng(0), Found()
    names = ["worker a", "worker b", "trainer"]
    with open_registry(settings) as registry:
        while feeder.is_alive() or found.swaps < swaps:
            time.sleep(rng.uniform(*KILL_EVERY_S))
            look(registry, found)
            name = names[int(rng.integers(len(names)))]
            crew.kill(name)
            found.kills[name] += 1
            for line in registry.lines():
                if rng.random() < 0.4:
                    # There is none before the first.
                    with contextlib.suppress(ArtifactError, OutsideError):
                        registry.rollback(line, "the one before was as good")
        look(registry, found)
    return found


def wrong(settings: Settings, alerts: list[Alert], found: Found) -> list[str]:
    """What must not be, in words; nothing if all is well."""
    steps: dict[str, list[int]] = {}
    for alert in alerts:
        steps.setdefault(alert.alert_id, []).append(alert.seq)
    faults = [f"{key}: steps {seqs}" for key, seqs in steps.items() if seqs != list(range(len(seqs)))]
    named = {alert.model.digest.removeprefix("sha256:") for alert in alerts if alert.model}
    faults += [f"an alert names {digest[:12]}, which never was in use" for digest in named - found.versions]
    faults += [line for line in found.logs.splitlines() if "refused, the old ones" in line or "Traceback" in line]
    latest = {alert.sensor_id: alert for alert in alerts if alert.kind == "anomaly"}
    firing = {sensor_id for sensor_id, alert in latest.items() if alert.status == "firing"}
    differ = firing ^ open_incidents(settings)
    return faults + [f"{sensor_id}: told and saved differ" for sensor_id in sorted(differ)]


def open_incidents(settings: Settings) -> set[str]:
    """Sensors with an open incident in the state that workers left."""
    with open_registry(settings) as registry:
        profiles = Profiles(settings, Weights(WINDOW, registry).artifact)
        rows = outcome(settings, PARTITIONS).states
        profiles.name("pump-1", ("value",)), profiles.name("fan-0", ("a", "b"))
        kinds = {profiles.shape(name): one.table.state.dtype for name, one in profiles.fleet.detectors.items()}
    return {key for (shape, key), row in rows.items() if np.frombuffer(row, kinds[shape])["in_open"][0]}


def page(found: Found, alerts: list[Alert], readings: int, seconds: float, faults: list[str]) -> list[str]:
    """The results page."""
    named = {alert.model.digest for alert in alerts if alert.model}
    kills = ", ".join(f"{count} of {name}" for name, count in sorted(found.kills.items()))
    return [
        "# Swaps of weights under load, with kills",
        "",
        f"`python -m tests.benchmarks.swaps --output tests/benchmarks/swaps.md`, {date.today()}, {platform.machine()}, "
        f"{os.cpu_count()} cores.",
        "",
        "| what | |",
        "| --- | ---: |",
        f"| readings | {readings:,} |",
        f"| seconds | {seconds:.0f} |",
        f"| swaps of champions, in two lines of weights | {found.swaps} |",
        f"| kills (SIGKILL) | {kills} |",
        f"| alerts told | {len(alerts)}, of {len({alert.alert_id for alert in alerts})} incidents |",
        f"| different weights that alerts name | {len(named)} |",
        f"| steps of incidents told twice or missing, weights that never were in use, refused weights, sensors whose "
        f"saved state says something else than their last alert | {len(faults)} |",
        "",
        *(f"- {fault}" for fault in faults),
    ]


def main() -> None:
    """Run, print, and write the page if asked to; exit code 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--swaps", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, running(Path(scratch) / "servers") as servers:
        directory = Path(scratch)
        config = directory / "settings.toml"
        config.write_text(
            SETTINGS.format(
                model=MODEL, window=WINDOW, kafka=servers.kafka, redis=servers.redis, directory=directory / "trainer"
            )
        )
        settings = load(config)
        make_topics(settings, PARTITIONS)
        messages = plant(SENSORS, BEFORE + STEPS, PARTITIONS, seed=3).messages
        send(settings, messages[: BEFORE * SENSORS])
        subprocess.run([COMMAND, "trainer", "--once", "--config", str(config)], check=True, capture_output=True)
        crew, begun = Crew(config, directory), time.monotonic()
        crew.start_all()
        feeder = Feeder(settings, messages[BEFORE * SENSORS :], STEPS * SENSORS / A_SECOND)
        feeder.start()
        try:
            found = disturb(settings, crew, feeder, args.swaps)
            wait_until_answered(settings, 180)
        finally:
            crew.stop()
        found.logs = crew.logs()
        seconds = time.monotonic() - begun
        alerts = alerts_of(settings)
        faults = wrong(settings, alerts, found)
    lines = page(found, alerts, len(messages), seconds, faults)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
