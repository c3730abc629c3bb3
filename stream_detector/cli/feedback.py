"""The command that answers an alert: what it was, for the detector to learn from.

The alert is looked up where it was told, in a file or on its topic, so that an answer to an alert that never was is
refused at once, and the answer carries all that whoever applies it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stream_detector import settings as all_settings
from stream_detector.cli.pipe import hush_the_client
from stream_detector.errors import ConfigError, DataError
from stream_detector.records import Alert, Feedback, Verdict, encode
from stream_detector.settings import KafkaSettings
from stream_detector.streaming import answers_file
from stream_detector.streaming.files import write_lines
from stream_detector.streaming.topics import Message, produce, read_topic

PANEL = "Alerts"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("feedback", rich_help_panel=PANEL)(feedback)


def feedback(
    alert_id: Annotated[
        str, typer.Argument(help="alert_id of an alert that was told, any step of it", show_default=False)
    ],
    false_positive: Annotated[
        bool, typer.Option("--false-positive", help="nothing was wrong: do not alert at such a score again")
    ] = False,
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="something was wrong: do not learn it as normal")
    ] = False,
    change_point: Annotated[
        bool, typer.Option("--change-point", help="this is how things are from now on: learn them anew")
    ] = False,
    maintenance: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="FROM TO",
            help="its sensors are worked on, from a time up to another (ISO 8601, UTC unless it says otherwise): "
            "no alerts, but scores",
            show_default=False,
        ),
    ] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="whatever you want to add")] = None,
    alerts: Annotated[
        Path | None, typer.Option(help="look the alert up in this file, as `detect --output` wrote it")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="add the answer to this file, for `detect --feedback`; - prints it")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
) -> None:
    """Answer an alert: it was a false alarm, a fault, the new normal, or its sensors are under maintenance.

    Say exactly one of the four. The answer goes to the topic of feedback, from where every worker hears it; with
    [bold]--alerts[/] and [bold]--output[/] it goes from file to file. The same answer twice does nothing more.
    """
    given: dict[Verdict, bool] = {
        "false_positive": false_positive,
        "confirmed": confirmed,
        "change_point": change_point,
        "maintenance": maintenance is not None,
    }
    verdict = _only([verdict for verdict, said in given.items() if said])
    reply = answers_file.Reply(verdict, maintenance or (None, None), note)
    if (alerts is None) != (output is None):
        raise ConfigError("--alerts and --output go together: give both, or none of them to use the topics")
    if alerts and output:
        typer.echo(
            _into_file(reply.to(answers_file.find(answers_file.read_alerts(alerts), alert_id)), output), err=True
        )
    else:
        kafka = all_settings.load(config).kafka
        hush_the_client()
        record = reply.to(answers_file.find(_told(kafka, alert_id), alert_id))
        produce(kafka, [Message(kafka.feedback_topic, record.sensor_id.encode(), encode(record))])
        typer.echo(f"{_said(record)}: sent to {kafka.feedback_topic}", err=True)


def _only(verdicts: list[Verdict]) -> Verdict:
    options = "--false-positive, --confirmed, --change-point or --maintenance FROM TO"
    if not verdicts:
        raise ConfigError(f"what was it? Say one of {options}")
    if len(verdicts) > 1:
        named = " and ".join(f"--{verdict.replace('_', '-')}" for verdict in verdicts)
        raise ConfigError(f"{named} are {len(verdicts)} answers: say one of {options}")
    return verdicts[0]


def _into_file(record: Feedback, path: Path) -> str:
    """Add the record to a file, unless it is there; what became of it, in words."""
    printing = str(path) == "-"
    there = path.exists() and not printing
    if there and any(known.feedback_id == record.feedback_id for known in answers_file.read_feedback(path)):
        return f"{_said(record)}: already answered like that in {path}"
    write_lines(path, [*(path.read_bytes().splitlines() if there else []), encode(record)])
    return f"{_said(record)}: written to {'standard output' if printing else path}"


def _told(kafka: KafkaSettings, alert_id: str) -> Iterator[Alert]:
    """The steps of one incident on the topic of alerts; raises DataError where one cannot be read."""
    wanted = alert_id.encode()
    for record in read_topic(kafka, kafka.alerts_topic):
        # Most messages are of other incidents: only those that name the id are looked into.
        if wanted in (record.value or b""):
            try:
                yield answers_file.decode(record.value or b"", Alert)
            except DataError as error:
                raise DataError(f"{record.topic}/{record.partition}, offset {record.offset}: {error}") from error


def _said(record: Feedback) -> str:
    about = record.sensor_id if not record.members else f"{record.sensor_id} and its group"
    return f"{record.verdict.replace('_', ' ')}, {about}"
