"""The command that hands alerts on to where people are told."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE
from rich.table import Table as Grid
from rich.text import Text

from stream_detector import settings as all_settings
from stream_detector.cli import logs
from stream_detector.cli.alerts import PANEL, Config, OfKind, OfLabel, OfSensor, OfSeverity
from stream_detector.cli.logs import LogFormat
from stream_detector.cli.pipe import COLOURS, Pipe, hush_the_client, visible
from stream_detector.cli.stopping import stoppable
from stream_detector.errors import ConfigError, TransportError
from stream_detector.records import format_time
from stream_detector.settings import Settings
from stream_detector.streaming.forward import receivers, undelivered
from stream_detector.streaming.forward.forwarder import Forwarder
from stream_detector.streaming.forward.numbers import Numbers
from stream_detector.streaming.forward.receiver import Receiver
from stream_detector.streaming.telemetry import Telemetry, serving
from stream_detector.streaming.topics import ensure_topics
from stream_detector.streaming.wanted import Wanted, labels_of

logger = logging.getLogger(__name__)
NAME = re.compile(r"[a-zA-Z0-9._-]{1,80}")
LOOK_EVERY_S = 0.2
BROKERS_CHOICE = -1


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("forward", rich_help_panel=PANEL)(forward)


def forward(
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL]...", help="receivers, all of one kind  [default: forward.urls, or forward.urls_file]"
        ),
    ] = None,
    to: Annotated[
        Literal["alertmanager", "pagerduty", "webhook", "apprise"] | None,
        typer.Option("--to", help="what kind of receivers they are"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="name of the receiver, and of its consumer group  [default: from kind and address]"),
    ] = None,
    severity: OfSeverity = None,
    sensor: OfSensor = None,
    label: OfLabel = None,
    kind: OfKind = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="a new receiver is told all that is there, not what is open")
    ] = False,
    list_undelivered: Annotated[
        bool, typer.Option("--undelivered", help="list what receivers did not take, and end")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="send that once more to the receivers named, and end")] = False,
    config: Config = None,
    log_format: LogFormat = None,
) -> None:
    """Hand alerts on to Alertmanager, PagerDuty, webhooks, or (apprise) chat, mail and SMS.

    [bold]stream-detector forward --to alertmanager http://alertmanager:9093[/]

    Runs until it is stopped. Each receiver has a consumer group of its own and waits for no other; what it is told, it
    is told in order, at least once, with ids that tell repeats. An incident is told from its first step that fits the
    options on, and then to its end. A receiver that is away is waited for; what it refuses, or does not take within
    forward.give_up_after, is kept: see [bold]--undelivered[/] and [bold]--retry[/]. Put addresses that hold secrets in
    forward.urls_file, one a line.
    """
    settings = all_settings.load(config)
    for_people = logs.begin(settings, log_format)
    wanted = Wanted(sensor, severity, kind, labels_of(label or ()))
    if for_people:
        hush_the_client()
    if list_undelivered and not retry:
        undelivered.prepare(settings.kafka)
        _list(settings, name)
        return
    if to is None:
        raise ConfigError(f"say where to forward: --to {', '.join(receivers.KINDS)}")
    named = _named(to, receivers.addresses(to, urls or (), settings.forward), name, settings)
    undelivered.prepare(settings.kafka)
    if retry:
        _retry(settings, named)
    else:
        _run(settings, named, wanted, from_beginning)


def _named(kind: str, urls: Sequence[str], name: str | None, settings: Settings) -> dict[str, Receiver]:
    """Receivers by name; raises ConfigError for a name or an address that cannot be used."""
    if name is not None and not NAME.fullmatch(name):
        raise ConfigError(f"the name {name!r} may hold letters, digits, '.', '_' and '-' only")
    if name is not None and len(urls) > 1:
        raise ConfigError("--name is for one receiver: give one URL, or leave it out")
    found = {}
    for url in dict.fromkeys(urls):
        digest = hashlib.sha256(url.encode()).hexdigest()[:8]
        found[name or f"{kind}-{digest}"] = receivers.build(kind, url, settings.forward)
    return found


def _run(settings: Settings, named: dict[str, Receiver], wanted: Wanted, from_beginning: bool) -> None:
    telemetry = Telemetry()
    numbers = Numbers(telemetry)
    ensure_topics(settings.kafka, {settings.kafka.alerts_topic: BROKERS_CHOICE})
    running = [Forwarder(settings, one, key, wanted, numbers, from_beginning) for key, one in named.items()]
    telemetry.ready = lambda: all(one.connected for one in running)
    ending: list[bool] = []
    with stoppable(lambda: ending.append(True)), serving(telemetry, settings.http):
        for one, receiver in zip(running, named.values(), strict=True):
            logger.info("forwarding %s to %s as %s", settings.kafka.alerts_topic, receiver.shown, one.name)
            one.start()
        while not ending and not any(one.error for one in running):
            if min(one.beat_s for one in running) > time.monotonic() - LOOK_EVERY_S * 10:
                telemetry.beat()
            time.sleep(LOOK_EVERY_S)
        for one in running:
            one.stop()
        for one in running:
            one.join(settings.worker.shutdown_timeout_ms / 1000)
    for one in running:
        if one.error is not None:
            raise one.error


def _retry(settings: Settings, named: dict[str, Receiver]) -> None:
    failed = 0
    for name, receiver in named.items():
        reasons = Counter(undelivered.send_again(settings.kafka, name, receiver))
        sent = reasons.pop("", 0)
        typer.echo(f"{name} ({receiver.shown}): {sent:,} sent")
        for reason, times in reasons.items():
            failed += times
            typer.echo(f"{name} ({receiver.shown}): still not taken: {visible(reason)}", err=True)
    if failed:
        raise TransportError("what was not taken, and what follows it, is kept: mend the receiver and try again")


def _list(settings: Settings, name: str | None) -> None:
    grid = Grid("since", "receiver", "severity", "step", "about", "tried", "reason", box=SIMPLE)
    rows = 0
    for one in undelivered.pending(settings.kafka, name):
        alert, rows = one.alert, rows + 1
        grid.add_row(
            format_time(one.record.timestamp_ms),
            Text(visible(one.receiver)),
            Text(alert.severity, style=COLOURS[alert.severity]),
            f"{alert.event} {alert.seq}",
            Text(visible(alert.group or alert.sensor_id)),
            str(one.attempts),
            Text(visible(one.reason)),
        )
    console = Pipe()
    console.print(grid if rows else Text("nothing is undelivered"))
