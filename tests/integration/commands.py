"""The commands as a user types them, against a broker, with topics of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from stream_detector.settings import KafkaSettings
from stream_detector.streaming.topics import ensure_topics

COMMAND = Path(sys.executable).with_name("stream-detector")
PATIENCE_S = 60.0


def fresh(address: str, prefix: str, partitions: int = 2) -> KafkaSettings:
    """Settings with topics that hold nothing yet."""
    settings = KafkaSettings(
        bootstrap_servers=address,
        group_id=f"{prefix}-group",
        readings_topic=f"{prefix}-readings",
        alerts_topic=f"{prefix}-alerts",
        dead_letters_topic=f"{prefix}-dead-letters",
        undelivered_topic=f"{prefix}-undelivered",
    )
    ensure_topics(
        settings,
        dict.fromkeys((settings.readings_topic, settings.alerts_topic, settings.dead_letters_topic), partitions),
    )
    return settings


def environment(settings: KafkaSettings) -> dict[str, str]:
    """The variables that give a command these settings."""
    topics = ("readings_topic", "alerts_topic", "dead_letters_topic", "undelivered_topic")
    names = ("bootstrap_servers", "group_id", *topics)
    given = {f"STREAM_DETECTOR_KAFKA__{name.upper()}": getattr(settings, name) for name in names}
    return {**os.environ, **given, "COLUMNS": "100", "NO_COLOR": "1"}


def run(settings: KafkaSettings, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself, without a terminal."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def start(settings: KafkaSettings, *arguments: object) -> subprocess.Popen[str]:
    """A command that goes on; its output can be read meanwhile."""
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
