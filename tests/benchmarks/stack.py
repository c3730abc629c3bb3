"""Runs docker-compose.yml for real: builds, starts, kills, scales, stops, and holds what came of it against a calm run.

    python -m tests.benchmarks.stack [--output tests/benchmarks/stack.md]

Needs docker with compose; the images must be there or be had. The stack runs under a name and on ports of its own, with
the demo's plant at 3,000 times the pace of life, and is removed at the end with all that it held. What a worker without
any trouble, in a group of its own, makes of the same readings must be what was told, byte for byte but for the time of
detection. TORCH_BACKEND and the other variables of docker-compose.yml are taken from the environment.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from stream_detector.evaluation.matching import match
from stream_detector.records import Alert
from stream_detector.simulate import Fault
from tests.benchmarks.composed import Stack, fetched, text_at, until
from tests.integration.streams import by_incident

PROJECT, KAFKA_PORT = "stream-detector-proof", 29092
PORTS = {"PROMETHEUS_PORT": 29090, "GRAFANA_PORT": 23000, "CONSOLE_PORT": 28090, "ALERTMANAGER_PORT": 29093}
GROUP, PARTITIONS = "stream-detector", 12
PACE = "3000"
BEFORE_S, BETWEEN_S = 75.0, 20.0
"""Of the plant's running: until faults are under way, and between two interventions."""
OURS = ("worker", "trainer", "console", "simulator", "forwarder")
SERVICES = ("kafka", "redis", "prometheus", "grafana", "alertmanager", *OURS)
ALL = ("--profile", "demo", "--profile", "observe", "--profile", "alert")
COMPOSITIONS: tuple[list[str], ...] = (
    [],
    ["--profile", "demo"],
    ["--profile", "observe"],
    ["--profile", "alert"],
    [*ALL],
    ["-f", "docker-compose.yml", "-f", "deploy/compose.gpu.yml", "--profile", "demo"],
    ["-f", "docker-compose.yml", "-f", "deploy/compose.secrets.yml", *ALL],
)


