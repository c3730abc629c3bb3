"""A run over files as an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream_detector import __version__
from stream_detector.evaluation.report import SensorTrace, write_report
from stream_detector.records import Ints
from stream_detector.simulate import Fault
from stream_detector.streaming.offline import Run


def write_run_report(path: Path, run: Run, source: str, labels: Sequence[Fault] = ()) -> None:
    """Draw every sensor of a run, with its incidents and, where they are known, the true faults."""
    infos = {f"{info.name} {info.version}" for info in (detector.artifact.info for detector in run.detectors)}
    budgets = {detector.options.budget.text for detector in run.detectors}
    trained = int(run.rows.trained.sum())
    facts = {
        "Read": source,
        "Model": ", ".join(sorted(infos)),
        "Trained on": f"{trained:,} rows" if trained else "readings before these",
        "Budget": ", ".join(sorted(budgets)),
        "Program": f"stream-detector {__version__}",
    }
    known: dict[str, list[tuple[int, int]]] = {}
    for fault in labels:
        known.setdefault(fault.sensor_id, []).append((fault.start_ms, fault.end_ms))
    write_report(
        path,
        title=f"Incidents in {source}",
        channels=run.table.channels,
        traces=_traces(run),
        alerts=run.alerts,
        facts=facts,
        labels=known or None,
    )


def _traces(run: Run) -> list[SensorTrace]:
    table = run.table
    sensor = table.sensor[table.order]
    return [_trace(run, name, table.order[sensor == index]) for index, name in enumerate(table.sensor_ids)]


def _trace(run: Run, name: str, mine: Ints) -> SensorTrace:
    table, rows = run.table, run.rows
    trained = mine[rows.trained[mine]]
    return SensorTrace(
        sensor_id=name,
        time_ms=table.time_ms[mine],
        values=table.values[mine],
        score=rows.score[mine],
        threshold=rows.threshold[mine],
        training_until_ms=int(np.max(table.time_ms[trained])) if len(trained) else None,
    )
