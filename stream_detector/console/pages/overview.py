"""The first page: what goes on, the worst first, and what the fleet does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from fastapi import Request
from nicegui import ui

from stream_detector.console import phrases, view
from stream_detector.console.numbers import Fleet
from stream_detector.console.pages.frame import REFRESH_S, Console, element, every, page, words
from stream_detector.console.view import Filters, Row
from stream_detector.records import SEVERITIES, parse_time

SHOWN = 50
"""Rows at first, and more at a time."""


def overview(console: Console, request: Request) -> None:
    """Build the page."""
    with page(console, request, "Incidents"):
        listing = Listing(console, Filters.read(request.query_params))
        tiles = Tiles()
        listing.build_filters()
        listing.build()

    def refresh() -> None:
        listing.refresh()
        with console.feed.lock:
            several = len(console.feed.book.open)
        tiles.show(console.feed.fleet, several)

    every(REFRESH_S, refresh)


class Tiles:
    """The fleet in numbers."""

    def __init__(self) -> None:
        self._last: object = None
        with element("section", "tiles", aria_label="The fleet"):
            names = (
                "open incidents",
                "sensors",
                "readings/s",
                "messages waiting",
                "dead letters, last hour",
            )
            self._numbers = {name: self._tile(name) for name in names}
        self._weights = words("", "faint small weights")

    @staticmethod
    def _tile(name: str) -> ui.label:
        with element("div", "tile"):
            number = words("-", "number")
            words(name, "faint")
        return number

    def show(self, fleet: Fleet, open_incidents: int) -> None:
        """Bring them up to date."""
        if self._last == (now := (fleet, open_incidents)):
            return
        self._last = now
        self._numbers["open incidents"].set_text(f"{open_incidents:,}")
        if not fleet.known:
            return
        self._numbers["sensors"].set_text(f"{fleet.sensors:,}")
        self._numbers["readings/s"].set_text("-" if fleet.rate is None else phrases.big(fleet.rate))
        self._numbers["messages waiting"].set_text(phrases.big(fleet.lag))
        self._numbers["dead letters, last hour"].set_text(f"{'about ' if fleet.about else ''}{fleet.dead_letters:,}")
        self._weights.set_text(f"Weights in use: {'; '.join(_weights(fleet)) or 'none yet'}")


def _weights(fleet: Fleet) -> list[str]:
    found = []
    for one in fleet.weights[:3]:
        age = phrases.age(time.time() - parse_time(one.created) / 1000) if one.created else ""
        found.append(f"{one.name} {one.version[:12]}" + (f", made {age}" if age else ""))
    return found + ([f"and {len(fleet.weights) - 3} more"] if len(fleet.weights) > 3 else [])


class Listing:
    """The incidents that are asked for, a row each; rows stay where they are while they change."""

    def __init__(self, console: Console, filters: Filters) -> None:
        self._console, self.filters = console, filters
        self._most = SHOWN
        self._unfolded: set[str] = set()
        self._rows: dict[str, _Line] = {}
        self._seen: object = None

    def build_filters(self) -> None:
        """The row of fields; each changes the address at once."""
        known = self.filters
        with element("search", "filters", aria_label="Narrow down"):
            self._field("sensor", "Sensor or group", known.sensor, "pump-*").mark("sensor")
            self._field("label", "Label", known.label, "line=3")
            self._choice(
                "severity", "At least", {"": "any severity", **{one: one for one in SEVERITIES}}, known.severity
            )
            self._choice("state", "State", {one: one for one in view.STATES}, known.state)
            self._field("since", "Since", known.since, "6h, or 2026-01-05T08:00")
            self._field("until", "Until", known.until, "1h, or 2026-01-05T09:00")
        self._problem = words("", "problem")

    def build(self) -> None:
        """The list itself, empty yet."""
        self._count = words("", "count")
        self._list = element("ul", "incidents", aria_label="Incidents")
        self._more = ui.button("Show more", on_click=self._show_more).props("flat no-caps")

    def refresh(self) -> None:
        """Bring rows up to date where something has changed."""
        book = self._console.feed.book
        now = (book.number, self.filters, self._most, len(self._unfolded))
        if now == self._seen:
            return
        self._seen = now
        with self._console.feed.lock:
            incidents = self.filters.some(list(book.all()))
        rows = view.rows(incidents, frozenset(self._unfolded))
        self._say(len(incidents), len(rows))
        shown = rows[: self._most]
        for key in self._rows.keys() - {row.key for row in shown}:
            self._rows.pop(key).delete()
        for place, row in enumerate(shown):
            if row.key not in self._rows:
                with self._list:
                    self._rows[row.key] = _Line(row, self._unfold)
            self._rows[row.key].show(row, place)

    def _say(self, incidents: int, rows: int) -> None:
        what = {"open": "open incident", "closed": "closed incident", "all": "incident"}[self.filters.state]
        number = f"{incidents:,} {what}{'' if incidents == 1 else 's'}" if incidents else f"No {what}s"
        self._count.set_text(number if not self.filters.query else f"{number}, as narrowed down")
        self._problem.set_text(self.filters.problem)
        self._more.set_visibility(rows > self._most)

    def _change(self, name: str, value: str) -> None:
        self.filters = Filters.read({**asdict(self.filters), name: value or ""})
        self._most = SHOWN
        ui.navigate.history.replace(f"/{self.filters.query}")
        self.refresh()

    def _field(self, name: str, label: str, value: str, hint: str) -> ui.input:
        field = ui.input(label, value=value, placeholder=hint, on_change=lambda e: self._change(name, e.value))
        field.props("dense outlined debounce=120 clearable").classes("field")
        field._props["id"] = field._props["for"] = f"filter-{name}"
        return field

    def _choice(self, name: str, label: str, choices: dict[str, str], value: str) -> None:
        field = ui.select(choices, label=label, value=value, on_change=lambda e: self._change(name, e.value))
        field.props("dense outlined").classes("field")

    def _show_more(self) -> None:
        self._most += SHOWN
        self.refresh()

    def _unfold(self, group: str) -> None:
        self._unfolded.add(group)
        self.refresh()


class _Line:
    """One row."""

    def __init__(self, row: Row, unfold: Callable[[str], None]) -> None:
        self._row: Row | None = None
        self._group = ""
        self._place = -1
        self._item = element("li", "line")
        with self._item:
            self._link = element("a", "incident")
            with self._link:
                self._severity = words("", "severity")
                with element("span", "about"):
                    self._title = words("", "title")
                    self._what = words("", "what")
                    self._labels = element("span", "labels")
                with element("span", "side"):
                    self._when = words("")
                    self._state = words("", "faint")
            self._others = ui.button(on_click=lambda: unfold(self._group)).props("flat no-caps dense")

    def show(self, row: Row, place: int) -> None:
        """What it says now, and where it stands."""
        if place != self._place:
            self._item.move(target_index=place)
            self._place = place
        if row == self._row:
            return
        self._row, self._group = row, row.group
        self._link._props["href"] = row.target
        self._link.classes(replace=f"incident {row.severity}")
        self._link.update()
        for label, text in (
            (self._severity, row.severity),
            (self._title, row.title),
            (self._what, row.what),
            (self._when, row.when),
            (self._state, row.state),
        ):
            label.set_text(text)
        self._labels.clear()
        with self._labels:
            for one in row.labels[:6]:
                words(one, "chip")
        self._others.set_text(f"and {row.folded} more of this group")
        self._others.set_visibility(row.folded > 0)

    def delete(self) -> None:
        """Gone from the list."""
        self._item.delete()
