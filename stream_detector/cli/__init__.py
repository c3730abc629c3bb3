"""The commands: parse, call, print. Whatever computes lives elsewhere."""

from __future__ import annotations

import logging
import sys

import typer

from stream_detector.cli import alerts, dead_letters, demo, feedback, files, local, schema, worker
from stream_detector.errors import StreamDetectorError

app = typer.Typer(
    name="stream-detector",
    help="Finds anomalies in streams of sensor readings and tells them as incidents.\n\n"
    "Start with [bold]stream-detector demo[/]; then try [bold]stream-detector detect FILE[/] on your own data.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo.register(app)
files.register(app)
worker.register(app)
local.register(app)
alerts.register(app)
dead_letters.register(app)
feedback.register(app)
schema.register(app)


def main() -> None:
    """Run the command line: 0 done, 1 failure, 2 wrong usage or data, 130 interrupted."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    # What matters of the client is told in our own words; and at DEBUG it would log passwords.
    logging.getLogger("kafka").setLevel(logging.ERROR)
    try:
        app()
    except StreamDetectorError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
