"""The report as HTML: summary, table of incidents, one section per sensor.

Every name, label and sentence is data that somebody else wrote: it is escaped, and a content security policy
in the page forbids it to load anything. page.css and page.js stand beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from stream_detector.evaluation.report.figure import SEVERITY_COLOURS, Picture, SensorTrace, draw
from stream_detector.evaluation.report.incidents import SEVERITIES, Incident, by_sensor
from stream_detector.evaluation.report.thinning import POINTS
from stream_detector.records import Channel, format_duration, format_time

MAX_ROWS = 2_000  # incidents in the table; more are counted, and no person reads them
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)
LEGEND = (
    *((f"background:{colour}", severity) for severity, colour in SEVERITY_COLOURS.items()),
    ("background:#8888", "used for training"),
)
BUTTONS = (
    '<span class="buttons"><button type="button" data-do="all">Whole span</button>'
    '<button type="button" data-do="log">Log score</button></span>'
)
TRUTH_LEGEND = ("background:#009E73;height:4px", "known fault (band at the top)")


@dataclass(frozen=True)
class Run:
    """What the page tells; `drawn` and `left_out` together are all traces, the worst first."""

    title: str
    channels: Sequence[str]
    drawn: Sequence[SensorTrace]
    left_out: Sequence[SensorTrace]
    incidents: Sequence[Incident]
    facts: Mapping[str, str]
    labels: Mapping[str, Sequence[tuple[int, int]]]


def render(run: Run, plotly_script: str) -> str:
    """The whole page as text."""
    here = files(__package__)
    style, behaviour = (here.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    found = by_sensor(run.incidents)
    sections = [
        sensor_section(number, trace, run, found.get(trace.sensor_id, [])) for number, trace in enumerate(run.drawn)
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(run.title)}</title>\n<style>{style}</style>\n</head>\n<body>",
            f"<header><h1>{escape(run.title)}</h1>\n{severity_tiles(run.incidents)}\n{facts_list(run)}</header>",
            f"<main><h2>Incidents</h2>\n{incident_table(run)}",
            f"<h2>Sensors</h2>\n{sensors_intro(run)}",
            *sections,
            f"</main>\n<script>{plotly_script}</script>\n<script>{behaviour}</script>\n</body>\n</html>\n",
        ]
    )


def severity_tiles(incidents: Sequence[Incident]) -> str:
    """How many incidents of each severity, the worst first, and how many are still open."""
    counts: list[tuple[str, int]] = [
        (name, sum(one.severity == name for one in incidents)) for name in reversed(SEVERITIES)
    ]
    counts.append(("still open", sum(one.end_ms is None for one in incidents)))
    tiles = [
        f'<li class="{name.replace(" ", "-")}{"" if count else " none"}"><b>{count:,}</b> {name}</li>'
        for name, count in counts
    ]
    return f'<ul class="tiles">{"".join(tiles)}</ul>'


def facts_list(run: Run) -> str:
    """What ran and on what: the caller's facts, then what can be counted here."""
    traces = [*run.drawn, *run.left_out]
    filled = [trace.time_ms for trace in traces if len(trace.time_ms)]
    counted = {"Sensors": f"{len(traces):,}", "Readings": f"{sum(map(len, filled)):,}"}
    if filled:
        first, last = min(int(time.min()) for time in filled), max(int(time.max()) for time in filled)
        span = f"{moment(format_time(first))} to {moment(format_time(last))} UTC ({format_duration(last - first)})"
        counted = {"Span of time": span, **counted}
    counted["Incidents"] = f"{len(run.incidents):,}"
    every = {**run.facts, **{name: value for name, value in counted.items() if name not in run.facts}}
    rows = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in every.items())
    return f"<dl>{''.join(rows)}</dl>"


def incident_table(run: Run) -> str:
    """One row an incident, the worst first, linked to the sensor's plot where there is one."""
    if not run.incidents:
        return '<p class="calm">No incident in this run.</p>'
    section = {trace.sensor_id: number for number, trace in enumerate(run.drawn)}
    rows = [incident_row(one, section.get(one.last.sensor_id)) for one in run.incidents[:MAX_ROWS]]
    beyond = len(run.incidents) - len(rows)
    note = f"<p>{beyond:,} milder incidents are not listed.</p>" if beyond else ""
    heads = ("Sensor", "Severity", "Start (UTC)", "End (UTC)", "Peak score", "What happened")
    head = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in heads)
    return (
        '<p class="hint">Choose an incident to see it in its plot; choose a column to sort by it.</p>'
        f'<table id="incidents"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>{note}'
    )


