"""The command that runs a worker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from stream_detector import settings as all_settings
from stream_detector.cli import logs
from stream_detector.cli.logs import LogFormat
from stream_detector.cli.stopping import stoppable
from stream_detector.settings import Settings
from stream_detector.streaming.hot_swap import HotSwap
from stream_detector.streaming.kafka_client import MAX_REQUEST_BYTES
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import open_registry
from stream_detector.streaming.telemetry import Telemetry, serving
from stream_detector.streaming.topics import ensure_topics
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker

PANEL = "Services"
BROKERS_CHOICE = -1
logger = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("worker", rich_help_panel=PANEL)(worker)


def worker(
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
    log_format: LogFormat = None,
) -> None:
    """Detect incidents in readings from Kafka, with the sensors' state in Redis; alerts go to a topic, exactly once.

    Runs until it is stopped: SIGTERM ends it cleanly with exit code 0. Start several to share the work. All settings
    come from the environment or the file; the defaults fit a Kafka and a Redis on this machine.
    """
    settings = all_settings.load(config)
    logs.begin(settings, log_format)
    make_topics(settings)
    registry = open_registry(settings)
    weights = Weights(settings.detector.window, registry)
    champions = HotSwap(registry, weights)
    telemetry = Telemetry()
    profiles = Profiles(settings, weights.artifact, former=weights.by_digest)
    running = Worker(settings, profiles, champions=champions, telemetry=telemetry)
    champions.start()
    kafka, counts = settings.kafka, running.counts
    with stoppable(running.stop):
        logger.info("reading %s from %s as group %s", kafka.readings_topic, kafka.bootstrap_servers, kafka.group_id)
        with registry, serving(telemetry, settings.http):
            running.run()
        logger.info(
            "stopped after %d readings, %d alerts, %d dead letters", counts.readings, counts.alerts, counts.dead_letters
        )


def make_topics(settings: Settings) -> None:
    """Create the topics that are missing, as the broker sees fit."""
    kafka = settings.kafka
    names = (kafka.readings_topic, kafka.alerts_topic, kafka.feedback_topic, kafka.events_topic)
    created = ensure_topics(kafka, dict.fromkeys(names, BROKERS_CHOICE))
    # A dead letter is larger than the message was, by the headers that say why it is one.
    room = {"max.message.bytes": str(MAX_REQUEST_BYTES)}
    created |= ensure_topics(kafka, {kafka.dead_letters_topic: BROKERS_CHOICE}, room)
    for name in sorted(created):
        logger.info("created the topic %s", name)
