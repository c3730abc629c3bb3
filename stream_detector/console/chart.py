"""A sensor's columns as options of ECharts. Pure: only values, times and fixed words go in.

Names from outside are values of options, never keys: a key that begins with a colon would be run as a program. Tooltips
are drawn on the canvas, so nothing in them is markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_detector.evaluation.report.thinning import break_silences, thin
from stream_detector.records import Bools, Floats, Ints
from stream_detector.streaming.sensor_history import Columns

POINTS = 3_000
"""Of one line, whatever part of it is looked at."""
AROUND = 120
"""Readings to show beside a stretch of them."""
GREY, LINE, EXPECTED, SCORE, LIMIT = "#8a94a6", "#3b82f6", "#10b981", "#8b5cf6", "#ef4444"
SHADES = ("rgba(56,189,248,.22)", "rgba(245,158,11,.24)", "rgba(239,68,68,.24)", "rgba(190,18,60,.30)")
"""Of incidents, by severity."""
Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shade:
    """An incident to shade: end_ms None while it goes on."""

    begin_ms: int
    end_ms: int | None
    severity: int


def options(channel: str) -> Options:
    """Two pictures above each other, of readings and of scores, with one axis of time; without data yet."""
    label = {"color": GREY, "hideOverlap": True}
    axis = {"type": "time", "axisLabel": label, "axisLine": {"lineStyle": {"color": GREY}}}
    up = {
        "type": "value",
        "scale": True,
        "axisLabel": {"color": GREY},
        "splitLine": {"lineStyle": {"color": GREY, "opacity": 0.2}},
        "nameTextStyle": {"color": GREY, "align": "left"},
    }
    line = {"type": "line", "showSymbol": False, "animation": False, "connectNulls": False}
    band = line | {
        "stack": "band",
        "stackStrategy": "all",
        "lineStyle": {"opacity": 0},
        "silent": True,
        "tooltip": {"show": False},
    }
    return {
        "animation": False,
        "aria": {"enabled": True},
        "useUTC": True,
        "backgroundColor": "transparent",
        "tooltip": {"trigger": "axis", "renderMode": "richText", "confine": True, "axisPointer": {"type": "line"}},
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "grid": [
            {"left": 62, "right": 16, "top": 34, "height": 200},
            {"left": 62, "right": 16, "top": 286, "height": 110},
        ],
        "xAxis": [axis | {"gridIndex": 0, "axisLabel": {"show": False}}, axis | {"gridIndex": 1}],
        "yAxis": [up | {"gridIndex": 0, "name": channel}, up | {"gridIndex": 1, "name": "score", "min": 0}],
        "dataZoom": [
            {"type": "inside", "xAxisIndex": [0, 1], "filterMode": "none", "zoomOnMouseWheel": "ctrl"},
            {
                "type": "slider",
                "xAxisIndex": [0, 1],
                "filterMode": "none",
                "bottom": 8,
                "height": 26,
                "showDataShadow": False,
                "textStyle": {"color": GREY},
            },
        ],
        "series": [
            band | {"name": "lower", "data": []},
            band | {"name": "usual", "data": [], "areaStyle": {"color": EXPECTED, "opacity": 0.18}},
            line | {"name": "expected", "data": [], "lineStyle": {"color": EXPECTED, "width": 1.2, "type": "dashed"},
                    "itemStyle": {"color": EXPECTED}},
            line | {"name": "reading", "data": [], "lineStyle": {"color": LINE, "width": 1.4},
                    "itemStyle": {"color": LINE}, "markArea": {"silent": True, "data": []}},
            line | {"name": "score", "data": [], "xAxisIndex": 1, "yAxisIndex": 1,
                    "lineStyle": {"color": SCORE, "width": 1.2}, "itemStyle": {"color": SCORE}},
            line | {"name": "threshold", "data": [], "xAxisIndex": 1, "yAxisIndex": 1, "step": "end",
                    "lineStyle": {"color": LIMIT, "width": 1.2}, "itemStyle": {"color": LIMIT},
                    "markArea": {"silent": True, "data": []}},
        ],
    }  # fmt: skip


def fill(into: Options, columns: Columns, channel: int, shades: Sequence[Shade], view: tuple[float, float]) -> None:
    """Put the data of one channel in. view: the part that is looked at, as shares of the whole time, 0 to 1.

    Of what is looked at `POINTS` are drawn, of the rest fewer: so it stays quick however much there is.
    """
    first, last = int(columns.time_ms[0]), int(columns.time_ms[-1])
    begin, end = (first + round((last - first) * share) for share in view)
    time_ms, several = break_silences(columns.time_ms, columns.values[:, channel : channel + 1])
    values = several[:, 0]
    rows = _drawn(time_ms, values, begin, end)
    series = into["series"]
    series[3]["data"] = _pairs(time_ms[rows], values[rows])
    scored = columns.scored_ms
    near = _drawn(scored, columns.score, begin, end)
    lower, upper = columns.lower[near, channel], columns.upper[near, channel]
    series[0]["data"] = _pairs(scored[near], lower)
    series[1]["data"] = _pairs(scored[near], upper - lower)
    series[2]["data"] = _pairs(scored[near], columns.expected[near, channel])
    series[4]["data"] = _pairs(scored[near], columns.score[near])
    limits = np.where(np.isfinite(columns.threshold[near]), columns.threshold[near], np.nan)
    series[5]["data"] = _pairs(scored[near], limits)
    step = int(np.median(np.diff(columns.time_ms))) if len(columns.time_ms) > 1 else 1
    areas = [_area(one, last, step) for one in shades if (one.end_ms or last) >= first]
    series[3]["markArea"]["data"] = series[5]["markArea"]["data"] = areas
    for axis in into["xAxis"]:
        axis["min"], axis["max"] = first, max(last, first + 1)
    for zoom in into["dataZoom"]:
        zoom["start"], zoom["end"] = (100 * share for share in view)


def part(columns: Columns, begin_ms: int, end_ms: int) -> tuple[float, float]:
    """The part to look at so that a stretch of time is seen with what is around it."""
    first, last = int(columns.time_ms[0]), int(columns.time_ms[-1])
    begin, after = np.searchsorted(columns.time_ms, [begin_ms, end_ms + 1]).tolist()
    around = max(AROUND, 2 * (after - begin))
    low = int(columns.time_ms[min(max(0, begin - around), len(columns.time_ms) - 1)])
    high = int(columns.time_ms[min(len(columns.time_ms) - 1, after + around // 2)])
    span = max(last - first, 1)
    return (low - first) / span, max((high - first) / span, (low - first) / span + 1e-6)


def shares(columns: Columns, begin_ms: int | None = None) -> list[tuple[str, float]]:
    """Each channel's share of the latest scores, or of those from a time on; the largest first."""
    parts = columns.contribution
    if begin_ms is not None:
        parts = parts[columns.scored_ms >= begin_ms]
    whole = np.nan_to_num(parts[-50:]).sum(axis=0) if len(parts) else np.zeros(len(columns.channels))
    total = float(whole.sum()) or 1.0
    found = [(name, float(part) / total) for name, part in zip(columns.channels, whole, strict=True)]
    return sorted(found, key=lambda one: -one[1])


