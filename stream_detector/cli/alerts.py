"""The command that follows the alerts in the terminal.

What a record says is data: nothing in it can colour, move or break a line. Knows the envelope's value alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from stream_detector import settings as all_settings
from stream_detector.cli.pipe import COLOURS, Pipe, hush_the_client, print_line, reader_may_leave, visible
from stream_detector.detect import summary
from stream_detector.errors import TransportError
from stream_detector.records import SEVERITIES, Alert, format_duration, parse_time
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.topics import Record, end_offsets, read_topic
from stream_detector.streaming.wanted import KINDS, Wanted, labels_of

PANEL = "Services"
RETRY_S, RETRY_MAX_S = 1.0, 10.0
TELL_AGAIN_S = 60.0
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings")]
OfSensor = Annotated[
    str | None, typer.Option(metavar="PATTERN", help="of these sensors or groups only: pump-*, line-[12]-?")
]
OfSeverity = Annotated[str | None, typer.Option(metavar="LEVEL", help=f"at least so severe: {', '.join(SEVERITIES)}")]
OfKind = Annotated[str | None, typer.Option(help=f"of this kind only: {', '.join(KINDS)}")]
OfLabel = Annotated[
    list[str] | None, typer.Option(metavar="NAME=PATTERN", help="with this label only; may be given several times")
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("alerts", rich_help_panel=PANEL)(alerts)


def alerts(
    json: Annotated[bool, typer.Option("--json", help="the records as they are, one a line")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="also those that are there already")] = False,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="print those that are there, from the beginning, and end")
    ] = False,
    sensor: OfSensor = None,
    severity: OfSeverity = None,
    kind: OfKind = None,
    label: OfLabel = None,
    config: Config = None,
) -> None:
    """Follow the alerts as they come, one line each: event time, severity, what happened, sensor or group, summary.

    From now on, until Ctrl-C. Only what is committed is shown. A group is shown with the number of its members.
    """
    wanted = Wanted(sensor, severity, kind, labels_of(label or ()))
    kafka = all_settings.load(config).kafka
    console = Pipe()
    hush_the_client()
    with reader_may_leave():
        for record in follow(kafka, from_beginning or no_follow, not no_follow):
            alert = read(record)
            if alert is None or not wanted.has(alert):
                continue
            if json:
                print_line(record.value or b"")
            else:
                console.print(line(alert), soft_wrap=True)


def follow(kafka: KafkaSettings, from_beginning: bool, for_ever: bool) -> Iterator[Record]:
    """Records of the topic of alerts; once it has begun to follow, it waits for a broker that is away."""
    ends = end_offsets(kafka, kafka.alerts_topic)
    at = {} if from_beginning else dict(ends)
    if for_ever:
        logging.getLogger("kafka.net.manager").addHandler(Outages(kafka.bootstrap_servers))
        typer.echo(f"following {kafka.alerts_topic} on Kafka at {kafka.bootstrap_servers}; Ctrl-C ends", err=True)
    pause_s = RETRY_S
    while True:
        try:
            for record in read_topic(kafka, kafka.alerts_topic, follow=for_ever, from_offsets=at):
                at[record.partition] = record.offset + 1
                pause_s = RETRY_S
                yield record
            return
        except TransportError as error:
            if not for_ever:
                raise
            typer.echo(f"waiting, and going on when Kafka is back: {error}", err=True)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, RETRY_MAX_S)


class Outages(logging.Handler):
    """Says, at most once a minute, that the broker is away: the client only logs it, and tries again for ever."""

    def __init__(self, address: str) -> None:
        super().__init__(logging.ERROR)
        self._address = address
        self._quiet_until_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """One of the client's attempts to connect has failed."""
        if time.monotonic() >= self._quiet_until_s:
            self._quiet_until_s = time.monotonic() + TELL_AGAIN_S
            typer.echo(f"Kafka at {self._address} is away: waiting, and going on when it is back", err=True)


def read(record: Record) -> Alert | None:
    """The alert in a record; None, and a line on standard error, where there is none."""
    try:
        return msgspec.json.decode(record.value or b"", type=Alert)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        typer.echo(
            f"{record.topic}/{record.partition}, offset {record.offset}: no alert, passed over ({visible(str(error))})",
            err=True,
        )
        return None


def line(alert: Alert) -> Text:
    """One line for a person."""
    subject = alert.group or alert.sensor_id
    size = f" ({len(alert.members)} sensors)" if alert.group is not None else ""
    parts = [
        Text(visible(alert.window.end)),
        Text(f"{alert.severity:8}", style=COLOURS[alert.severity]),
        Text(f"{alert.event:7}", style="bold" if alert.event == "opened" else ""),
        Text(visible(subject) + size, style="bold"),
        Text(visible(summary.without(subject, alert.summary))),
    ]
    if alert.kind != "anomaly":
        parts.append(Text(f"[{alert.kind}]", style="dim"))
    lasting = _lasting(alert)
    if lasting and lasting not in alert.summary:
        parts.append(Text(f"({'lasted' if alert.ends_at else 'for'} {lasting})", style="dim"))
    return Text("  ").join(parts)


def _lasting(alert: Alert) -> str:
    """How long the incident has lasted in event time; empty where it has only begun."""
    try:
        span_ms = parse_time(alert.ends_at or alert.window.end) - parse_time(alert.starts_at)
    except ValueError:
        return ""  # Another program's idea of a time: it is shown as it is.
    return format_duration(span_ms) if span_ms > 0 else ""
