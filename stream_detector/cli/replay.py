"""The command that shows again how an alert came to be: what it said, and what its readings come to today.

Computes nothing itself: `streaming.retrace` does; `retraced` has the tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

from stream_detector import __version__
from stream_detector import settings as all_settings
from stream_detector.cli.pipe import Pipe, hush_the_client, print_line, reader_may_leave
from stream_detector.cli.retraced import nearby, print_retraced
from stream_detector.cli.rules import rule
from stream_detector.errors import OutputError
from stream_detector.evaluation.report import SensorTrace, plotly_script, write_report
from stream_detector.records import format_time
from stream_detector.settings import Settings
from stream_detector.streaming.registry import open_registry
from stream_detector.streaming.retained import Kept
from stream_detector.streaming.retrace import Retraced, Step, retrace, told

PANEL = "Alerts"
MESSAGES = 300_000


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("replay", rich_help_panel=PANEL)(replay)


def replay(
    alert_id: Annotated[str, typer.Argument(help="alert_id of an alert that was told", show_default=False)],
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="a copy of the weights that made it, where they are kept nowhere else"),
    ] = None,
    messages: Annotated[
        int, typer.Option(min=1, help="read at most so many messages before the alert, and behind it")
    ] = MESSAGES,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="draw the sensor and the incident as an HTML page")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object for programs")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
) -> None:
    """Show again how an alert came to be: its readings, weights and state are fetched, and it is computed once more.

    What is no longer retained is said, with exit code 1, and the rest is shown. Nothing is written, and no worker is
    disturbed. Give the settings that the workers have.
    """
    settings = all_settings.load(config)
    hush_the_client()
    if report:
        plotly_script()  # what is missing is better said at once
    steps = told(settings.kafka, alert_id)
    with open_registry(settings) as registry:
        found = retrace(settings, registry, steps, model, messages)
    if report:
        _draw(report, settings, found)
    with reader_may_leave():
        if json:
            print_line(msgspec.json.encode(as_object(settings, found)))
        else:
            print_retraced(Pipe(), settings, found)
    if report:
        typer.echo(f"{report}: the picture", err=True)
    if not found.whole:
        typer.echo(f"error: {'; '.join(filter(None, [found.lost, *found.gone.values()]))}", err=True)
        raise typer.Exit(1)


def as_object(settings: Settings, found: Retraced) -> dict[str, Any]:
    """What `--json` prints."""
    first, kept = found.first, found.kept
    return {
        "alert_id": first.alert_id,
        "kind": first.kind,
        "sensor_id": first.sensor_id,
        "same": _all_same(found.steps),
        "steps": [_step(found, step) for step in found.steps],
        "weights": {digest: _weights(found, digest) for digest in found.found},
        "missing": [*([found.lost] if found.lost else []), *found.gone.values()],
        "rule": rule(settings, found),
        "readings": None if kept is None else _readings(settings, found, kept),
    }


def _all_same(steps: list[Step]) -> bool | None:
    """Whether all that could be computed came out the same; None where nothing could be."""
    said = [step.same for step in steps if step.same is not None]
    return all(said) if said else None


def _step(found: Retraced, step: Step) -> dict[str, Any]:
    again, track = step.again, found.track(step)
    shown = ("score", "p_value", "threshold", "channels")
    return {
        "told": step.told,
        "again": None if again is None else {name: getattr(again, name) for name in shown},
        "same": step.same,
        "differing": step.differing,
        "sensor_id": step.sensor_id,
        "scale": None if track is None or again is None else track.start.basis,
        "opened_again": None if track is None or again is None else step.told.alert_id in track.opened,
        "note": step.note or (track.start.why if track and step.same is False else ""),
    }


def _weights(found: Retraced, digest: str) -> dict[str, Any]:
    one = found.found[digest]
    artifact = one.artifact
    return {
        "name": artifact.model.name,
        "version": artifact.info.version,
        "place": one.place,
        "created": artifact.created,
        "trained_on": artifact.trained_on,
        "window": artifact.model.config.window,
        "channels": artifact.channels,
    }


def _readings(settings: Settings, found: Retraced, kept: Kept) -> dict[str, Any]:
    return {
        "topic": settings.kafka.readings_topic,
        "partition": kept.partition,
        "count": len(kept),
        "begin": format_time(int(kept.time_ms.min())) if len(kept) else None,
        "end": format_time(int(kept.time_ms.max())) if len(kept) else None,
        "channels": kept.channels,
        "around": [
            {
                "timestamp": format_time(one.time_ms),
                "offset": one.offset,
                "values": [None if np.isnan(value) else value for value in one.values],
                "score": one.score,
                "threshold": one.threshold,
            }
            for one in nearby(found, kept)
        ],
    }


def _draw(path: Path, settings: Settings, found: Retraced) -> None:
    """The page of a run, with the sensors of this alert alone."""
    first = found.first
    tracks = {track.kept.sensor_id: track for track in reversed(found.tracks)}
    traces, channels = [], tuple[str, ...]()
    for kept in found.retained.kept.values():
        track, order = tracks.get(kept.sensor_id), np.argsort(kept.time_ms, kind="stable")
        time_ms = kept.time_ms[order]
        none = np.full(len(time_ms), np.nan)
        score, threshold = track.at(time_ms) if track else (none, none)
        traces.append(SensorTrace(kept.sensor_id, time_ms, kept.values[order], score, threshold, None, kept.channels))
        channels = channels or kept.channels
    if not traces:
        raise OutputError(f"there is nothing to draw: {found.lost or 'the alert is not about a sensor'}")
    weights = [f"{one.artifact.info.name} {one.artifact.info.version}" for one in found.found.values()]
    facts = {
        "Alert": first.alert_id,
        "Read": settings.kafka.readings_topic,
        "Model": ", ".join(weights) or "none",
        "Program": f"stream-detector {__version__}",
    }
    write_report(
        path,
        title=f"Replay of {first.summary}",
        channels=channels,
        traces=traces,
        alerts=[step.told for step in found.steps],
        facts=facts,
    )
