"""Ties the pages to what they show, and serves them. Knows neither Kafka nor Redis.

Everything comes from the installed packages; the headers of `auth` keep a browser from asking any other host.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from html import escape
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI, Request
from nicegui import app, ui
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from stream_detector.console.auth import COOKIE, LASTS_S, Gate, Guard, read_token
from stream_detector.console.feed import Feed
from stream_detector.console.history import Histories
from stream_detector.console.pages.frame import Console
from stream_detector.console.pages.incident import incident
from stream_detector.console.pages.overview import overview
from stream_detector.console.pages.sensor import sensor
from stream_detector.settings import Settings

LOOK = files(__package__).joinpath("look.css").read_text(encoding="utf-8")
KEYS = files(__package__).joinpath("keys.js").read_text(encoding="utf-8")
WRONG_S = 0.5
"""After a wrong token, for all together: it cannot be found by trying."""
LONGEST_FORM = 4096
LIBRARY: dict[str, Any] = {
    "title": "stream-detector",
    "dark": None,
    "tailwind": False,
    "favicon": "📈",
    "reconnect_timeout": 30.0,
    "show_welcome_message": False,
}
GRACE_S = 3


def new_console(settings: Settings) -> Console:
    """Everything but the pages; nothing is read yet. Raises ConfigError where the token cannot be read."""
    return Console(settings, Feed(settings), Histories(settings), Gate(read_token(settings.console)))


def add_pages(console: Console) -> None:
    """Make the pages known to the library, which has one application a process."""
    ui.add_head_html(f"<style>{LOOK}</style><script>{KEYS}</script>", shared=True)
    for path, build in (("/", overview), ("/sensor", sensor), ("/incident", incident)):
        ui.page(path)(_page(console, build))
    _add_signing(console)

    @app.get("/livez")
    def livez() -> Response:
        return PlainTextResponse("alive\n")

    @app.get("/readyz")
    def readyz() -> Response:
        good = not console.feed.status.kafka and console.feed.status.alerts_s > 0
        return PlainTextResponse("ready\n" if good else "not ready: waiting for Kafka\n", 200 if good else 503)


def serve(console: Console, sockets: list[Any], ready: Callable[[], None]) -> None:
    """Serve until the process is asked to end."""
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_pages(console)
    # As it starts, the library looks at every object of the process, also at those that complain of being looked at.
    warnings.filterwarnings("ignore", category=FutureWarning, module="nicegui")
    ui.run_with(outer, **LIBRARY)
    guarded = Guard(outer, console.settings.console.names)
    config = uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=GRACE_S, server_header=False)
    console.feed.start()
    try:
        ready()
        uvicorn.Server(config).run(sockets=sockets)
    finally:
        console.histories.stop()
        console.feed.stop()


def _page(console: Console, build: Callable[[Console, Request], None]) -> Callable[[Request], None]:
    def made(request: Request) -> None:
        build(console, request)

    # The library looks at the annotations themselves, not at their text.
    made.__annotations__ = {"request": Request, "return": None}
    return made


def _add_signing(console: Console) -> None:
    trying = asyncio.Lock()

    async def form(request: Request) -> Response:
        return _form(request.query_params.get("then", "/"), "")

    async def sign_in(request: Request) -> Response:
        given = parse_qs((await _body(request)).decode("utf-8", "replace"))
        then, token = (given.get(name, [""])[0] for name in ("then", "token"))
        if not console.gate.right(token):
            async with trying:
                await asyncio.sleep(WRONG_S)
            return _form(then, "That is not the token.", 403)
        answer = RedirectResponse(_local(then), 303)
        answer.set_cookie(
            COOKIE,
            console.gate.cookie(),
            max_age=LASTS_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def sign_out(request: Request) -> Response:
        console.gate.forget(request.cookies)
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    app.add_api_route("/sign-in", form, methods=["GET"], response_model=None)
    app.add_api_route("/sign-in", sign_in, methods=["POST"], response_model=None)
    app.add_api_route("/sign-out", sign_out, methods=["POST"], response_model=None)


async def _body(request: Request) -> bytes:
    """What a form sent; of more than a form can hold, nothing."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            return b""
    return body


def _local(then: str) -> str:
    """Where to go on: a page of ours, whatever the address says."""
    plain = then.startswith("/") and not then.startswith(("//", "/\\")) and then.isprintable()
    return then if plain else "/"


def _form(then: str, problem: str, status: int = 200) -> Response:
    said = f'<p class="notice bad" role="alert">{escape(problem)}</p>' if problem else ""
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign in - stream-detector</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{LOOK}</style>
<body class="signing"><main class="main"><h1 class="headline">stream-detector</h1>{said}
<form method="post" action="/sign-in"><label for="token">Token (console.token)</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input type="hidden" name="then" value="{escape(_local(then))}"><button type="submit">Sign in</button></form>
<p class="faint">Looking needs no token; answering alerts does.</p></main></body></html>"""
    return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})
