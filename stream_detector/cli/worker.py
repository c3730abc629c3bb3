"""The command that runs a worker."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from stream_detector import settings as all_settings
from stream_detector.cli import logs
from stream_detector.cli.logs import LogFormat
from stream_detector.cli.stopping import stoppable
from stream_detector.errors import ConfigError
from stream_detector.settings import PREFIX, Settings
from stream_detector.streaming.hot_swap import HotSwap
from stream_detector.streaming.kafka_client import MAX_REQUEST_BYTES
from stream_detector.streaming.processes import Child, Processes
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import open_registry
from stream_detector.streaming.telemetry import Telemetry, serving
from stream_detector.streaming.topics import ensure_topics
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker

PANEL = "Services"
BROKERS_CHOICE = -1
LAST_PORT = 65535
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - what http.host may be
logger = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("worker", rich_help_panel=PANEL)(worker)


def worker(
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
    log_format: LogFormat = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="run so many, one for each core or device", show_default="worker.processes"),
    ] = None,
    tied: Annotated[bool, typer.Option("--tied", hidden=True, help="end when standard input does")] = False,
) -> None:
    """Detect incidents in readings from Kafka, with the sensors' state in Redis; alerts go to a topic, exactly once.

    Runs until it is stopped: SIGTERM ends it cleanly with exit code 0. Start several to share the work: on several
    hosts, or with --processes on one, where those that die are started again. All settings come from the environment
    or the file; the defaults fit a Kafka and a Redis on this machine.
    """
    settings = all_settings.load(config)
    logs.begin(settings, log_format)
    make_topics(settings)
    count = processes or settings.worker.processes
    if count > 1:
        watch_over(settings, count, config, log_format)
    else:
        work(settings, tied)


def watch_over(settings: Settings, count: int, config: Path | None, log_format: str | None) -> None:
    """So many workers in processes of their own, until they are stopped."""
    telemetry = Telemetry()
    options = [*(["--config", str(config)] if config else []), *(["--log-format", log_format] if log_format else [])]
    command = [sys.executable, "-m", "stream_detector.cli", "worker", "--tied", "--processes", "1", *options]
    host = "127.0.0.1" if settings.http.host in EVERY_ADDRESS else settings.http.host
    children = [
        Child(str(number), command, {**os.environ, **own}, host, int(own[f"{PREFIX}HTTP__PORT"]))
        for number, own in enumerate(environments(settings, count))
    ]
    running = Processes(children, telemetry, settings.worker.shutdown_timeout_ms / 1000)
    with stoppable(running.stop), serving(telemetry, settings.http):
        logger.info("running %d workers, their numbers on the ports behind %d", count, settings.http.port)
        running.run()


def environments(settings: Settings, count: int) -> list[dict[str, str]]:
    """What is each process's own: slot, port, device and threads."""
    port, slot = settings.http.port, settings.worker.slot or f"{socket.gethostname()}-{os.getpid()}"
    if port and port + count > LAST_PORT:
        raise ConfigError(f"http.port {port} leaves no room for the ports of {count} processes: choose a lower one")
    devices = torch.cuda.device_count() if settings.detector.device in ("auto", "cuda") else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = []
    for number in range(count):
        own = {
            f"{PREFIX}WORKER__SLOT": f"{slot}-{number}",
            f"{PREFIX}HTTP__PORT": str(port + 1 + number if port else 0),
            # Several that each take all cores would wait for each other.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count))),
        }
        if devices > 1:
            own[f"{PREFIX}DETECTOR__DEVICE"] = f"cuda:{number % devices}"
        found.append(own)
    return found


def work(settings: Settings, tied: bool = False) -> None:
    """One worker, in this process, until it is stopped; tied: or until standard input ends."""
    registry = open_registry(settings)
    weights = Weights(settings.detector.window, registry)
    champions = HotSwap(registry, weights)
    telemetry = Telemetry()
    profiles = Profiles(settings, weights.artifact, former=weights.by_digest)
    running = Worker(settings, profiles, champions=champions, telemetry=telemetry)
    champions.start()
    kafka, counts = settings.kafka, running.counts
    with stoppable(running.stop):
        if tied:
            threading.Thread(target=_stop_at_end, args=(running.stop,), name="tie", daemon=True).start()
        logger.info("reading %s from %s as group %s", kafka.readings_topic, kafka.bootstrap_servers, kafka.group_id)
        with registry, serving(telemetry, settings.http):
            running.run()
        logger.info(
            "stopped after %d readings, %d alerts, %d dead letters", counts.readings, counts.alerts, counts.dead_letters
        )


def _stop_at_end(stop: Callable[[], None]) -> None:
    """Stop when whoever started this process is gone, also when it was killed."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop()


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
