"""The commands that need nothing but files: detect, train, pretrain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stream_detector import settings as all_settings
from stream_detector.cli import show
from stream_detector.cli.report import write_run_report
from stream_detector.errors import ConfigError
from stream_detector.models import MODELS
from stream_detector.records import encode
from stream_detector.settings import DetectorSettings, Settings
from stream_detector.streaming import files, offline, profiles
from stream_detector.streaming.answers_file import read_feedback
from stream_detector.streaming.offline import Learning
from stream_detector.streaming.weights import Weights
from stream_detector.training import pretrain as pretraining
from stream_detector.training.feedback import without_faults
from stream_detector.training.fit import FitOptions
from stream_detector.training.train import TrainOptions, train
from stream_detector.training.transfer import configured, fine_tune

PANEL = "On files"
Files = Annotated[
    list[Path],
    typer.Argument(
        help="CSV (gzip too) with a column timestamp, optionally sensor_id, then one column a channel; or JSON lines; "
        "- reads standard input",
        show_default=False,
    ),
]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help=f"a model to train ({', '.join(MODELS)}) or the directory of a trained artifact"),
]
Window = Annotated[int | None, typer.Option("--window", help="readings that the model looks at  [default: 128]")]
Device = Annotated[str | None, typer.Option("--device", help="torch device: cpu, cuda, ...  [default: cuda if there]")]
TimeUnit = Annotated[str, typer.Option("--time-unit", help="of numeric times: auto, s, ms, us, ns")]
Ignore = Annotated[list[str] | None, typer.Option("--ignore", help="a column to leave out; may be repeated")]
Epochs = Annotated[int, typer.Option(min=1, help="rounds over the training rows, at most")]
Seed = Annotated[int, typer.Option(help="the same seed gives the same result")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in (
        ("detect", detect),
        ("train", train_command),
        ("pretrain", pretrain_command),
    ):
        app.command(name, rich_help_panel=PANEL)(command)


def detect(
    paths: Files,
    model: ModelOption = None,
    train_rows: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="first rows in time to train on, without an artifact; 0 judges from the first full window on, with "
            "weights that come with the program and learn from the file as it passes  [default: 15 %]",
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="false alerts of one sensor that you accept  [default: 1 per 7d]")
    ] = None,
    sensitivity: Annotated[
        str | None, typer.Option(help="one word instead: low (1 per 30d), normal (1 per 7d), high (1 per 1d)")
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(help="block-maximum, spot, dspot, fixed:X or quantile:Q  [default: block-maximum]"),
    ] = None,
    window: Window = None,
    stride: Annotated[int | None, typer.Option(help="readings between two scorings  [default: 1]")] = None,
    output: Annotated[Path | None, typer.Option(help="alerts, one JSON record a line; - prints them")] = None,
    scores: Annotated[Path | None, typer.Option(help="CSV of scores, one row an input row; - prints it")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page with every sensor drawn")] = None,
    state: Annotated[
        Path | None, typer.Option(help="directory that carries the detector's memory from one run to the next")
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option(help="answers to alerts, as `stream-detector feedback` writes them")
    ] = None,
    device: Device = None,
    time_unit: TimeUnit = "auto",
    ignore: Ignore = None,
    epochs: Epochs = 10,
    seed: Seed = 0,
    config: Config = None,
) -> None:
    """Find incidents in files of readings.

    Without a trained artifact, the first 15 % of the rows are learned from and the rest is judged.
    """
    settings = _settings(
        config,
        model=model,
        budget=budget,
        sensitivity=sensitivity,
        threshold=threshold,
        window=window,
        stride=stride,
        device=device,
    )
    _check_model(settings.detector.model)
    learning = Learning(_training(settings.detector, FitOptions(epochs=epochs, seed=seed)), train_rows)
    answers = read_feedback(feedback) if feedback else []
    table = files.read_tables(paths, time_unit=time_unit, ignore=ignore or ())
    with show.bars(Console(stderr=True)) as progress:
        run = offline.detect(table, settings, learning, state, answers, progress)
    if output:
        files.write_lines(output, (encode(alert) for alert in run.alerts))
    if scores:
        files.write_scores(scores, table, run.rows.score, run.rows.p_value, run.rows.anomalous)
    if report:
        write_run_report(report, run, ", ".join(path.name for path in paths))
    printing = Path("-") in (output, scores)
    show.run_summary(Console(stderr=printing), run)


def train_command(
    paths: Files,
    output: Annotated[Path, typer.Option(help="directory for the trained artifact", show_default=False)],
    model: ModelOption = None,
    window: Window = None,
    begin: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="DIR", help="go on from these weights, for sensors with little data; or from `encoder`"
        ),
    ] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="with --from: only the last layer learns, the rest stays as it is")
    ] = False,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="a part of the model's configuration; may be repeated"),
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option(help="answers to alerts: confirmed anomalies and maintenance are not learned")
    ] = None,
    device: Device = None,
    time_unit: TimeUnit = "auto",
    ignore: Ignore = None,
    epochs: Epochs = 10,
    seed: Seed = 0,
    config: Config = None,
) -> None:
    """Train a model on files of mostly normal readings and save it as an artifact.

    Use it with [bold]stream-detector detect FILE --model DIR[/]. A column label is not read.
    """
    chosen = _settings(config, window=window, device=device, **({} if begin else {"model": model})).detector
    if begin is None and chosen.model not in MODELS:
        raise ConfigError(f"there is no model {chosen.model!r} to train: choose one of {', '.join(sorted(MODELS))}")
    if begin is None and frozen:
        raise ConfigError("--frozen keeps what was learned before: name these weights with --from")
    if begin is not None and (model or window or given):
        raise ConfigError("--from brings its model, window and configuration along: leave out --model, --window, --set")
    options = replace(
        _training(chosen, FitOptions(epochs=epochs, seed=seed)), config=configured(chosen.model, given or ())
    )
    answers = read_feedback(feedback) if feedback else []
    table = files.read_tables(paths, time_unit=time_unit, ignore=ignore or ())
    history = without_faults(offline.history(table, table.order), answers)
    start = Weights(chosen.window).artifact(str(begin), history.channels) if begin else None
    with show.bars(Console(stderr=True)) as progress:
        if start is None:
            artifact = train(history, options, progress("training"))
        else:
            artifact = fine_tune(history, start, options, progress("training"), frozen=frozen)
    artifact.save(output)
    show.artifact_summary(Console(), artifact, output)


def pretrain_command(
    output: Annotated[Path, typer.Option(help="directory of the artifact", show_default=False)],
    model: Annotated[str, typer.Option(help=f"which: {' or '.join(pretraining.SHARED)}")] = pretraining.SHARED[0],
    window: Annotated[int, typer.Option(min=8, help="readings that the model looks at")] = 128,
    steps: Annotated[int, typer.Option(min=1, help="steps of training")] = pretraining.STEPS,
    seed: Seed = 0,
) -> None:
    """Train weights on simulated signals, for sensors that have no history yet.

    They fit any number of channels. Those that come with the program were made by this command with its defaults.
    """
    if model not in pretraining.SHARED:
        raise ConfigError(
            f"--model {model!r} cannot be had before the channels are known: choose {' or '.join(pretraining.SHARED)}"
        )
    with show.bars(Console(stderr=True)) as progress:
        artifact = pretraining.pretrain(progress("pretraining"), window, steps, seed, model)
    artifact.save(output)
    show.artifact_summary(Console(), artifact, output)


def _settings(config: Path | None, **given: Any) -> Settings:
    """The settings, with the options that were given on the command line on top."""
    return all_settings.override(
        all_settings.load(config), {name: value for name, value in given.items() if value is not None}
    )


def _check_model(name: str) -> None:
    if name not in MODELS and not Path(name).exists():
        raise ConfigError(
            f"--model {name!r} is neither a model ({', '.join(sorted(MODELS))}) nor a directory with a trained artifact"
        )


def _training(chosen: DetectorSettings, fit: FitOptions) -> TrainOptions:
    return TrainOptions(chosen.model, chosen.window, profiles.device(chosen.device), fit)
