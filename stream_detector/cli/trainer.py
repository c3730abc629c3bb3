"""The command that runs the trainer."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stream_detector import settings as all_settings
from stream_detector.cli import logs, show
from stream_detector.cli.logs import LogFormat
from stream_detector.cli.stopping import stoppable
from stream_detector.streaming.registry import open_registry
from stream_detector.streaming.telemetry import Telemetry, serving
from stream_detector.streaming.trainer import Bars, Trainer
from stream_detector.training.fit import Progress

PANEL = "Services"
LINE_EVERY_S = 10.0
HANGS_AFTER_S = 300.0
"""Between two signs of life a trainer may make windows of all its readings, or wait for a broker that is away."""
logger = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("trainer", rich_help_panel=PANEL)(trainer)


def trainer(
    once: Annotated[bool, typer.Option("--once", help="refresh the weights once, and end")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
    log_format: LogFormat = None,
) -> None:
    """Refresh the weights from recent readings, at an interval and when the sensors drift; workers pick them up.

    New weights are held against those in use, on the latest readings and on faults planted in copies of them, and are
    promoted only if they are not worse. Runs until it is stopped: SIGTERM ends it cleanly with exit code 0. A second
    trainer waits for the first to end.
    """
    settings = all_settings.load(config)
    for_people = logs.begin(settings, log_format)
    telemetry = Telemetry(hangs_after_s=HANGS_AFTER_S)
    with open_registry(settings) as registry:
        running = Trainer(settings, registry, _bars(for_people), telemetry=telemetry)
        with stoppable(running.stop):
            if once:
                running.once()
                return
            with serving(telemetry, settings.http):
                running.run()


def _bars(for_people: bool) -> Bars:
    """Progress bars for people at a terminal, a line now and then for everybody else."""
    return (lambda: show.bars(Console(stderr=True))) if for_people and sys.stderr.isatty() else _lines


@contextmanager
def _lines() -> Iterator[Callable[[str], Progress]]:
    def bar(name: str) -> Progress:
        told_s = time.monotonic()

        def progress(done: int, total: int, loss: float) -> None:
            nonlocal told_s
            if time.monotonic() - told_s >= LINE_EVERY_S or done == total:
                logger.info("%s: step %d of %d, loss %.4g", name, done, total, loss)
                told_s = time.monotonic()

        return progress

    yield bar
