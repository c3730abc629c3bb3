"""The command that keeps a Kafka and a Redis running for whoever tries things out."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from stream_detector.local import running

PANEL = "Services"
CHECK_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("local", rich_help_panel=PANEL)(local)


def local(
    directory: Annotated[
        Path | None,
        typer.Option(file_okay=False, show_default="they go at the end", help="keep the data here, to find them again"),
    ] = None,
    kafka_port: Annotated[int | None, typer.Option(min=1, max=65535, show_default="a free one")] = None,
    redis_port: Annotated[int | None, typer.Option(min=1, max=65535, show_default="a free one")] = None,
) -> None:
    """Run a real Kafka and a real Redis on this machine until stopped; needs the extra [bold]local[/].

    When both answer, their addresses come on standard output as two lines that a shell can evaluate:
    [bold]STREAM_DETECTOR_KAFKA__BOOTSTRAP_SERVERS=...[/] and [bold]STREAM_DETECTOR_REDIS__URL=...[/]
    """
    signal.signal(signal.SIGTERM, _end)
    typer.echo("starting Kafka and Redis (the first time Kafka is fetched, about 45 MB) ...", err=True)
    with running(directory, kafka_port=kafka_port, redis_port=redis_port) as servers:
        typer.echo(f"STREAM_DETECTOR_KAFKA__BOOTSTRAP_SERVERS={servers.kafka}")
        typer.echo(f"STREAM_DETECTOR_REDIS__URL={servers.redis}")
        sys.stdout.flush()
        typer.echo("both answer; stop them with Ctrl-C", err=True)
        while True:
            time.sleep(CHECK_S)
            servers.check()


def _end(number: int, frame: FrameType | None) -> None:
    """Leave the block above, and so stop the servers, with exit code 0."""
    sys.exit(0)
