"""A stack of containers under a name of its own, as a person on this machine handles and sees it.

Knows docker's command line and Kafka's listener for the host; not what is to be shown with them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import msgspec
from kafka import KafkaAdminClient
from kafka.structs import TopicPartition

from stream_detector.records import Alert, parse_time
from stream_detector.settings import KafkaSettings
from stream_detector.simulate import Fault
from stream_detector.streaming.topics import end_offsets, read_topic

ROOT = Path(__file__).parents[2]
PATIENCE_S = 900.0
LOOK_EVERY_S = 0.5
FAULT = re.compile(
    r"(?P<start>\S+Z)  fault  (?P<sensor>\S+)  (?P<kind>\w+) of (?P<channels>.+) "
    r"until (?P<end>\S+Z), magnitude (?P<size>\S+)"
)


class Stack:
    """`docker compose` under a project's name, with variables of its own; raises RuntimeError with what went wrong."""

    def __init__(self, project: str, kafka_port: int, variables: Mapping[str, str]) -> None:
        self.project = project
        self._environment = {**os.environ, "KAFKA_PORT": str(kafka_port), **variables}
        self.kafka = KafkaSettings(bootstrap_servers=f"localhost:{kafka_port}")

    def compose(self, *arguments: str) -> str:
        """A command of docker compose, with all profiles at hand; what it printed."""
        return self._run(["docker", "compose", "--project-name", self.project, "--ansi", "never", *arguments])

    def docker(self, *arguments: str) -> str:
        """A command of docker; what it printed."""
        return self._run(["docker", *arguments])

    def inspect(self, service: str) -> list[dict[str, Any]]:
        """What docker knows of the containers of a service, also of those that have ended."""
        ids = self.compose("--profile", "*", "ps", "--all", "--quiet", service).split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids)) if ids else []
        return found

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-3000:]}")
        return done.stdout

    # -- on the host's listener -------------------------------------------------------------------------------------

    def alerts(self, topic: str) -> list[Alert]:
        """All committed alerts of a topic, with the only processing time taken out."""
        found = [msgspec.json.decode(record.value or b"", type=Alert) for record in read_topic(self.kafka, topic)]
        return [msgspec.structs.replace(alert, detected_at=None) for alert in found]

    def left(self, group: str) -> int:
        """Readings that a group has not answered for."""
        ends = end_offsets(self.kafka, self.kafka.readings_topic)
        done = self._ask(lambda admin: admin.list_group_offsets({group: None}))[group]
        topic = self.kafka.readings_topic
        offsets = {place: one.offset for place, one in done.items()}
        return sum(end - offsets.get(TopicPartition(topic, partition), 0) for partition, end in ends.items())

    def shares(self, group: str) -> list[int]:
        """How many partitions each member of a group has, the smallest share first."""
        members = self._ask(lambda admin: admin.describe_groups([group]))[group]["members"]
        given = [one["member_assignment"] or {"assigned_partitions": []} for one in members]
        return sorted(sum(len(topic["partitions"]) for topic in one["assigned_partitions"]) for one in given)

    def readings(self) -> int:
        """Readings that were sent."""
        return sum(end_offsets(self.kafka, self.kafka.readings_topic).values())

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)
        try:
            return question(admin)
        finally:
            admin.close()

    # -- what the simulator told ------------------------------------------------------------------------------------

    def faults(self) -> list[Fault]:
        """The faults that the simulator has printed since its container was made."""
        printed = self.compose("--profile", "*", "logs", "--no-log-prefix", "--no-color", "simulator")
        return [
            Fault(
                one["sensor"],
                one["kind"],
                tuple(one["channels"].split(", ")),
                parse_time(one["start"]),
                parse_time(one["end"]),
                float(one["size"]),
            )
            for one in map(FAULT.match, printed.splitlines())
            if one
        ]


def until(what: str, holds: Callable[[], bool], limit_s: float = 120.0) -> float:
    """Wait for something; how long it took. Raises RuntimeError when it takes too long."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > limit_s:
            raise RuntimeError(f"after {limit_s:.0f} s it is still not so that {what}")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - begin


def text_at(url: str) -> str:
    """What is at an address on this machine; nothing while nothing answers."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=5) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except OSError:
        return ""


def fetched(url: str) -> Any:
    """The JSON at an address on this machine; None while nothing answers."""
    return json.loads(text_at(url) or "null")
