"""What all pages share: what they are made of, the bar at the top, what is away, light and dark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import Request
from nicegui import ui

from stream_detector.console import phrases
from stream_detector.console.auth import COOKIE, Gate
from stream_detector.console.feed import Feed, Status
from stream_detector.console.history import Histories
from stream_detector.console.numbers import Fleet
from stream_detector.settings import Settings

OLD_S = 6.0
"""What was read longer ago is told to be old."""
STUCK_S, QUIET_S = 30.0, 300.0
THEME = "stream-detector-theme"
THEMES: dict[str, bool | None] = {"system": None, "dark": True, "light": False}
ICONS = {"system": "brightness_auto", "dark": "dark_mode", "light": "light_mode"}
REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class Console:
    """What pages show, and what they may call."""

    settings: Settings
    feed: Feed
    histories: Histories
    gate: Gate


def element(tag: str, css: str = "", /, text: str | None = None, **attributes: str) -> ui.element:
    """An element of HTML with plain text in it; attributes are given as they are, never parsed."""
    made = ui.element(tag)
    made.classes(css)
    made._props.update({name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    if text is not None:
        with made:
            words(text)
    return made


def words(text: str, css: str = "") -> ui.label:
    """Plain text: whatever is in it is shown as it is."""
    return ui.label(text).classes(f"words {css}")


def anchor(target: str, text: str, css: str = "") -> ui.link:
    """A link within the console."""
    return ui.link(text, target).classes(css)


@contextmanager
def page(console: Console, request: Request, title: str) -> Iterator[bool]:
    """The frame of a page; whether whoever looks at it may answer."""
    signed_in = console.gate.knows(request.cookies)
    ui.colors(primary="#2563eb")
    ui.page_title(f"{title} · stream-detector")
    with element("header", "top"):
        anchor("/", "stream-detector", "brand")
        element("span", "grow")
        _theme(request)
        _signing(console, request, signed_in)
    notices = element("div", "notices", role="status", aria_live="polite")
    with element("main", "main"):
        yield signed_in
    shown: list[tuple[str, str]] = []

    def notice() -> None:
        now = list(problems(console.feed.status, console.feed.fleet, time.monotonic()))
        if now != shown:
            shown[:] = now
            notices.clear()
            with notices:
                for level, text in now:
                    element("p", f"notice {level}", text)

    every(REFRESH_S, notice)


def every(interval_s: float, what: Callable[[], object]) -> None:
    """Do something now, and again and again while somebody looks at the page."""
    what()
    ui.timer(interval_s, what, immediate=False)


def problems(status: Status, fleet: Fleet, now_s: float) -> Iterator[tuple[str, str]]:
    """What a person must know before trusting the page, as (level, sentence)."""
    since = phrases.age(now_s - status.alerts_s) if status.alerts_s else "never"
    if status.kafka:
        yield "bad", f"Kafka is away, so no alert comes in; the last look at it succeeded: {since}. {status.kafka}"
    elif not status.alerts_s:
        yield "fair", "Reading what has been told so far ..."
    elif now_s - status.alerts_s > OLD_S:
        yield "bad", f"What you see is old: the last look at Kafka succeeded {since}."
    if status.missing and not status.kafka:
        yield "fair", "There is no topic of alerts yet: it is made when the first worker starts."
    if status.redis:
        yield "bad", f"Redis is away, so the fleet's numbers are old and sensors have no state to show. {status.redis}"
    if not status.kafka and fleet.known:
        if fleet.stuck_s > STUCK_S:
            yield (
                "bad",
                (
                    f"The workers have taken nothing in for {phrases.age(fleet.stuck_s).removesuffix(' ago')} though "
                    f"{fleet.lag:,} messages wait: check whether one runs."
                ),
            )
        elif fleet.quiet_s > QUIET_S:
            yield "fair", f"No reading has come for {phrases.age(fleet.quiet_s).removesuffix(' ago')}."
    if status.unreadable:
        yield "fair", f"{status.unreadable:,} messages on the topic of alerts are none and are passed over."


def _theme(request: Request) -> None:
    chosen = request.cookies.get(THEME, "")
    names = list(THEMES)
    now = [chosen if chosen in THEMES else names[0]]
    dark = ui.dark_mode(THEMES[now[0]])

    def turn() -> None:
        now[0] = names[(names.index(now[0]) + 1) % len(names)]
        dark.set_value(THEMES[now[0]])
        button.set_icon(ICONS[now[0]])
        button._props["aria-label"] = label.text = f"Colours: {now[0]}"
        ui.run_javascript(f'document.cookie = "{THEME}={now[0]}; path=/; max-age=31536000; SameSite=Strict"')

    with ui.button(icon=ICONS[now[0]], on_click=turn).props("flat round dense").classes("theme") as button:
        label = ui.tooltip(f"Colours: {now[0]}")
    button._props["aria-label"] = f"Colours: {now[0]}"


def _signing(console: Console, request: Request, signed_in: bool) -> None:
    if signed_in:
        with element("form", "sign", method="post", action="/sign-out"):
            element("button", "plain", "Sign out", type="submit")
    elif console.gate.possible:
        anchor(sign_in_target(request), "Sign in", "sign")
    else:
        words("read only", "sign faint")


def sign_in_target(request: Request) -> str:
    """The address of the form, which leads back here."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/sign-in?{urlencode({'then': here})}"


def cookie_of(request: Request) -> dict[str, str]:
    """What is needed of a request to ask, later on, whether its browser may act."""
    return {COOKIE: request.cookies.get(COOKIE, "")}
