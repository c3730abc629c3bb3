"""What the commands print for people: progress bars and summary tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from stream_detector.cli.pipe import COLOURS
from stream_detector.detect import thresholds
from stream_detector.detect.detector import Detector
from stream_detector.evaluation.matching import match
from stream_detector.models.artifact import Artifact
from stream_detector.records import SEVERITIES, Alert, format_duration, parse_time
from stream_detector.simulate import Fault, Fleet, faults_path
from stream_detector.streaming.offline import Run
from stream_detector.training import fit

LISTED = 20
"""Incidents and sensors that a summary lists at most."""


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str], fit.Progress]]:
    """Progress bars on `console`, one for each name that is asked for; they vanish when the work is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def bar(name: str) -> fit.Progress:
            work = progress.add_task(name, total=None)
            return lambda done, total, _: progress.update(work, completed=done, total=total)

        yield bar


def last_by_incident(alerts: Sequence[Alert]) -> list[Alert]:
    """The latest alert of every incident, in the order in which the incidents opened."""
    return list({alert.alert_id: alert for alert in alerts}.values())


def run_summary(console: Console, run: Run, listed: int = LISTED) -> None:
    """Sensors, incidents, and what could not be used."""
    incidents = last_by_incident(run.alerts)
    console.print(_sensors(run, incidents, listed))
    if incidents:
        console.print(_incidents(run.alerts, listed))
    else:
        console.print("No incidents.")
    for line in input_notes(run):
        console.print(line, style="yellow", highlight=False, markup=False)


def _sensors(run: Run, incidents: Sequence[Alert], listed: int) -> Grid:
    grid = Grid(title=f"Sensors ({len(run.table.sensor_ids)})", title_justify="left", box=SIMPLE)
    grid.add_column("sensor")
    for name in ("rows", "trained on", "scored", "incidents"):
        grid.add_column(name, justify="right")
    grid.add_column("worst")
    worst = dict.fromkeys(run.table.sensor_ids, -1)
    for alert in incidents:
        worst[alert.sensor_id] = max(worst.get(alert.sensor_id, -1), SEVERITIES.index(alert.severity))
    count = {i: sum(a.sensor_id == i for a in incidents) for i in worst}
    rows = sorted(enumerate(run.table.sensor_ids), key=lambda item: -count[item[1]])
    for index, name in rows[:listed]:
        mine = run.table.sensor == index
        severity = SEVERITIES[worst[name]] if worst[name] >= 0 else ""
        grid.add_row(
            escape(name),
            f"{mine.sum():,}",
            f"{(mine & run.rows.trained).sum():,}",
            f"{(mine & ~np.isnan(run.rows.score)).sum():,}",
            f"{count[name]}",
            f"[{COLOURS[severity]}]{severity}[/]" if severity else "-",
        )
    if len(rows) > listed:
        grid.caption = f"and {len(rows) - listed} more sensors with no more incidents than these"
    return grid


def _incidents(alerts: Sequence[Alert], listed: int) -> Grid:
    """One row an incident: what was said when it opened, and how long it lasted."""
    first = {alert.alert_id: alert for alert in reversed(alerts)}
    incidents = last_by_incident(alerts)
    grid = Grid(title=f"Incidents ({len(incidents)})", title_justify="left", box=SIMPLE)
    for name in ("severity", "from (UTC)", "lasted", "what"):
        grid.add_column(name, no_wrap=name != "what")
    for alert in incidents[:listed]:
        lasted = parse_time(alert.ends_at) - parse_time(alert.starts_at) if alert.ends_at else None
        grid.add_row(
            f"[{COLOURS[alert.severity]}]{alert.severity}[/]",
            alert.starts_at[:16].replace("T", " "),
            "still open" if lasted is None else format_duration(lasted),
            escape(first[alert.alert_id].summary),
        )
    if len(incidents) > listed:
        grid.caption = f"and {len(incidents) - listed} more: write them all with --output"
    return grid


def input_notes(run: Run) -> list[str]:
    """One line for each thing that a person should know about the input; nothing is dropped unsaid."""
    table = run.table
    too_late = sum(detector.buffers.counts.too_late for detector in run.detectors)
    notes = []
    if table.rejected:
        first = table.rejected[0]
        notes.append(
            f"{len(table.rejected):,} rows could not be used; the first: {first.source}, line {first.line}: "
            f"{first.reason}"
        )
    if table.out_of_order:
        notes.append(f"{table.out_of_order:,} rows were not in time order; they were read in time order")
    if table.repeated:
        notes.append(f"{table.repeated:,} rows repeat a sensor's time; the first of each counts")
    if too_late:
        notes.append(f"{too_late:,} rows are older than everything held of their sensor and were left out")
    notes += [note for detector in run.detectors if (note := _shortfall(detector))]
    if run.unanswered:
        ids = ", ".join(answer.alert_id for answer in run.unanswered[:3])
        notes.append(f"{len(run.unanswered):,} answers are about sensors that are not in these files, such as {ids}")
    if np.isnan(run.rows.score).all():
        notes.append("no row was scored: each sensor needs more rows than one window, or a smaller --window")
    return notes


def _shortfall(detector: Detector) -> str | None:
    """Whether the budget rests on the fleet still, for want of each sensor's own history."""
    state = detector.table.state
    usual = state["q_usual_ms"][state["q_usual_ms"] > 0]
    if not len(usual):
        return None
    return thresholds.shortfall(detector.options.budget, float(np.median(usual)), int(np.median(state["seen"])))


def artifact_summary(console: Console, artifact: Artifact, directory: Path) -> None:
    """What was trained and how to use it."""
    span = artifact.trained_on
    console.print(
        f"Trained {artifact.info.name} {artifact.info.version} on {span.readings:,} readings of {span.sensors} "
        f"sensors, {span.start} to {span.end}; channels {', '.join(artifact.channels)}.",
        highlight=False,
        markup=False,
    )
    console.print(f"Use it: stream-detector detect FILE --model {directory}", highlight=False, markup=False)


def fleet_summary(console: Console, fleet: Fleet, path: Path) -> None:
    """What was simulated and where it is."""
    kinds = Counter(fault.kind for fault in fleet.faults)
    console.print(
        f"{path}: {len(fleet.series)} sensors, {sum(len(s.time_ms) for s in fleet.series):,} readings, "
        f"{len(fleet.faults)} faults ({', '.join(f'{kind} {n}' for kind, n in sorted(kinds.items())) or 'none'}).",
        highlight=False,
        markup=False,
    )
    console.print(f"Faults: {faults_path(path)}", highlight=False, markup=False)
    console.print(f"Try it: stream-detector detect {path}", highlight=False, markup=False)


def found_faults(console: Console, run: Run, faults: Sequence[Fault]) -> None:
    """By kind of fault, how many were found; and how many incidents touch none."""
    matched = match(run.alerts, faults)
    grid = Grid(title="Injected faults", title_justify="left", box=SIMPLE)
    for name in ("kind", "found", "of", "median delay"):
        grid.add_column(name, justify="left" if name == "kind" else "right")
    for kind in sorted({fault.kind for fault in faults}):
        delays = [delay for fault, delay in zip(faults, matched.delays_ms, strict=True) if fault.kind == kind]
        found = [delay for delay in delays if delay is not None]
        late = (format_duration(int(np.median(found))) if np.median(found) else "none") if found else "-"
        grid.add_row(kind, str(len(found)), str(len(delays)), late)
    found_in_all = sum(delay is not None for delay in matched.delays_ms)
    grid.caption = f"{found_in_all} of {len(faults)} found; {matched.false_incidents} incidents touch no fault"
    console.print(grid)
