"""One sensor as a plotly figure: a row for each channel, a row for the score, one time axis for all.

The figure is plain data for plotly's JavaScript. Colours that depend on light or dark are left to the page:
each line names its ink in `meta`. Text in a figure is read as markup by plotly, so it is escaped here.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from stream_detector.evaluation.report.incidents import Incident, choose_channels
from stream_detector.evaluation.report.thinning import POINTS, break_silences, focus_rows, scored_rows, thin
from stream_detector.records import Bools, Floats, Ints

Json: TypeAlias = dict[str, Any]

# Told apart by lightness as well as hue, so they survive colour blindness and grey printing.
SEVERITY_COLOURS = {"info": "#56B4E9", "warning": "#E69F00", "error": "#D55E00", "critical": "#A3195B"}
TRUTH_COLOUR = "#009E73"
TRAINING_COLOUR = "#888888"
MAX_SHADES = 500  # rectangles that a browser still moves smoothly while zooming
ROW_GAP_PX, TOP_PX, BOTTOM_PX, SCORE_PX, TRUTH_PX = 30, 26, 44, 150, 4
YEARS = 10_000
LOG_SPREAD = 30.0  # how far the highest score stands above the middle before a linear axis hides the rest


@dataclass(frozen=True)
class SensorTrace:
    """What one sensor sent and how it was scored.

    time_ms: (T,) int64 event time. values: (T, C) float64, NaN is missing.
    score: (T,) float64, higher is more anomalous, NaN where unscored.
    threshold: (T,) float64 in units of the score, NaN where there was none.
    training_until_ms: end of the part that the model was trained on, if any.
    channels: names of its own columns, where they are not those of the whole run.
    """

    sensor_id: str
    time_ms: Ints
    values: Floats
    score: Floats
    threshold: Floats
    training_until_ms: int | None = None
    channels: Sequence[str] | None = None


@dataclass(frozen=True)
class Picture:
    """A figure, its height, and what the reader must know about it."""

    figure: Json
    height_px: int
    channels_left_out: list[str]
    thinned: bool
    shades_left_out: int


def draw(
    trace: SensorTrace, channels: Sequence[str], incidents: Sequence[Incident], truth: Sequence[tuple[int, int]]
) -> Picture:
    """The picture of one sensor; `incidents` are its own, the worst first."""
    chosen, left_out = choose_channels(channels, incidents)
    extra = np.column_stack([trace.score, trace.threshold])
    time_ms, columns = break_silences(trace.time_ms, np.hstack([trace.values[:, chosen], extra]))
    end_ms = int(time_ms[-1]) if len(time_ms) else 0
    shaded = incidents[:MAX_SHADES]
    spans = [(one.start_ms, end_ms if one.end_ms is None else one.end_ms) for one in shaded]
    focus = focus_rows(time_ms, spans)
    heights = [170 if len(chosen) <= 2 else 110] * len(chosen) + [SCORE_PX]
    layout, height_px = rows_layout(heights, [channels[column] for column in chosen])
    data = [
        line(time_ms, columns[:, row], focus, row, channels[column], column) for row, column in enumerate(chosen)
    ] + score_lines(time_ms, columns, focus)
    axis_of_score = layout[axis_key(len(chosen))]
    axis_of_score.update(type="log" if spread_widely(trace.score) else "linear", exponentformat="power")
    if len(time_ms):
        layout["xaxis"]["range"] = [float(time_ms[0]), float(time_ms[-1])]
        if np.any(trace.time_ms % 1_000):
            layout["xaxis"]["hoverformat"] = "%Y-%m-%d %H:%M:%S.%3f UTC"
    layout["shapes"] = [
        *training_shape(trace.training_until_ms, time_ms),
        *(shade(span, SEVERITY_COLOURS[one.severity]) for span, one in zip(spans, shaded, strict=True)),
        *(truth_band(span, height_px) for span in truth[:MAX_SHADES]),
    ]
    return Picture(
        figure={"data": data, "layout": layout, "score_axis": axis_key(len(chosen))},
        height_px=height_px,
        channels_left_out=[channels[column] for column in left_out],
        thinned=len(time_ms) > POINTS,
        shades_left_out=len(incidents) - len(shaded) + len(truth[MAX_SHADES:]),
    )


def axis_key(row: int) -> str:
    """Plotly's name of the y axis of a row: yaxis, yaxis2, yaxis3 ..."""
    return "yaxis" if row == 0 else f"yaxis{row + 1}"