def _drawn(time_ms: Ints, values: Floats, begin_ms: int, end_ms: int) -> Ints:
    """Rows to draw: most of them within the part that is looked at."""
    if len(time_ms) <= POINTS:
        return np.arange(len(time_ms), dtype=np.int64)
    inside: Bools = (time_ms >= begin_ms) & (time_ms <= end_ms)
    near, far = np.flatnonzero(inside), np.flatnonzero(~inside)
    rows = [near[thin(values[near], points=POINTS)] if len(near) else near]
    rows += [far[thin(values[far], points=POINTS // 6)]] if len(far) else []
    return np.sort(np.concatenate(rows)).astype(np.int64)


def _pairs(time_ms: Ints, values: Floats) -> list[list[float | None]]:
    short = [None if not np.isfinite(value) else float(f"{value:.7g}") for value in values.tolist()]
    return [[moment, value] for moment, value in zip(time_ms.tolist(), short, strict=True)]


def _area(shade: Shade, last_ms: int, step_ms: int) -> list[dict[str, Any]]:
    """A shade from half a step before to half a step behind, so that a single reading's is seen."""
    begin, end = shade.begin_ms - step_ms // 2, max(shade.end_ms or last_ms, shade.begin_ms) + step_ms // 2 + 1
    return [{"xAxis": begin, "itemStyle": {"color": SHADES[shade.severity]}}, {"xAxis": end}]
