"""Versions of trained weights as tables for people, or as objects for programs.

Names of channels, reasons and decisions are data: nothing in them steers the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from stream_detector.cli.pipe import visible
from stream_detector.models.artifact import Artifact
from stream_detector.records import format_duration
from stream_detector.streaming.registry import Line, LineRecord, Tally, Version

COLOURS = {"champion": "bold green", "former": "cyan", "shadow": "magenta", "challenger": "yellow", "refused": "red"}
SHOWN = {"champion": "in use"}
NUMBERS = {"loss": "loss", "false alarms": "alarms", "recall": "recall"}
"""The three numbers that tell whether weights are any good, and their names in a decision and in metrics."""
AGAINST = "7 / 9: its own number / that of the weights that were in use then"


def print_lines(console: Console, records: Sequence[LineRecord], tallies: Mapping[str, Tally]) -> None:
    """A table a line, the newest version first; tallies: what was counted of the shadows, by the line's key."""
    compared = False
    for record in records:
        used = "" if record.champion else "; none is in use yet"
        console.print(Text.assemble((visible(str(record.line)), "bold"), f"  line {record.line.key}{used}"))
        grid = Grid(box=SIMPLE)
        for name in ("version", "status", "created (UTC)"):
            grid.add_column(name, no_wrap=True)
        for name in NUMBERS:
            grid.add_column(name, no_wrap=True, justify="right")
        for version in reversed(record.versions):
            numbers = [number(version, name) for name in NUMBERS.values()]
            compared |= any(" / " in one for one in numbers)
            status = Text(SHOWN.get(version.status, version.status), COLOURS[version.status])
            grid.add_row(version.digest[:12], status, moment(version.created), *numbers)
        console.print(grid)
        if record.shadow and record.line.key in tallies:
            console.print(Text(f"  shadow {record.shadow.digest[:12]}: {counted(tallies[record.line.key])}\n"))
    if compared:
        console.print(Text(AGAINST, "dim"))


def number(version: Version, name: str) -> str:
    """A number of a version, and the champion's where it was held against one."""
    decided = version.decision.get("numbers")
    decided = decided if isinstance(decided, Mapping) else {}
    own, other = decided.get(name, version.metrics.get(name)), decided.get(f"champion_{name}")
    if not _is_number(own):
        return "-"
    return f"{worded(own)} / {worded(other)}" if _is_number(other) else worded(own)


def counted(tally: Tally) -> str:
    """What workers have counted of a shadow so far."""
    if tally.fault is not None:
        return visible(f"cannot be run: {tally.fault}")
    if not tally.windows:
        return "no worker has scored a window with it yet"
    watched = format_duration(tally.span_ms // max(tally.sensors, 1))
    return (
        f"{tally.windows:,} windows of {tally.sensors:,} sensors over {watched}, {tally.challenger:,} alarms, "
        f"the champion {tally.champion:,}, the budget allows {tally.allowed:.3g}"
    )


def print_version(
    console: Console, line: Line, version: Version, artifact: Artifact, tally: Tally | None = None
) -> None:
    """Everything of one version, a line each; tally: what was counted of it, if it is a shadow."""
    since = f"{version.promoted_at or ''}{f' to {version.until}' if version.until else ''}"
    rows = {
        "version": version.digest[:12],
        "digest": f"sha256:{version.digest}",
        "line": f"{line}  ({line.key})",
        "status": version.status,
        "champion since" if version.status == "champion" else "champion from": since,
        "tried beside": counted(tally) if tally else "",
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


def as_object(
    line: Line, version: Version, artifact: Artifact | None = None, tally: Tally | None = None
) -> dict[str, Any]:
    """What `--json` prints; with the artifact, also what it says of its model; of a shadow, also what was counted."""
    about: dict[str, Any] = {
        "line": {"model": line.model, "channels": line.channels, "key": line.key},
        "version": version.digest[:12],
    }
    about |= {"counted": msgspec.to_builtins(tally)} if tally else {}
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def moment(time: str) -> str:
    """A time to the minute."""
    return visible(time[:16].replace("T", " "))
