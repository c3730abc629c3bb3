"""The command that shows everything at work: a plant, a Kafka, a Redis, a worker, and the alerts as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.console import Console

from stream_detector import settings as all_settings
from stream_detector.cli import demo_console, show
from stream_detector.cli.alerts import line
from stream_detector.cli.report import write_run_report
from stream_detector.cli.worker import make_topics
from stream_detector.errors import ConfigError
from stream_detector.local import running
from stream_detector.records import Alert, Ints, encode
from stream_detector.settings import Settings
from stream_detector.simulate import FIELDS, Fleet, simulate, write_csv
from stream_detector.streaming import files, offline, profiles
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.offline import Learning, Run
from stream_detector.streaming.topics import ensure_topics, produce, read_topic
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from stream_detector.training.fit import FitOptions
from stream_detector.training.train import TrainOptions

LEARNED = 0.3
"""Share of the readings that is learned from; the simulated faults lie behind it."""
PARTITIONS = 4
PACKET = 50
"""Readings of one sensor in a message: many at once, as a gateway would send them."""
PORTIONS = 20


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("demo", rich_help_panel="Start here")(demo)


def demo(
    field: Annotated[str, typer.Option(help=f"what to simulate: {', '.join(FIELDS)}")] = "plant",
    sensors: Annotated[int, typer.Option(min=1)] = 5,
    rows: Annotated[int, typer.Option(min=500, help="readings of each sensor")] = 4000,
    output: Annotated[Path, typer.Option(help="directory for readings, weights, alerts and report")] = Path(
        "stream-detector-demo"
    ),
    only_files: Annotated[bool, typer.Option("--files", help="without Kafka and Redis, on a file")] = False,
    open_: Annotated[
        bool, typer.Option("--open", help="show it in a browser too, and go on until Ctrl-C (extra \\[console])")
    ] = False,
    seed: Annotated[int, typer.Option(help="the same seed gives the same result")] = 1,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
) -> None:
    """See it work: simulate a fleet with faults, learn, send its readings through Kafka, and watch the alerts come.

    Kafka and Redis are started for the demo and end with it (extra [bold]local[/]); what it wrote stays in --output.
    """
    console = Console()
    if open_ and only_files:
        raise ConfigError("--open shows what goes through Kafka: leave out --files")
    if open_:
        demo_console.check()
    settings = all_settings.load(config)
    fleet = simulate(field, sensors=sensors, rows=rows, seed=seed)
    files.make_directory(output)
    write_csv(fleet, output / "readings.csv")
    console.print(f"Simulated {len(fleet.series)} sensors with {len(fleet.faults)} faults; learning ...")
    run = _on_file(settings, output, seed) if only_files else _on_kafka(settings, output, seed, console, open_)
    files.write_lines(output / "alerts.jsonl", (encode(alert) for alert in run.alerts))
    write_run_report(output / "report.html", run, f"the demo: {field}", labels=fleet.faults)
    if only_files:
        show.run_summary(console, run)
    _say_what_was_found(console, run, fleet, output)


def _say_what_was_found(console: Console, run: Run, fleet: Fleet, output: Path) -> None:
    show.found_faults(console, run, fleet.faults)
    console.print(f"Open [bold]{output / 'report.html'}[/] to see every incident drawn.", highlight=False)


def _on_file(settings: Settings, output: Path, seed: int) -> Run:
    table = files.read_tables([output / "readings.csv"])
    learning = Learning(_training(settings, seed), int(LEARNED * len(table.order)))
    with show.bars(Console(stderr=True)) as progress:
        return offline.detect(table, settings, learning, None, (), progress)


def _on_kafka(settings: Settings, output: Path, seed: int, console: Console, open_: bool) -> Run:
    """The same through a broker and a worker; scores for the report come from the same detector on the file."""
    table = files.read_tables([output / "readings.csv"])
    learned = table.order[: int(LEARNED * len(table.order))]
    with show.bars(Console(stderr=True)) as progress:
        run = offline.detect(table, settings, Learning(_training(settings, seed), len(learned)), None, (), progress)
    run.detectors[0].artifact.save(output / "weights")
    chosen = all_settings.override(settings, {"model": str(output / "weights")})
    # What the learned part ends with is sent too: the first judged reading is seen against it.
    readings = np.concatenate(
        [offline.context(table, learned, settings.detector.window - 1), table.order[len(learned) :]]
    )
    console.print("Starting Kafka and Redis ...")
    with running() as servers:
        console.print(f"Kafka at {servers.kafka}, Redis at {servers.redis}; sending the readings.", highlight=False)
        alerts = _watch(_addressed(chosen, servers.kafka, servers.redis), table, readings, console, open_)
    return replace(run, alerts=alerts)


def _addressed(settings: Settings, kafka: str, redis: str) -> Settings:
    return settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"bootstrap_servers": kafka}),
            "redis": settings.redis.model_validate({"url": redis}),
        }
    )


def _watch(settings: Settings, table: files.Table, readings: Ints, console: Console, open_: bool) -> list[Alert]:
    """Send these readings, and print the alerts that a worker makes of them until it has answered for all.

    open_: then show them in a browser, with the worker going on, until somebody ends it.
    """
    kafka = settings.kafka
    ensure_topics(kafka, {kafka.readings_topic: PARTITIONS, kafka.alerts_topic: 1})
    make_topics(settings)
    worker = Worker(settings, profiles.Profiles(settings, Weights(settings.detector.window).artifact))
    alerts: list[Alert] = []
    sent = offset = 0
    try:
        # In portions, so that alerts come in the order of the days and not partition by partition.
        for rows in np.array_split(readings, PORTIONS):
            produce(kafka, _messages(kafka.readings_topic, table, rows))
            sent += len(rows)
            while worker.counts.readings < sent:
                worker.step()
            for record in read_topic(kafka, kafka.alerts_topic, from_offsets={0: offset}):
                offset = record.offset + 1
                alerts.append(msgspec.json.decode(record.value or b"", type=Alert))
                console.print(line(alerts[-1]))
        if open_:
            with demo_console.console_beside(settings) as (address, token):
                demo_console.show(console, address, token, alerts)
                demo_console.until_interrupted(worker.step)
    finally:
        worker.close()
    return alerts


def _messages(topic: str, table: files.Table, portion: Ints) -> Sequence[Message]:
    """The readings in packets of a sensor, as a gateway would send them, in order of their first time."""
    packets = []
    for index, name in enumerate(table.sensor_ids):
        mine = portion[table.sensor[portion] == index]
        for start in range(0, len(mine), PACKET):
            rows = mine[start : start + PACKET]
            packet = {
                "sensor_id": name,
                "timestamps": table.time_ms[rows].tolist(),
                "values": table.values[rows].tolist(),
                "channels": list(table.channels),
            }
            message = Message(topic, name.encode(), msgspec.json.encode(packet), [])
            packets.append((int(table.time_ms[rows[0]]), message))
    return [message for _, message in sorted(packets, key=lambda one: one[0])]


def _training(settings: Settings, seed: int) -> TrainOptions:
    chosen = settings.detector
    return TrainOptions(chosen.model, chosen.window, profiles.device(chosen.device), FitOptions(seed=seed))
