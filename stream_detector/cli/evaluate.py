"""The command that holds detectors against labels."""

from __future__ import annotations

import csv
import io
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

from stream_detector import __version__
from stream_detector import settings as all_settings
from stream_detector.cli import show
from stream_detector.errors import ConfigError
from stream_detector.evaluation import pictures, sets, tables
from stream_detector.evaluation.results import Result
from stream_detector.evaluation.runner import TRAINING, Failed, Job, Plan, keep_plan, needs_training, run_all
from stream_detector.evaluation.tables import Grid
from stream_detector.models import BASELINES, MODELS
from stream_detector.settings import Settings
from stream_detector.streaming import files

BUDGET = "1 per 2000 readings"
"""About one a week of five-minute readings. Benchmarks have no owner who could state a budget in time, and some of them
hold half an hour in all."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("evaluate", rich_help_panel="On files")(evaluate)


def evaluate(
    path: Annotated[
        Path, typer.Argument(help="a directory of labelled series, or one file (a column label, 1 is an anomaly)")
    ],
    form: Annotated[str, typer.Option("--format", help=f"of the series: {' or '.join(sets.FORMATS)}")] = "csv",
    models: Annotated[
        str, typer.Option(help="models' names or directories of artifacts, with commas between")
    ] = "multiscale",
    baselines: Annotated[bool, typer.Option("--baselines", help=f"also {', '.join(BASELINES)}")] = False,
    train: Annotated[
        str,
        typer.Option(
            help="prefix: learn from the first rows of each series; none: begin with weights that come with the "
            "program, and learn from what has passed of the series"
        ),
    ] = "prefix",
    output: Annotated[
        Path | None,
        typer.Option(help="directory for scores, results.csv, results.md and report.html; goes on where it stopped"),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="series at a time")] = os.cpu_count() or 1,
    budget: Annotated[str, typer.Option(help="false alerts of one series that you accept")] = BUDGET,
    threshold: Annotated[str, typer.Option(help="block-maximum, spot, dspot, fixed:X or quantile:Q")] = "block-maximum",
    window: Annotated[int, typer.Option(help="readings that the models look at")] = 128,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, ...")] = "cpu",
    epochs: Annotated[int, typer.Option(min=1, help="rounds over the training rows, at most")] = 10,
    seed: Annotated[int, typer.Option(help="the same seed gives the same result")] = 0,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
) -> None:
    """Judge detectors on labelled series, with the very detector that runs in production.

    Each series gets a fresh detector. No label, and no later row, has a part in a score.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # with the processes that it started
    _check_choice("--format", form, sets.FORMATS)
    _check_choice("--train", train, TRAINING)
    plan = Plan(train, window, budget, threshold, epochs, seed)
    settings = _settings(config, plan, device)
    chosen = _models(models, baselines, train)
    series = sets.find(path, form)
    if output is not None:
        _run(Console(), path.resolve().name, series, chosen, plan, settings, output, jobs, keep=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        _run(Console(), path.resolve().name, series, chosen, plan, settings, Path(scratch), jobs, keep=False)


def _run(
    console: Console,
    name: str,
    series: Sequence[sets.Series],
    models: Sequence[str],
    plan: Plan,
    settings: Settings,
    output: Path,
    processes: int,
    keep: bool,
) -> None:
    keep_plan(output, plan)
    jobs = [Job(one, model, plan, settings, output) for model in models for one in series]
    with show.bars(Console(stderr=True)) as progress:
        results, failed = run_all(jobs, processes, progress(f"evaluating {len(models)} on {len(series)} series"))
    _print(console, results)
    if keep and results:
        _write(output, name, jobs, results, failed, _facts(plan, processes))
        console.print(
            f"Written to {output}: results.md, results.csv, report.html, scores/", highlight=False, markup=False
        )
    if failed:
        for one in failed:
            typer.echo(f"failed: {one.detector} on {one.series}: {one.reason}", err=True)
        raise typer.Exit(1)


def _facts(plan: Plan, processes: int) -> dict[str, str]:
    trained = {"prefix": "each series' first rows", "none": "what had passed of the series, at first nothing"}
    return {
        "Date": date.today().isoformat(),
        "Hardware": f"{_processor()}, {os.cpu_count()} cores, {processes} series at a time",
        "Learned from": f"{trained[plan.training]}; epochs {plan.epochs}, seed {plan.seed}",
        "Window": f"{plan.window} rows",
        "Threshold": f"{plan.threshold}, budget {plan.budget}",
        "Program": f"stream-detector {__version__}",
    }


def _processor() -> str:
    """What the processor calls itself, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())


def _write(
    output: Path, name: str, jobs: Sequence[Job], results: list[Result], failed: list[Failed], facts: dict[str, str]
) -> None:
    missing = [f"{one.detector} on {one.series}: {one.reason}" for one in failed]
    files.write_lines(output / "results.md", [tables.page(name, facts, results, missing).encode()[:-1]])
    files.write_lines(output / "results.csv", _csv(tables.every_series(results)))
    files.write_lines(output / "summary.csv", _csv(tables.summary(results)))
    lost = {(one.detector, one.series) for one in failed}
    first = jobs[0].place.detector
    kept = [
        (job.series, job.place) for job in jobs if job.place.detector == first and (first, job.series.name) not in lost
    ]
    found = tables.by_detector(results).get(first, [])
    quality = {column.head: column.cell(found) for column in tables.COLUMNS} if found else {}
    pictures.draw(output / "report.html", f"{first} on {name}", {**facts, **quality}, kept)


def _csv(grid: Grid) -> list[bytes]:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([grid.heads, *grid.rows])
    return text.getvalue().encode().splitlines()


def _print(console: Console, results: Sequence[Result]) -> None:
    if not results:
        return
    for grid in (tables.summary(results, brief=True), tables.nab_scores(results, brief=True)):
        if grid is not None:
            drawn = RichTable(box=SIMPLE, padding=0, collapse_padding=True)
            for number, (head, *cells) in enumerate(zip(grid.heads, *grid.rows, strict=True)):
                # Heads may break, numbers may not.
                drawn.add_column(head, justify="right" if number else "left", min_width=max(map(len, cells)))
            for row in grid.rows:
                drawn.add_row(*row)
            console.print(drawn)


def _settings(config: Path | None, plan: Plan, device: str) -> Settings:
    given = {"budget": plan.budget, "threshold": plan.threshold, "window": plan.window, "device": device}
    if plan.threshold.startswith(("fixed", "quantile")):
        del given["budget"]
    return all_settings.override(all_settings.load(config), given)


def _models(models: str, baselines: bool, train: str) -> list[str]:
    """The models asked for, each once."""
    named = [name.strip() for name in models.split(",") if name.strip()]
    for name in named:
        if name not in MODELS and not Path(name).exists():
            raise ConfigError(
                f"--models {name!r} is neither a model ({', '.join(MODELS)}) nor a directory with a trained artifact"
            )
        if train == "none" and needs_training(name):
            raise ConfigError(f"the model {name} must be trained: leave it out, or give --train prefix")
    added = [name for name in BASELINES if train == "prefix" or not needs_training(name)] if baselines else []
    every = list(dict.fromkeys([*named, *added]))
    if not every:
        raise ConfigError(f"--models names none: choose of {', '.join(MODELS)}, or give --baselines")
    if len({Path(name).name for name in every}) < len(every):
        raise ConfigError("two of the --models have one name: their results would lie in the same place")
    return every


def _check_choice(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{option} {value!r} is unknown: choose one of {', '.join(known)}")
