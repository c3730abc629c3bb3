"""The commands: parse, call, print. Whatever computes lives elsewhere."""

from __future__ import annotations

import importlib
import logging
import sys

import typer

from stream_detector.errors import StreamDetectorError

MODULE_OF = {
    "demo": "demo",
    "detect": "files",
    "train": "files",
    "simulate": "simulate",
    "evaluate": "evaluate",
    "pretrain": "files",
    "worker": "worker",
    "trainer": "trainer",
    "local": "local",
    "alerts": "alerts",
    "feedback": "feedback",
    "dead-letters": "dead_letters",
    "models": "models",
    "replay": "replay",
    "console": "console",
    "forward": "forward",
    "schema": "schema",
    "benchmark": "benchmark",
}
"""Where each command lives, in the order in which help shows them."""

app = typer.Typer(
    name="stream-detector",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def about() -> None:
    """Finds anomalies in streams of sensor readings and tells them as incidents.

    Start with [bold]stream-detector demo[/]; then try [bold]stream-detector detect FILE[/] on your own data.
    """


def register(command: str) -> None:
    """Load the module of a command, or of all when it is none: loading torch takes seconds, and not all need it."""
    wanted = [MODULE_OF[command]] if command in MODULE_OF else dict.fromkeys(MODULE_OF.values())
    for name in wanted:
        importlib.import_module(f"stream_detector.cli.{name}").register(app)


def main() -> None:
    """Run the command line: 0 done, 1 failure, 2 wrong usage or data, 130 interrupted."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    # What matters of the client is told in our own words; and at DEBUG it would log passwords.
    logging.getLogger("kafka").setLevel(logging.ERROR)
    logging.getLogger("kafka.cluster").setLevel(logging.CRITICAL)  # it calls the end of a client an error
    register(sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        app()
    except StreamDetectorError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