def incident_row(one: Incident, section: int | None) -> str:
    """The row of an incident; without a link if its sensor is not drawn."""
    sensor = f"<bdi>{escape(one.last.sensor_id)}</bdi>"
    if section is None:
        sensor += ' <span class="dim">(not drawn)</span>'
    else:
        until = "" if one.end_ms is None else f' data-until="{one.end_ms}"'
        sensor = f'<a href="#sensor-{section}" data-from="{one.start_ms}"{until}>{sensor}</a>'
    end = '<b class="open">still open</b>'
    if one.end_ms is not None:
        lasted = format_duration(one.end_ms - one.start_ms) if one.end_ms > one.start_ms else "one moment"
        end = f'{moment(format_time(one.end_ms))} <span class="dim">({lasted})</span>'
    causes = ", ".join(map(cause, sorted(one.first.channels, key=lambda it: -it.contribution)[:3]))
    what = f"{escape(one.first.summary)}" + (f'<div class="dim">{escape(causes)}</div>' if causes else "")
    cells = (
        ("Sensor", one.last.sensor_id, sensor),
        ("Severity", one.rank, f'<span class="badge {one.severity}">{one.severity}</span>'),
        ("Start", one.start_ms, moment(format_time(one.start_ms))),
        ("End", 2**53 if one.end_ms is None else one.end_ms, end),
        ("Peak score", one.last.peak_score or 0.0, "" if one.last.peak_score is None else f"{one.last.peak_score:.4g}"),
        ("What happened", one.first.summary, what),
    )
    return f"<tr>{''.join(cell(*parts) for parts in cells)}</tr>"


def cell(head: str, key: str | float, content: str) -> str:
    """One cell: the key it sorts by, and its column's name for screens too narrow for a table."""
    return f'<td data-head="{head}" data-key="{escape(str(key))}">{content}</td>'


def cause(channel: Channel) -> str:
    """A channel's part in an incident: `vib 9.1 (expected 2.0, from 1.5 to 2.5), 82 % of the score`."""
    text = channel.name if channel.actual is None else f"{channel.name} {channel.actual:.4g}"
    hints = [] if channel.expected is None else [f"expected {channel.expected:.4g}"]
    if channel.lower is not None and channel.upper is not None:
        hints.append(f"usual {channel.lower:.4g} to {channel.upper:.4g}")
    return text + (f" ({', '.join(hints)})" if hints else "") + f": {channel.contribution:.0%}"


def sensors_intro(run: Run) -> str:
    """How to read the plots, links to them, and the names of the sensors that have none."""
    legend = [*LEGEND, *([TRUTH_LEGEND] if any(run.labels.values()) else [])]
    parts = [
        '<p class="hint">Drag over a plot to zoom in, double-click to see all again. Times are UTC.</p>',
        '<ul class="legend"><li>Shaded:</li>',
        *(f'<li><i style="{style}"></i>{escape(text)}</li>' for style, text in legend),
        "</ul>",
    ]
    if run.left_out:
        names = ", ".join(f"<bdi>{escape(trace.sensor_id)}</bdi>" for trace in run.left_out)
        every = len(run.drawn) + len(run.left_out)
        parts.append(
            f'<details class="left-out"><summary>{len(run.drawn):,} of {every:,} sensors are drawn, those with '
            f"the worst incidents first; {len(run.left_out):,} are left out.</summary>"
            f"<p>{names}</p></details>"
        )
    links = (f'<a href="#sensor-{n}"><bdi>{escape(t.sensor_id)}</bdi></a>' for n, t in enumerate(run.drawn))
    return "".join([*parts, f"<nav>{''.join(links)}</nav>", "<noscript><p>The plots need JavaScript.</p></noscript>"])


def sensor_section(number: int, trace: SensorTrace, run: Run, incidents: Sequence[Incident]) -> str:
    """A sensor's heading, plot and notes; the plot's data waits in the page until it comes into view."""
    picture = draw(trace, trace.channels or run.channels, incidents, run.labels.get(trace.sensor_id, ()))
    labels = incidents[0].last.labels if incidents else {}
    tags = "".join(f'<span class="tag">{escape(name)}: {escape(value)}</span>' for name, value in labels.items())
    count = f"{len(incidents):,} incident{'s' if len(incidents) != 1 else ''}"
    badge = f' <span class="badge {incidents[0].severity}">{incidents[0].severity}</span>' if incidents else ""
    return (
        f'<section class="sensor" id="sensor-{number}"><div class="bar">'
        f'<h3><bdi>{escape(trace.sensor_id)}</bdi></h3><span class="dim">{count}</span>{badge}{tags}'
        f"{BUTTONS}</div>"
        f'<div class="plot" style="height:{picture.height_px}px"></div>{notes(trace, picture)}'
        f'<script type="application/json">{embedded(picture.figure)}</script></section>'
    )


def embedded(data: Mapping[str, object]) -> str:
    """JSON that may stand in a script element: without `<`, as `</script>` in a name would end the element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def notes(trace: SensorTrace, picture: Picture) -> str:
    """What the picture does not show, said plainly."""
    said = []
    if not len(trace.time_ms):
        said.append("No readings.")
    if picture.thinned:
        said.append(
            f"{len(trace.time_ms):,} readings, drawn with about {POINTS:,} points a line: "
            "of each stretch the lowest and the highest reading, closer together around incidents."
        )
    if picture.shades_left_out:
        said.append(f"{picture.shades_left_out:,} further spans are not shaded.")
    if picture.channels_left_out:
        names = ", ".join(picture.channels_left_out)
        count = len(picture.channels_left_out)
        said.append(f"{count} channels with a smaller part in the incidents are left out: {names}.")
    return f'<p class="note">{escape(" ".join(said))}</p>' if said else ""


def moment(text: str) -> str:
    """RFC 3339 as people read it; the zone is said once, in the heading."""
    return text.removesuffix("Z").replace("T", " ")
