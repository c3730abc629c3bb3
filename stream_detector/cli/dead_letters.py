"""The command that lists the messages that could not be used, and sends them back after a fix.

Parses, asks and counts; the list is in `letters`, the way back in `streaming.replay`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stream_detector import settings as all_settings
from stream_detector.cli.alerts import PANEL
from stream_detector.cli.letters import print_json, print_list
from stream_detector.cli.pipe import hush_the_client, reader_may_leave, visible
from stream_detector.errors import ConfigError, StreamDetectorError
from stream_detector.settings import Settings
from stream_detector.streaming.replay import Counts, decided, group_of, replay
from stream_detector.streaming.topics import end_offsets

LISTED = 20
"""Letters that are listed one by one, unless it is said how many."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("dead-letters", rich_help_panel=PANEL)(dead_letters)


def dead_letters(
    reason: Annotated[
        str | None, typer.Option(metavar="SLUG", help="only letters whose reason begins with this word: bad-time, ...")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help=f"only the latest so many  [default: {LISTED}; with --json all]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a letter and line")] = False,
    send_back: Annotated[bool, typer.Option("--replay", help="send them back to the topic of readings")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="with --replay: do not ask")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
) -> None:
    """List the messages that could not be used; with [bold]--replay[/], send them back after a fix.

    A replay sends each letter once and unchanged, even if it is killed and started again; the next one sends only what
    came since. With [bold]--reason[/] it sends only those letters and leaves all others for a later replay. It writes
    to the configured topic of readings alone: letters that came from another topic are counted and left. What was sent
    is remembered by the consumer group GROUP_ID-dead-letters; Kafka forgets that after 7 days without a replay, if it
    is not set otherwise (offsets.retention.minutes), and the next replay then sends all that still is there.
    """
    if reason is not None and not reason.strip():
        raise ConfigError("--reason is empty: give the word that the reasons begin with, or leave it out")
    settings = all_settings.load(config)
    hush_the_client()
    if send_back:
        if json or limit is not None:
            raise ConfigError("--json and --limit are about the list: leave them out with --replay")
        _send_back(settings, reason, yes)
        return
    if yes:
        raise ConfigError("--yes is for --replay: leave it out")
    with reader_may_leave():
        if json:
            print_json(settings, reason, limit)
        else:
            print_list(settings, reason, LISTED if limit is None else limit)


def _send_back(settings: Settings, reason: str | None, yes: bool) -> None:
    kafka = settings.kafka
    if not yes:
        _ask(settings, reason)
    counts = Counts()
    try:
        for counts in replay(kafka, settings.worker, reason):  # noqa: B007 the last one is printed
            pass
    except StreamDetectorError:
        typer.echo(f"sent back before that: {counts.sent:,}; another replay goes on after them", err=True)
        raise
    typer.echo(f"sent back to {kafka.readings_topic}: {counts.sent:,}")
    for topic, count in sorted(counts.elsewhere.items()):
        typer.echo(
            f"refused, for they came from {visible(topic)}: {count:,} (only letters of kafka.readings_topic are sent)"
        )
    if counts.no_letters:
        typer.echo(f"passed over, for they are no dead letters: {counts.no_letters:,} in {kafka.dead_letters_topic}")


def _ask(settings: Settings, reason: str | None) -> None:
    """Let a person confirm; raises ConfigError where there is none, and ends where the answer is no."""
    kafka = settings.kafka
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("--replay asks before it sends, and there is no terminal to ask on: add --yes")
    ends = end_offsets(kafka, kafka.dead_letters_topic)
    places = decided(kafka, settings.worker, ends)
    most = sum(max(0, end - places[one].until(kafka.readings_topic, reason)) for one, end in ends.items())
    which = f" with the reason {visible(reason)}" if reason is not None else ""
    typer.echo(
        f"Send the dead letters{which} that {group_of(kafka)} has not sent yet (at most {most:,}) back to "
        f"{kafka.readings_topic}? [y/N] ",
        nl=False,
    )
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo("Nothing was sent.")
        raise typer.Exit