def rows_layout(heights: list[int], names: list[str]) -> tuple[Json, int]:
    """Axes stacked from the top down, the score last, and the height of the whole in pixels."""
    inner = sum(heights) + ROW_GAP_PX * (len(heights) - 1)
    layout: Json = {
        "margin": {"l": 52, "r": 12, "t": TOP_PX, "b": BOTTOM_PX},
        "showlegend": False,
        "hovermode": "x unified",
        "hoversubplots": "axis",
        "xaxis": {
            "type": "date",
            "anchor": axis_key(len(names)).replace("axis", ""),
            "hoverformat": "%Y-%m-%d %H:%M:%S UTC",
            "showspikes": True,
            "spikemode": "across",
            "spikethickness": 1,
            "spikedash": "dot",
        },
        "annotations": [],
    }
    top = inner
    for row, (height, name) in enumerate(zip(heights, [*names, "score"], strict=True)):
        domain = [max(top - height, 0) / inner, top / inner]
        layout[axis_key(row)] = {"domain": domain, "anchor": "x", "nticks": 5, "zeroline": False}
        text = f"<b>{html.escape(name)}</b>" + (" (dashed: threshold)" if row == len(names) else "")
        layout["annotations"].append(
            {"text": text, "x": 0, "y": domain[1], "xref": "paper", "yref": "paper", "xanchor": "left"}
            | {"yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        )
        top -= height + ROW_GAP_PX
    return layout, inner + TOP_PX + BOTTOM_PX


def line(time_ms: Ints, column: Floats, focus: Bools, row: int, name: str, ink: int | str) -> Json:
    """One thinned line (T,) on the y axis of `row`."""
    rows = thin(column, focus)
    drawn = column[rows]
    return {
        "type": "scatter",
        # A reading between two gaps has no neighbour to draw a line to.
        "mode": "lines+markers" if has_isolated(drawn) else "lines",
        "x": packed(moments(time_ms[rows])),
        "y": packed(drawn, small=True),
        "yaxis": "y" if row == 0 else f"y{row + 1}",
        "name": html.escape(name),
        "hovertemplate": "%{y:.5g}",
        "line": {"width": 1.4},
        "marker": {"size": 4},
        "meta": {"ink": ink},
    }


def moments(time_ms: Ints) -> Floats:
    """Times (T,) for a date axis, where plotly takes a bare number of four digits or fewer for a year: 2024, 70.

    With a fraction it is milliseconds again. Series that count their rows from 0 have such times.
    """
    exact = time_ms.astype(np.float64)
    return np.where(time_ms < YEARS, exact + 2.0**-10, exact)


def score_lines(time_ms: Ints, columns: Floats, focus: Bools) -> list[Json]:
    """The score and its threshold, the last two of the columns (T, C + 2), on the last row."""
    lines = []
    for column, name in ((-2, "score"), (-1, "threshold")):
        rows = scored_rows(time_ms, columns[:, column])
        lines.append(line(time_ms[rows], columns[rows, column], focus[rows], columns.shape[1] - 2, name, name))
    lines[1]["line"] = {"width": 1.6, "dash": "dash"}
    return lines


def has_isolated(column: Floats) -> bool:
    """Whether a value (T,) stands between two NaN or ends."""
    known = np.pad(np.isfinite(column), 1)
    return bool(np.any(known[1:-1] & ~known[:-2] & ~known[2:]))


def packed(column: Floats, small: bool = False) -> Json:
    """A column in plotly's binary form; with `small` in half the bytes where nobody could see it."""
    if small and len(column):
        with np.errstate(over="ignore", invalid="ignore"):
            half = column.astype(np.float32)
            error, extent = (
                np.abs(half - column),
                np.nanmax(column, initial=-np.inf) - np.nanmin(column, initial=np.inf),
            )
        if np.all(np.isnan(error) | (error <= 1e-5 * extent)):
            return {"dtype": "f4", "bdata": base64.b64encode(half.astype("<f4").tobytes()).decode("ascii")}
    return {"dtype": "f8", "bdata": base64.b64encode(column.astype("<f8").tobytes()).decode("ascii")}


def spread_widely(score: Floats) -> bool:
    """Whether a log axis shows the score (T,) better: positive throughout, its peaks far above its middle."""
    known = score[np.isfinite(score)]
    return bool(len(known) and known.min() > 0 and known.max() > LOG_SPREAD * np.median(known))


def shade(span: tuple[int, int], colour: str) -> Json:
    """An incident over all rows; its outline keeps it in sight when it is narrower than a pixel."""
    place = {"type": "rect", "xref": "x", "yref": "paper", "x0": span[0], "x1": span[1], "y0": 0, "y1": 1}
    return place | {
        "fillcolor": f"{colour}48",
        "line": {"width": 1.5, "color": f"{colour}B0"},
        "layer": "below",
    }


def truth_band(span: tuple[int, int], height_px: int) -> Json:
    """A known true span, as a thin band along the top of the first row."""
    thickness = TRUTH_PX / (height_px - TOP_PX - BOTTOM_PX)
    place = {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": span[0],
        "x1": span[1],
        "y0": 1,
        "y1": 1 - thickness,
    }
    return place | {"fillcolor": TRUTH_COLOUR, "line": {"width": 1.5, "color": TRUTH_COLOUR}}


def training_shape(until_ms: int | None, time_ms: Ints) -> list[Json]:
    """The part that the model was trained on, in grey up to a dotted line."""
    if until_ms is None or not len(time_ms) or until_ms <= time_ms[0]:
        return []
    end_ms = min(until_ms, int(time_ms[-1]))
    place = {"xref": "x", "yref": "paper", "x1": end_ms, "y0": 0, "y1": 1, "layer": "below"}
    area = place | {"type": "rect", "x0": int(time_ms[0]), "fillcolor": TRAINING_COLOUR, "opacity": 0.13}
    edge = place | {
        "type": "line",
        "x0": end_ms,
        "line": {"width": 1.5, "dash": "dot", "color": TRAINING_COLOUR},
    }
    return [area | {"line": {"width": 0}}, edge]
