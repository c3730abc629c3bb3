"""One self-contained HTML page about a run: its facts, its incidents and a zoomable plot per sensor.

    write_report(path, title=..., channels=..., traces=..., alerts=..., facts=...)

    incidents.py  alerts -> incidents, which sensors are worth drawing, which channels
    thinning.py   long columns -> few rows, no spike lost
    figure.py     one sensor -> what plotly draws
    page.py       everything -> HTML; page.css and page.js are its looks and its behaviour

It takes arrays and alert records from any caller. It knows neither models nor thresholds nor how the scores
came about, and nothing in the page is loaded from the network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from stream_detector.errors import ConfigError, OutputError
from stream_detector.evaluation.report.figure import SensorTrace
from stream_detector.evaluation.report.incidents import incidents_of, worst_first
from stream_detector.evaluation.report.page import Run, render
from stream_detector.records import Alert

__all__ = ["SensorTrace", "write_report"]


def write_report(
    path: Path | str,
    *,
    title: str,
    channels: Sequence[str],
    traces: Sequence[SensorTrace],
    alerts: Sequence[Alert],
    facts: Mapping[str, str],
    max_sensors: int = 30,
    labels: Mapping[str, Sequence[tuple[int, int]]] | None = None,
) -> None:
    """Write the report of one run to `path`, whole or not at all.

    channels: names of the columns of every trace's values.
    alerts: every step of every incident, in any order; steps of one incident share `alert_id`.
    facts: what ran, as the reader should see it (model, files ...); the span, sensors, readings and incidents
        are counted here and added, unless `facts` has an entry of that name.
    labels: per sensor the true spans in ms, both ends included, where they are known.
    """
    script = plotly_script()
    incidents = incidents_of(alerts)
    ordered = worst_first(traces, incidents)
    run = Run(
        title=title,
        channels=channels,
        drawn=ordered[:max_sensors],
        left_out=ordered[max_sensors:],
        incidents=incidents,
        facts=facts,
        labels=labels or {},
    )
    replace_file(Path(path), render(run, script))


def plotly_script() -> str:
    """The JavaScript of plotly, which the page carries inside itself."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError("the report needs plotly: pip install 'stream-detector[report]'") from error
    return str(get_plotlyjs())


def replace_file(path: Path, text: str) -> None:
    """Write beside `path`, then rename, so that a reader never meets half a page."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # A sensor id read from a damaged file may hold what UTF-8 cannot; one odd name must not cost the page.
        beside.write_bytes(text.encode("utf-8", "replace"))
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"cannot write the report {path}: {reason}; choose a file in a folder that exists and is writable"
        raise OutputError(message) from error
    finally:
        discard(beside)


def discard(path: Path) -> None:
    """Remove what a failed write left; an error here would hide the one that matters."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