class Diary:
    """What was done, what came of it, and how long it took."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def entry(self, what: str) -> Iterator[list[str]]:
        """Write down a step when it ends well, with the words that the block adds."""
        words: list[str] = []
        begin = time.monotonic()
        yield words
        self.lines.append(f"| {what} | {'; '.join(words)} | {time.monotonic() - begin:.0f} |")
        print(self.lines[-1], flush=True)


def begin(stack: Stack, diary: Diary) -> None:
    """Valid in every combination, built, and up with everything ready and nothing reached from outside."""
    with diary.entry("`docker compose config`") as words:
        for arguments in COMPOSITIONS:
            stack.compose(*arguments, "config", "--quiet")
        words.append(f"valid in {len(COMPOSITIONS)} combinations of profiles and files")
    with diary.entry("`build`") as words:
        stack.compose("build", "--quiet")
        size = int(stack.docker("image", "inspect", "--format", "{{.Size}}", "stream-detector:local"))
        backend = os.environ.get("TORCH_BACKEND", "cpu") or "the usual index's"
        words.append(f"an image of {size / 1e9:.1f} GB; its build of PyTorch is {backend}")
    with diary.entry(f"`{' '.join(ALL)} up -d --wait`") as words:
        stack.compose(*ALL, "up", "--detach", "--wait", "--no-build")
        words.append("all healthy")
    with diary.entry("how they run") as words:
        words += guarded(stack)
    with diary.entry("Prometheus") as words:
        prometheus = f"http://127.0.0.1:{PORTS['PROMETHEUS_PORT']}/api/v1"
        jobs = ["forwarder", "trainer", "worker"]
        until("all three are scraped", lambda: sorted(up(fetched(f"{prometheus}/targets"))) == jobs)
        until("it knows Alertmanager", lambda: bool(heard(fetched(f"{prometheus}/alertmanagers"))))
        words.append("scrapes worker, trainer and forwarder, and knows Alertmanager")
    with diary.entry("the console") as words:
        until("it answers", lambda: "stream-detector" in text_at(f"http://127.0.0.1:{PORTS['CONSOLE_PORT']}/"))
        words.append("serves its page")


def up(answer: object) -> list[str]:
    """The jobs of the targets that Prometheus reaches."""
    active = answer["data"]["activeTargets"] if isinstance(answer, dict) else []
    return [one["labels"]["job"] for one in active if one["health"] == "up"]


def heard(answer: object) -> list[str]:
    """The Alertmanagers that Prometheus tells."""
    return [one["url"] for one in answer["data"]["activeAlertmanagers"]] if isinstance(answer, dict) else []


def guarded(stack: Stack) -> list[str]:
    """Who runs how, from what docker knows; raises RuntimeError where one is less guarded than it should be."""
    for service in SERVICES:
        for one in stack.inspect(service):
            host, name = one["HostConfig"], one["Name"]
            addresses = [port["HostIp"] for ports in (host["PortBindings"] or {}).values() for port in ports]
            if any(address != "127.0.0.1" for address in addresses):
                raise RuntimeError(f"{name} is reached from outside: {addresses}")
            if host["CapDrop"] != ["ALL"] or not host["Memory"] or not host["NanoCpus"]:
                raise RuntimeError(f"{name} has capabilities or no limits")
            if service in OURS and not (host["ReadonlyRootfs"] and one["Config"]["User"].startswith("10001")):
                raise RuntimeError(f"{name} runs as root or writes to its image")
    return [
        "ports on 127.0.0.1 only",
        "no capabilities, memory and processor limited",
        "all of ours as user 10001 on a read-only file system",
    ]


def disturb(stack: Stack, diary: Diary) -> None:
    """Faults arrive; then workers are killed, scaled and killed again while the plant goes on."""
    with diary.entry("the plant runs") as words:
        time.sleep(BEFORE_S)
        until("an alert is told", lambda: bool(stack.alerts("alerts")))
        words.append(f"{stack.readings():,} readings, {len(stack.alerts('alerts'))} alerts on the host's listener")
    with diary.entry("Alertmanager") as words:
        took_s = until("it shows incidents, those that are open", lambda: agrees(stack.alerts("alerts")), 300)
        words.append(f"shows incidents, and of those with a life just the open ones, {took_s:.0f} s later")
    with diary.entry("`kill worker`, and 10 s later `up`") as words:
        stack.compose("kill", "worker")
        time.sleep(10)
        missed = stack.left(GROUP)
        ready_s = timed(lambda: stack.compose("up", "--detach", "--wait", "--no-recreate", "worker"))
        caught_s = until("the readings that waited are answered for", lambda: stack.left(GROUP) < missed / 4)
        words.append(f"{missed:,} readings waited; ready after {ready_s:.0f} s, caught up {caught_s:.0f} s later")
    with diary.entry("`up --scale worker=3`") as words:
        time.sleep(BETWEEN_S)
        stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "worker=3", "worker")
        until("three share the partitions", lambda: stack.shares(GROUP) == [PARTITIONS // 3] * 3)
        words.append(f"each of three has {PARTITIONS // 3} of {PARTITIONS} partitions")
    with diary.entry("one of the three killed") as words:
        time.sleep(BETWEEN_S)
        stack.docker("kill", stack.inspect("worker")[0]["Name"].removeprefix("/"))
        until("two share the partitions", lambda: stack.shares(GROUP) == [PARTITIONS // 2] * 2)
        words.append(f"each of the others has {PARTITIONS // 2}")
    with diary.entry("`up --scale worker=1`") as words:
        stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "worker=1", "worker")
        until("one has all partitions", lambda: stack.shares(GROUP) == [PARTITIONS])
        ended = [one["State"]["ExitCode"] for one in stack.inspect("worker")]
        words.append(f"one has all {PARTITIONS}" + ("" if ended == [0] else f"; containers left: {ended}"))


def shown() -> set[str]:
    """The incidents that Alertmanager shows."""
    found = fetched(f"http://127.0.0.1:{PORTS['ALERTMANAGER_PORT']}/api/v2/alerts?active=true") or []
    return {one["annotations"]["alert_id"] for one in found if "alert_id" in one["annotations"]}


def agrees(alerts: Sequence[Alert]) -> bool:
    """Whether Alertmanager shows incidents, and those that go on; what is told once stands there for minutes."""
    latest = {alert.alert_id: alert for alert in alerts}
    going_on = {alert_id for alert_id, alert in latest.items() if alert.status == "firing"}
    once = {alert.alert_id for alert in alerts if alert.event == "opened" and alert.status == "resolved"}
    return bool(going_on) and shown() - once == going_on


def down_and_up(stack: Stack, diary: Diary) -> None:
    """Containers and network go, volumes stay: the state is there again."""
    with diary.entry("`down`, then `up`") as words:
        time.sleep(BETWEEN_S)
        rows, told, readings = keys(stack), len(stack.alerts("alerts")), stack.readings()
        stack.compose("stop", "simulator", "worker", "trainer")
        codes = {one["State"]["ExitCode"] for name in ("simulator", "worker", "trainer") for one in stack.inspect(name)}
        if codes != {0}:
            raise RuntimeError(f"what was told to stop ended with {codes}")
        words.append("worker, trainer and simulator end with 0")
        stack.compose("--profile", "*", "down")
        stack.compose("--profile", "demo", "up", "--detach", "--wait", "--no-build")
        if keys(stack) < rows or len(stack.alerts("alerts")) < told or stack.readings() < readings:
            raise RuntimeError("something is missing after `down` and `up`")
        words.append(f"{rows} keys of Redis, {told} alerts and {readings:,} readings are there again")
        until("the worker goes on", lambda: stack.readings() > readings + 1000 and stack.left(GROUP) < 1000)


def keys(stack: Stack) -> int:
    """How many keys Redis holds."""
    return int(stack.compose("exec", "-T", "redis", "redis-cli", "dbsize").split()[-1])


def timed(work: Callable[[], object]) -> float:
    """Seconds that something took."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def compare(stack: Stack, diary: Diary, faults: Sequence[Fault]) -> bool:
    """What was told against what an undisturbed worker in a group of its own makes of the same; whether it is equal."""
    with diary.entry("a calm worker on the same readings") as words:
        stack.compose("stop", "simulator")
        until("all is answered for", lambda: stack.left(GROUP) == 0)
        stack.compose("stop", "worker")
        calm = ("KAFKA__GROUP_ID=calm", "KAFKA__ALERTS_TOPIC=alerts-calm", "KAFKA__DEAD_LETTERS_TOPIC=dead-calm")
        variables = [part for one in calm for part in ("--env", f"STREAM_DETECTOR_{one}")]
        stack.compose("run", "--detach", "--no-deps", *variables, "worker")
        until("the calm worker is done", lambda: stack.left("calm") == 0, 900)
        told, expected = stack.alerts("alerts"), stack.alerts("alerts-calm")
        equal = by_incident(told) == by_incident(expected)
        gaps = sum(alert.kind == "state_gap" for alert in told)
        found = match([alert for alert in told if alert.kind != "sensor_silent"], faults)
        hits = sum(delay is not None for delay in found.delays_ms)
        words += [
            f"{stack.readings():,} readings",
            f"{len(told)} alerts of {len(by_incident(told))} incidents against {len(expected)}: "
            f"**{'equal' if equal else 'DIFFERENT'}**",
            f"{gaps} gaps of state",
            f"{hits} of {len(faults)} injected faults were told of",
        ]
    return equal and not gaps and bool(hits)


