"""The command that simulates a fleet: into a file, or live onto the topic of readings.

What a fleet is and when which sensor says what is `simulate`'s; here it is waited for the time, sent, and told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from stream_detector import settings as all_settings
from stream_detector.cli import show
from stream_detector.cli.stopping import stoppable
from stream_detector.errors import ConfigError, TransportError
from stream_detector.records import format_time
from stream_detector.settings import KafkaSettings, Settings
from stream_detector.simulate import FIELDS, Fault, Moment, live, simulate, write_csv
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.publisher import Publisher
from stream_detector.streaming.telemetry import Telemetry, serving
from stream_detector.streaming.topics import BROKERS_CHOICE, ensure_topics

WAIT_S = 0.1
AT_ONCE = 500
"""Moments that are sent together at most, by one that is behind."""
RETRY_S = 2.0
CLOSE_MS = 5_000
logger = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("simulate", rich_help_panel="On files")(simulate_command)


def simulate_command(
    output: Annotated[
        Path | None, typer.Option(help="CSV to write (.gz compresses); the faults go beside it", show_default=False)
    ] = None,
    to_kafka: Annotated[
        bool, typer.Option("--kafka", help="send to the topic of readings instead, each reading when its time comes")
    ] = False,
    field: Annotated[str, typer.Option(help=f"what to simulate: {', '.join(FIELDS)}")] = "plant",
    sensors: Annotated[int, typer.Option(min=1)] = 5,
    rows: Annotated[int, typer.Option(min=1, help="readings of each sensor")] = 4000,
    faults: Annotated[float, typer.Option(min=0, help="faults of each sensor, about")] = 2.0,
    pace: Annotated[
        float, typer.Option(help="with --kafka: so many times as fast as life; 300 makes five minutes a second")
    ] = 1.0,
    endless: Annotated[bool, typer.Option("--endless", help="with --kafka: after the last row begin again")] = False,
    http: Annotated[bool, typer.Option("--http", help="with --kafka: answer /livez and /metrics on http.port")] = False,
    seed: Annotated[int, typer.Option(help="the same seed gives the same result")] = 0,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
) -> None:
    """Simulate a plant, a payment system or a ward with known faults.

    Into a file: the last column, label, is 1 inside a fault; NAME.faults.json names each fault's kind and time.

    Onto the topic of readings (--kafka): dated from now on, sensors are called simulated-..., and each fault is
    printed when it begins. Runs to the last row, or until it is stopped.
    """
    if to_kafka == (output is not None):
        raise ConfigError("say where the readings go: --output FILE or --kafka, one of the two")
    if not to_kafka and (pace != 1.0 or endless or http):
        raise ConfigError("--pace, --endless and --http are for --kafka: a file is written at once")
    if output is not None:
        fleet = simulate(field, sensors=sensors, rows=rows, seed=seed, faults_per_sensor=faults)
        write_csv(fleet, output)
        show.fleet_summary(Console(), fleet, output)
        return
    logging.getLogger("stream_detector").setLevel(logging.INFO)
    settings = all_settings.load(config)
    moments = live(field, sensors, rows, seed, faults, _now_ms(), pace, endless)
    every = FIELDS[field].interval_ms / pace / 1000
    logger.info("%d sensors, a reading of each every %g s, to %s", sensors, every, settings.kafka.readings_topic)
    Sender(settings).run(moments, http)


class Sender:
    """Sends moments when they have come, until there are no more or it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = False
        self._telemetry = Telemetry()
        self._telemetry.ready = lambda: self._sent_at_all
        self._readings = self._telemetry.counter("simulated_readings", "readings that were made up and sent")
        self._faults = self._telemetry.counter("simulated_faults", "faults that have begun in them", "kind")
        self._sent_at_all = False

    def stop(self) -> None:
        """End with what is sent now."""
        self._stopping = True

    def run(self, moments: Iterator[Moment], http: bool) -> None:
        """Send them all; raises TransportError or ConfigError when the broker is not reached at the beginning."""
        kafka, readings, faults = self._settings.kafka, 0, 0
        ensure_topics(kafka, {kafka.readings_topic: BROKERS_CHOICE})
        publisher = Publisher(kafka, self._settings.worker, None)
        try:
            with stoppable(self.stop), serving(self._telemetry, self._settings.http) if http else nullcontext():
                for come in due(moments, self._wait):
                    for fault in (fault for moment in come for fault in moment.begins):
                        typer.echo(fault_line(fault))
                        self._faults.labels(fault.kind).inc()
                        faults += 1
                    messages = readings_of(kafka, come)
                    self._send(publisher, messages)
                    readings += len(messages)
                logger.info("sent %d readings with %d faults", readings, faults)
        finally:
            publisher.close(CLOSE_MS)

    def _wait(self, until_ms: int) -> bool:
        """Wait for a time; False if it is time to stop."""
        while not self._stopping:
            self._telemetry.beat()
            left_s = (until_ms - _now_ms()) / 1000
            if left_s <= 0:
                return True
            time.sleep(min(left_s, WAIT_S))
        return False

    def _send(self, publisher: Publisher, messages: Sequence[Message]) -> None:
        """Send; where the broker is away, the same again until it is back: a reading that comes twice counts once."""
        told = False
        while not self._stopping:
            try:
                publisher.publish_at_least_once(messages)
            except TransportError as error:
                if not told:
                    logger.warning("waiting, and going on when Kafka is back: %s", error)
                told = True
                self._wait(_now_ms() + round(RETRY_S * 1000))
                continue
            self._sent_at_all = True
            self._readings.inc(len(messages))
            return


def due(moments: Iterator[Moment], wait: Callable[[int], bool]) -> Iterator[list[Moment]]:
    """The moments that have come, together where several have; ends where `wait` says so."""
    come: list[Moment] = []
    for moment in moments:
        if come and (moment.time_ms > _now_ms() or len(come) == AT_ONCE):
            yield come
            come = []
        if not wait(moment.time_ms):
            break
        come.append(moment)
    if come:
        yield come


def readings_of(kafka: KafkaSettings, moments: Sequence[Moment]) -> list[Message]:
    """A message a reading, keyed by its sensor; a value that is missing is null."""
    return [
        Message(
            kafka.readings_topic,
            sensor_id.encode(),
            msgspec.json.encode(
                {
                    "sensor_id": sensor_id,
                    "timestamp": moment.time_ms,
                    "values": dict(zip(moment.channels, values, strict=True)),
                }
            ),
        )
        for moment in moments
        for sensor_id, values in zip(moment.sensor_ids, moment.values.tolist(), strict=True)
    ]


def fault_line(fault: Fault) -> str:
    """A fault for a person, in the style of `alerts`."""
    what = f"{fault.kind} of {', '.join(fault.channels)} until {format_time(fault.end_ms)}"
    return f"{format_time(fault.start_ms)}  fault  {fault.sensor_id}  {what}, magnitude {fault.magnitude:g}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
