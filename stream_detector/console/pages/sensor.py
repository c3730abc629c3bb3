"""The page of a sensor: drawn, with its channels and its incidents."""

from __future__ import annotations

from fastapi import Request
from nicegui import ui

from stream_detector.console import chart, phrases, view
from stream_detector.console.history import Viewed
from stream_detector.console.pages.frame import REFRESH_S, Console, anchor, element, every, page, words
from stream_detector.console.pages.plot import Plot
from stream_detector.records import SEVERITIES, format_time
from stream_detector.streaming.sensor_history import Columns

LISTED = 30
"""Incidents that are listed at most, the newest first."""


def sensor(console: Console, request: Request) -> None:
    """Build the page."""
    sensor_id = request.query_params.get("id", "")
    with page(console, request, "Sensor"):
        words(sensor_id or "no sensor is named in this address", "headline")
        facts = words("", "faint")
        bars = Bars()

        def told(viewed: Viewed, columns: Columns) -> None:
            facts.set_text(" · ".join(_facts(viewed, columns)))
            bars.show(chart.shares(columns))

        if sensor_id:
            Plot(console, sensor_id, told=told)
            bars.build()
            _incidents(console, sensor_id)


def _facts(viewed: Viewed, columns: Columns) -> list[str]:
    found = [f"latest reading {phrases.clock(format_time(int(columns.time_ms[-1])))}"]
    if viewed.threshold is not None:
        value, own = viewed.threshold
        whose = "its own" if own else "the fleet's"
        found.append(f"threshold now {value:.4g}, {whose}")
    if viewed.model:
        found.append(f"weights {viewed.model}")
    return found


class Bars:
    """Channels by their share of the score."""

    def __init__(self) -> None:
        self._section: ui.element | None = None
        self._shown: list[tuple[str, str]] = []

    def build(self) -> None:
        """Where they stand."""
        words("Channels by their share of the latest scores", "subhead")
        self._section = element("section", "bars")

    def show(self, shares: list[tuple[str, float]]) -> None:
        """Draw them anew where they have changed."""
        now = [(name, f"{share:.0%}") for name, share in shares]
        if self._section is None or now == self._shown:
            return
        self._shown = now
        self._section.clear()
        with self._section:
            for name, share in now:
                bar(name, share)


def bar(name: str, share: str) -> None:
    """One channel's share, drawn and said."""
    with element("div", "bar"):
        words(name, "bar-name")
        with element("span", "bar-line"):
            element("span", "bar-part").style(f"width: {share}")
        words(share, "bar-share")


def _incidents(console: Console, sensor_id: str) -> None:
    words("Its incidents", "subhead")
    listing = element("ul", "life")
    seen: list[object] = [None]

    def refresh() -> None:
        with console.feed.lock:
            several = console.feed.book.of_sensor(sensor_id)[-LISTED:]
        now = [(one.last.alert_id, one.number) for one in several]
        if now == seen[0]:
            return
        seen[0] = now
        listing.clear()
        with listing:
            for one in reversed(several):
                row = view.rows([one])[0]
                with element("li", f"step {SEVERITIES[one.severity]}"):
                    words(phrases.clock(one.first.starts_at), "faint")
                    anchor(row.target, row.what)
                    words(", ".join(filter(None, (row.severity, row.state, phrases.lasting(one)))), "faint")
            if not several:
                element("li", "step", "None is known.")

    every(REFRESH_S, refresh)
