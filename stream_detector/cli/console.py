"""The command that serves the console."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Annotated

import typer

from stream_detector import settings as all_settings
from stream_detector.cli import logs
from stream_detector.cli.logs import LogFormat
from stream_detector.cli.stopping import stoppable
from stream_detector.errors import ConfigError
from stream_detector.settings import ConsoleSettings

PANEL = "Alerts"
logger = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("console", rich_help_panel=PANEL)(console)


def console(
    host: Annotated[str | None, typer.Option(help="address to listen on  [default: console.host]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="port to listen on, 0 is any  [default: console.port]")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
    log_format: LogFormat = None,
) -> None:
    """Show incidents, sensors and the fleet in a browser, and take answers to alerts (extra [bold]console[/]).

    Reads the alerts, the readings and the sensors' state; disturbs no worker. Everybody who reaches it may look, and
    by default that is this machine alone; to answer takes the token of [bold]console.token[/].
    """
    settings = all_settings.load(config)
    logs.begin(settings, log_format)
    try:
        from stream_detector.console.app import new_console, serve
    except ModuleNotFoundError as error:
        if error.name != "nicegui":
            raise
        raise ConfigError("the console needs NiceGUI: pip install 'stream-detector[console]'") from error
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    chosen = settings.console.model_copy(update=given)
    settings = settings.model_copy(update={"console": chosen})
    made = new_console(settings)
    listening = bound(chosen)
    shown = f"http://{chosen.host if ':' not in chosen.host else f'[{chosen.host}]'}:{listening.getsockname()[1]}"
    with stoppable(lambda: None):
        serve(made, [listening], lambda: typer.echo(f"the console is on {shown}; Ctrl-C ends", err=True))


def bound(settings: ConsoleSettings) -> socket.socket:
    """A socket that listens where the settings say; raises ConfigError where that cannot be."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ConfigError(
            f"the console cannot listen on {settings.host}:{settings.port} ({error.strerror}): give another "
            "console.port or console.host"
        ) from error
    return listening