def page(diary: Diary, note: str) -> list[str]:
    """The results as Markdown."""
    return [
        "# The stack of docker-compose.yml",
        "",
        f"`python -m tests.benchmarks.stack --output tests/benchmarks/stack.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
        *([note] if note else []),
        "",
        "| what was done | what came of it | s |",
        "| --- | --- | ---: |",
        *diary.lines,
    ]


def main() -> int:
    """Run it, print, and write the page if asked to; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--note", default="", help="a sentence about the machine or the images, for the page")
    args = parser.parse_args()
    secret = Path(__file__)  # any file will do for `config`
    ports = {name: str(port) for name, port in PORTS.items()}
    files = {"REDIS_PASSWORD_FILE": str(secret), "GRAFANA_PASSWORD_FILE": str(secret)}
    stack, diary = Stack(PROJECT, KAFKA_PORT, {"SIMULATED_PACE": PACE, **ports, **files}), Diary()
    try:
        begin(stack, diary)
        disturb(stack, diary)
        faults = stack.faults()
        down_and_up(stack, diary)
        good = compare(stack, diary, [*faults, *stack.faults()])
    except RuntimeError:
        print(stack.compose("--profile", "*", "logs", "--tail", "40", "--no-color"), file=sys.stderr)
        raise
    finally:
        stack.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
    lines = page(diary, args.note)
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
