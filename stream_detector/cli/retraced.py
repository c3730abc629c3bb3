"""A retraced alert as tables for people: what it said, beside what comes out now.

What an alert or a topic says is data: nothing in it steers the terminal. Computes nothing but which readings are near.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from stream_detector.cli.pipe import COLOURS, visible
from stream_detector.cli.rules import rule
from stream_detector.models.artifact import TrainedOn
from stream_detector.records import Channel, Threshold, format_time, parse_time
from stream_detector.settings import Settings
from stream_detector.streaming.past import Basis
from stream_detector.streaming.retained import Kept
from stream_detector.streaming.retrace import SCORED, Retraced, Step
from stream_detector.streaming.track import Track

BEFORE, AFTER = 8, 4
SHOWN_CHANNELS = 8
SCALES: dict[Basis, str] = {
    "whole": "as it was: all that the sensor ever sent is retained",
    "state": "as it was: walked back from the sensor's present state",
    "estimated": "estimated from these readings",
}


@dataclass(frozen=True, slots=True)
class Near:
    """A reading near the alert, and what it was scored, if it was. mark: it opened the incident, or a step is of it."""

    time_ms: int
    offset: int
    values: Sequence[float]
    score: float | None
    threshold: float | None
    mark: str


def nearby(found: Retraced, kept: Kept) -> list[Near]:
    """The readings around the one with which the alert began, in order of time."""
    order = np.argsort(kept.time_ms, kind="stable")
    time_ms = kept.time_ms[order]
    middle = int(np.searchsorted(time_ms, parse_time(found.first.window.end)))
    some = order[max(0, middle - BEFORE) : middle + AFTER + 1]
    track = next((one for one in found.tracks if one.kept is kept), None)
    none = np.full(len(some), np.nan)
    score, threshold = track.at(kept.time_ms[some]) if track else (none, none)
    marks = {parse_time(step.told.window.end): step.told.event for step in reversed(found.steps)}
    return [
        Near(
            int(kept.time_ms[i]),
            int(kept.offset[i]),
            kept.values[i].tolist(),
            None if np.isnan(score[at]) else float(score[at]),
            float(threshold[at]) if np.isfinite(threshold[at]) else None,
            marks.get(int(kept.time_ms[i]), ""),
        )
        for at, i in enumerate(some.tolist())
    ]


def print_retraced(console: Console, settings: Settings, found: Retraced) -> None:
    """Everything, from what happened to the readings around it."""
    first = found.first
    console.print(Text(visible(first.summary), f"bold {COLOURS[first.severity]}"), soft_wrap=True)
    console.print(Text(f"{first.kind} of {visible(first.sensor_id)}, {first.alert_id}\n"), soft_wrap=True)
    grid = Grid.grid(padding=(0, 2))
    for name, value in _facts(settings, found):
        grid.add_row(Text(name, "bold"), Text(visible(value)))
    console.print(grid)
    console.print(_steps(found))
    step = next((one for one in found.steps if one.told.channels), None)
    if step is not None and first.kind in SCORED:
        console.print(_channels(step))
    if found.kept is not None and len(found.kept):
        console.print(_readings(found, found.kept))
    for sentence in _verdict(found):
        console.print(Text(sentence), soft_wrap=True)


def _facts(settings: Settings, found: Retraced) -> Iterator[tuple[str, str]]:
    for one in found.found.values():
        artifact = one.artifact
        made = f", made {artifact.created[:16].replace('T', ' ')}" if artifact.created else ""
        yield "weights", f"{artifact.model.name} {artifact.info.version} ({one.place}){made}"
        yield "trained on", _span(artifact.trained_on)
    for why in found.gone.values():
        yield "weights", why
    kept, topic = found.kept, settings.kafka.readings_topic
    if kept is not None and len(kept):
        begin, end = (format_time(int(moment)) for moment in (kept.time_ms.min(), kept.time_ms.max()))
        yield "readings", f"{len(kept):,} in {topic}/{kept.partition}, {begin} to {end}"
    if found.lost:
        yield "readings", found.lost
    for start in {track.start.basis: track.start for track in found.tracks}.values():
        yield "scale", SCALES[start.basis] + (f" ({start.why})" if start.why else "")
    if text := rule(settings, found):
        yield "rule", text


def _span(trained: TrainedOn) -> str:
    if not trained.readings:
        return "nothing"
    return f"{trained.start} to {trained.end}, {trained.readings:,} readings of {trained.sensors:,} sensors"


def _steps(found: Retraced) -> Grid:
    grid = Grid(title="What was told, and what comes out now", title_justify="left", box=SIMPLE)
    for name, right in (("step", 0), ("at (UTC)", 0), ("score", 1), ("now", 1), ("threshold", 1), ("now", 1)):
        grid.add_column(name, justify="right" if right else "left", no_wrap=True)
    grid.add_column("")
    for step in found.steps:
        told, again = step.told, step.again
        cells = (
            f"{told.seq} {told.event}",
            told.window.end.removesuffix("Z").replace("T", " "),
            _number(told.score),
            _number(again.score if again else None),
            _limit(told.threshold),
            _limit(again.threshold if again else None),
        )
        grid.add_row(*map(Text, cells), _same(step))
    return grid


def _same(step: Step) -> Text:
    if step.same is None:
        return Text(step.note, "dim")
    return Text("the same", "green") if step.same else Text(f"{', '.join(step.differing[:3])} differ", "yellow")


def _channels(step: Step) -> Grid:
    """The channels of a step: share of the score, what came, what was expected, each as told and now."""
    grid = Grid(title=f"Channels when it {step.told.event}: as told / now", title_justify="left", box=SIMPLE)
    for name in ("channel", "share", "actual", "expected", "usual from", "to"):
        grid.add_column(name, justify="left" if name == "channel" else "right", no_wrap=name != "channel")
    now = {channel.name: channel for channel in step.again.channels} if step.again else {}
    for channel in step.told.channels[:SHOWN_CHANNELS]:
        pairs = [
            _pair(channel, now.get(channel.name), name) for name in ("contribution", "actual", "expected", "lower")
        ]
        grid.add_row(Text(visible(channel.name)), *map(Text, [*pairs, _pair(channel, now.get(channel.name), "upper")]))
    return grid


def _pair(told: Channel, again: Channel | None, name: str, form: str = "{:.6g}") -> str:
    """A value as told, and beside it as it is now where that is another one."""
    one, other = getattr(told, name), getattr(again, name) if again else None
    return _number(one, form) if again is None or one == other else f"{_number(one, form)} / {_number(other, form)}"


def _readings(found: Retraced, kept: Kept) -> Grid:
    grid = Grid(title="Readings around it", title_justify="left", box=SIMPLE)
    for name in ("time (UTC)", *kept.channels[:SHOWN_CHANNELS], "score", "threshold", ""):
        grid.add_column(Text(visible(name)), justify="left" if name in ("time (UTC)", "") else "right", no_wrap=True)
    for one in nearby(found, kept):
        values = ["-" if np.isnan(value) else f"{value:g}" for value in one.values[:SHOWN_CHANNELS]]
        moment = format_time(one.time_ms).removesuffix("Z").replace("T", " ")
        cells = (moment, *values, _number(one.score), _number(one.threshold), one.mark)
        grid.add_row(*map(Text, cells), style="bold" if one.mark else "")
    return grid


def _verdict(found: Retraced) -> Iterator[str]:
    """In words: whether it came out the same, and if not, why that may be."""
    compared = [step for step in found.steps if step.same is not None]
    differing = [step for step in compared if step.same is False]
    if not compared:
        return
    if not differing:
        yield "Scores, expected values and bands come out the same, to the digits that the alert has."
    else:
        worst = max(_apart(step) for step in differing)
        track = found.track(differing[0])
        far = f"scores by up to {worst:.2%}" if worst >= 5e-5 else "in the last digits"
        yield f"{len(differing)} of {len(compared)} steps differ, {far}: {_why(track)}."
    track = found.track(compared[0])
    if track is not None and any(_limits_differ(step) for step in compared):
        yield (
            f"The threshold rests on all of a sensor's past and on answers to alerts: the alert's own is what counted. "
            f"The one of now is built from {len(track.time_ms):,} scored readings."
        )


def _why(track: Track | None) -> str:
    if track is not None and track.start.basis == "estimated":
        return f"the sensor's scale of then is estimated, since {track.start.why}"
    return "settings of the sensor (channels, stride, device) may be others than then"


def _apart(step: Step) -> float:
    told, again = step.told.score, step.again.score if step.again else None
    return abs(again - told) / max(abs(told), 1e-12) if told is not None and again is not None else 0.0


def _limits_differ(step: Step) -> bool:
    mine, other = step.told.threshold, step.again.threshold if step.again else None
    return mine is not None and other is not None and mine.value != other.value


def _limit(threshold: Threshold | None) -> str:
    if threshold is None:
        return "-"
    return f"{threshold.value:g} ({threshold.scope})" if np.isfinite(threshold.value) else "none yet"


def _number(value: float | None, form: str = "{:.6g}") -> str:
    return "-" if value is None else form.format(value)
