"""A sensor drawn: readings in their band, score against threshold, incidents shaded; zoomable, and live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from stream_detector.console import chart, phrases
from stream_detector.console.chart import Shade
from stream_detector.console.history import Viewed
from stream_detector.console.incidents import Incident
from stream_detector.console.pages.frame import Console, element, every, words
from stream_detector.streaming.sensor_history import MESSAGES, Columns

REFRESH_S = 1.0
MOST_MESSAGES = 4_000_000
LATEST = 1_000
"""Readings to look at first, where no part of them is asked for."""
HELP = "Drag the bar below to choose a part; drag the picture to move; Ctrl and the wheel, or two fingers, to zoom."


class Plot:
    """The picture of one sensor. focus: the stretch of time to look at first. told: is called with what is new."""

    def __init__(
        self,
        console: Console,
        sensor_id: str,
        focus: Callable[[], tuple[int, int] | None] = lambda: None,
        channel: str = "",
        told: Callable[[Viewed, Columns], None] = lambda viewed, columns: None,
    ) -> None:
        self._console, self.sensor_id, self._focus, self._told = console, sensor_id, focus, told
        self._messages, self._seen = MESSAGES, (-1, -1)
        self._view: tuple[float, float] | None = None
        self._channels: list[str] = []
        self._channel = channel
        with element("section", "plot", aria_label="Readings and scores"):
            with element("div", "plot-bar"):
                self._choice = ui.select([], label="Channel", on_change=lambda e: self._choose(e.value))
                self._choice.props("dense outlined").classes("field")
                self._span = words("", "faint grow")
                self._further = ui.button("Look further back", on_click=self._look_further).props("flat no-caps dense")
            self._said = words("Reading the sensor's history ...", "problem")
            self._drawn = ui.echart(chart.options("")).classes("drawn")
            self._drawn.on("chart:datazoom", self._zoomed, ["start", "end", "batch"], throttle=0.25)
            words(HELP, "faint small")
        self._further.set_visibility(False)
        every(REFRESH_S, self.refresh)

    def refresh(self) -> None:
        """Draw what is new."""
        viewed = self._console.histories.of(self.sensor_id, self._messages)
        if viewed is None:
            self._said.set_text("Too many sensors are being looked at; this one is drawn as soon as another is left.")
            return
        now = (viewed.number, self._console.feed.book.number)
        if now == self._seen or viewed.loading:
            return
        self._seen = now
        self._say(viewed)
        if (columns := viewed.columns) is not None:
            self._offer(columns)
            self._draw(columns)
            self._told(viewed, columns)

    def _say(self, viewed: Viewed) -> None:
        columns = viewed.columns
        said = [viewed.problem and f"Nothing new can be read: {viewed.problem}"]
        if columns is None and not viewed.problem:
            said.append("No reading of this sensor is among those that are retained and were looked at.")
        said.append(viewed.why_no_scores and f"There are no scores: {viewed.why_no_scores}.")
        said.append(viewed.store_away and f"Its state cannot be seen: {viewed.store_away}")
        self._said.set_text(" ".join(filter(None, said)))
        self._said.set_visibility(any(said))
        further = viewed.skipped > 0 and self._messages < MOST_MESSAGES
        self._further.set_visibility(further)
        if columns is not None:
            more = f"; {viewed.skipped:,} messages before are there too" if viewed.skipped else ""
            self._span.set_text(f"{len(columns.time_ms):,} readings{more}")

    def _offer(self, columns: Columns) -> None:
        """The channels by their share of the latest scores."""
        ordered = [name for name, _ in chart.shares(columns)]
        if sorted(ordered) != sorted(self._channels):
            self._channels = ordered
            if self._channel not in ordered:
                self._channel = ordered[0]
            self._choice.set_options(ordered, value=self._channel)
        self._choice.set_visibility(len(ordered) > 1)

    def _draw(self, columns: Columns) -> None:
        fresh = self._view is None
        if self._view is None:
            focus = self._focus() or (int(columns.time_ms[-LATEST:][0]), int(columns.time_ms[-1]))
            self._view = chart.part(columns, *focus) if self._focus() else (chart.part(columns, *focus)[0], 1.0)
        options: dict[str, Any] = self._drawn.options
        options["yAxis"][0]["name"] = self._channel
        chart.fill(options, columns, list(columns.channels).index(self._channel), self._shades(), self._view)
        if not fresh:
            # Where the user has put it, it stays: the picture knows that better.
            for zoom in options["dataZoom"]:
                zoom.pop("start"), zoom.pop("end")
        self._drawn.update()

    def _shades(self) -> list[Shade]:
        with self._console.feed.lock:
            several = self._console.feed.book.of_sensor(self.sensor_id)
        return [shade for one in several if (shade := _shade(one)) is not None]

    def _zoomed(self, event: Any) -> None:
        """Another part is looked at: draw it in full."""
        said = (event.args.get("batch") or [event.args])[0]
        begin, end = said.get("start"), said.get("end")
        if isinstance(begin, int | float) and isinstance(end, int | float) and 0 <= begin < end <= 100:
            self._view = begin / 100, end / 100
            self._seen = (-1, -1)
            self.refresh()

    def _choose(self, channel: str | None) -> None:
        if channel and channel != self._channel:
            self._channel, self._seen = channel, (-1, -1)
            self.refresh()

    def _look_further(self) -> None:
        self._messages *= 4
        self._view, self._seen = None, (-1, -1)
        self._said.set_text("Reading further back ...")
        self._said.set_visibility(True)


def _shade(one: Incident) -> Shade | None:
    begin, end = phrases.parsed(one.first.starts_at), phrases.parsed(one.last.ends_at or one.last.window.end)
    if begin is None or (end is None and not one.open):
        return None  # Another program's idea of a time.
    return Shade(begin, None if one.open else end, one.severity)
