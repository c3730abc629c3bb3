"""Who may do what: the token, the cookie that says somebody has shown it, and the names by which pages are reached.

Everybody who reaches the console may look. To answer takes the token of the settings; a browser that has shown it gets
a cookie that scripts cannot read and other sites cannot use. Knows nothing of pages.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_detector.errors import ConfigError
from stream_detector.settings import ConsoleSettings
from stream_detector.settings.console import SHORTEST_TOKEN
from stream_detector.settings.secret_file import read_secret

COOKIE = "stream-detector-console"
LASTS_S = 12 * 3600
ANY = "*"
HEADERS = {
    # Nothing may come from, or go to, another host; and no other page may hold this one in a frame.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def read_token(settings: ConsoleSettings) -> str:
    """The token; empty where there is none. Raises ConfigError for a file that holds none."""
    if settings.token_file is None:
        return settings.token.get_secret_value() if settings.token else ""
    token = read_secret(settings.token_file, "console.token_file").strip()
    if len(token) < SHORTEST_TOKEN:
        raise ConfigError(
            f"console.token_file: the file {settings.token_file} holds fewer than {SHORTEST_TOKEN} characters: make a "
            "token with `openssl rand -hex 16`"
        )
    return token


class Gate:
    """Checks tokens and cookies; clock: seconds since 1970. Without a token nobody can sign in."""

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token, self._clock = token.encode(), clock
        self._ended: set[str] = set()
        self._key = hmac.digest(self._token, b"stream-detector console cookie", "sha256")

    @property
    def possible(self) -> bool:
        """Whether there is a token."""
        return bool(self._token)

    def right(self, offered: str) -> bool:
        """Whether this is the token; how much of it is right cannot be told from the time that this takes."""
        given, real = (hashlib.sha256(one).digest() for one in (offered.encode("utf-8", "replace"), self._token))
        return hmac.compare_digest(given, real) and self.possible

    def cookie(self) -> str:
        """What a browser shows from now on."""
        until = str(round(self._clock()) + LASTS_S)
        salt = secrets.token_hex(8)
        return f"{until}.{salt}.{self._sign(f'{until}.{salt}')}"

    def knows(self, cookies: Mapping[str, str]) -> bool:
        """Whether a browser has shown the token, not too long ago."""
        said, _, signature = cookies.get(COOKIE, "").rpartition(".")
        until = said.partition(".")[0]
        if not (self.possible and said.isascii() and until.isdigit() and signature.isascii()):
            return False
        good = hmac.compare_digest(signature, self._sign(said)) and int(until) > self._clock()
        return good and cookies[COOKIE] not in self._ended

    def forget(self, cookies: Mapping[str, str]) -> None:
        """Such a browser, and the pages that it has open, may answer no longer."""
        now = self._clock()
        self._ended = {one for one in self._ended if int(one.partition(".")[0]) > now}
        if self.knows(cookies):
            self._ended.add(cookies[COOKIE])

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()


class Guard:
    """Lets through what comes by a known name and from our own pages, and adds headers that keep the browser here.

    Another site could send its visitors' browsers to this machine: under a name of its own, or by a connection of a
    page of its own. Both show.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self.app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or one connection."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        if not self._allowed(headers, scope):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008})
            said = "the console does not answer to this name, or to other pages: add the name to console.names\n"
            return await PlainTextResponse(said, 403)(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        return await self.app(scope, receive, with_headers)

    def _allowed(self, headers: Headers, scope: Scope) -> bool:
        host = headers.get("host", "")
        if ANY not in self._names and _name(f"//{host}") not in self._names:
            return False
        origin = headers.get("origin")
        reading = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        return origin is None or (reading and "/_nicegui_ws" not in scope["path"]) or _netloc(origin) == host


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""
