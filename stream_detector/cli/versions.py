"""Versions of trained weights as tables for people, or as objects for programs.

Names of channels, reasons and decisions are data: nothing in them steers the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from stream_detector.cli.pipe import visible
from stream_detector.models.artifact import Artifact
from stream_detector.streaming.registry import Line, LineRecord, Version

COLOURS = {"champion": "bold green", "former": "cyan", "challenger": "yellow", "refused": "red"}


def print_lines(console: Console, records: Sequence[LineRecord]) -> None:
    """A table a line, the newest version first."""
    for record in records:
        used = "" if record.champion else "; none is in use yet"
        console.print(Text.assemble((visible(str(record.line)), "bold"), f"  line {record.line.key}{used}"))
        grid = Grid(box=SIMPLE)
        for name in ("version", "status", "created (UTC)"):
            grid.add_column(name, no_wrap=True)
        for name in ("trained on", "metrics", "decision"):
            grid.add_column(name)
        for version in reversed(record.versions):
            grid.add_row(
                version.digest[:12],
                Text(version.status, COLOURS[version.status]),
                moment(version.created),
                Text(span(version)),
                Text(told(version.metrics)),
                Text(told(version.decision)),
            )
        console.print(grid)


def print_version(console: Console, line: Line, version: Version, artifact: Artifact) -> None:
    """Everything of one version, a line each."""
    since = f"{version.promoted_at or ''}{f' to {version.until}' if version.until else ''}"
    rows = {
        "version": version.digest[:12],
        "digest": f"sha256:{version.digest}",
        "line": f"{line}  ({line.key})",
        "status": version.status,
        "champion since" if version.status == "champion" else "champion from": since,
        "reason": version.reason or "",
        "created": version.created,
        "parent": version.parent or "",
        "trained on": span(version),
        "sensors with a scale": f"{len(artifact.scaler):,}",
        "model": artifact.model.name,
        "parameters": f"{sum(tensor.numel() for tensor in artifact.model.state_dict().values()):,}",
        **{f"  {name}": str(value) for name, value in asdict(artifact.model.config).items()},
    }
    for title, values in (("metrics", version.metrics), ("decision", version.decision)):
        rows |= {title: "" if values else "none was recorded"}
        rows |= {f"  {name}": worded(value) for name, value in leaves(values)}
    grid = Grid.grid(padding=(0, 2))
    for name, value in rows.items():
        if value or name in ("metrics", "decision"):
            grid.add_row(Text(visible(name), "bold"), Text(visible(value)))
    console.print(grid)


def as_object(line: Line, version: Version, artifact: Artifact | None = None) -> dict[str, Any]:
    """What `--json` prints; with the artifact, also what it says of its model."""
    about = {"line": {"model": line.model, "channels": line.channels, "key": line.key}, "version": version.digest[:12]}
    plain = {name: getattr(version, name) for name in version.__struct_fields__}
    if artifact is None:
        return about | plain
    return about | plain | {"model": artifact.model.name, "config": asdict(artifact.model.config)}


def span(version: Version) -> str:
    """What a version was trained on."""
    trained = version.trained_on
    if not trained.readings:
        return "nothing"
    days = " to ".join(dict.fromkeys((trained.start[:10], trained.end[:10])))
    return f"{days}, {trained.readings:,} readings, {trained.sensors:,} sensors"


def told(values: Mapping[str, Any]) -> str:
    """The numbers, and yes or no, among values; by their last names where those tell them apart."""
    found = [(name, value) for name, value in leaves(values) if not isinstance(value, str)]
    last = [name.rpartition(".")[2] for name, _ in found]
    names = last if len({*last}) == len(last) else [name for name, _ in found]
    shown = [f"{name} {worded(value)}" for name, (_, value) in zip(names, found, strict=True)]
    return visible(", ".join(shown)) or "-"


def leaves(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Values within values, by the names that lead to them."""
    if isinstance(values, Mapping):
        inner: Iterator[tuple[Any, Any]] = iter(values.items())
    elif isinstance(values, list | tuple):
        inner = enumerate(values, 1)
    else:
        yield name, values
        return
    for key, value in inner:
        yield from leaves(value, f"{name}.{key}" if name else str(key))


def worded(value: Any) -> str:
    """A value for people: four digits are enough of a number."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def moment(time: str) -> str:
    """A time to the minute."""
    return visible(time[:16].replace("T", " "))
