"""One request to a receiver, what became of it, and how long to wait before the next attempt.

Redirects are not followed: what is sent may hold secrets, and it is for one address.
"""

from __future__ import annotations

import http.client
import random
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from stream_detector import __version__
from stream_detector.errors import ConfigError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
LONGEST_WISH_S = 300.0
"""A receiver may ask for a longer pause than ours, up to so long."""
TRY_AGAIN = frozenset({408, 425, 429})
"""Answers to be tried again beside those of 500 and more; what else is no success is refused for good."""
ANSWER_BYTES = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt. reason: empty where it was delivered. refused: it is of no use to try again.

    pause_s: what the receiver asks for before the next attempt.
    """

    reason: str = ""
    refused: bool = False
    pause_s: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return not self.reason


DELIVERED = Outcome()


@dataclass(frozen=True, slots=True)
class Request:
    """A POST. url may hold secrets: it is never shown."""

    url: str = field(repr=False)
    body: bytes
    headers: Mapping[str, str] = field(repr=False)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for an answer."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


def post(request: Request, timeout_s: float) -> Outcome:
    """Make one attempt; whatever happens becomes an outcome."""
    headers = {"User-Agent": f"stream-detector/{__version__}", **request.headers}
    prepared = urllib.request.Request(request.url, request.body, headers, method="POST")  # noqa: S310 - `checked`
    opener = urllib.request.build_opener(_Stay)
    try:
        with opener.open(prepared, timeout=timeout_s) as answer:
            answer.read(ANSWER_BYTES)
        return DELIVERED
    except urllib.error.HTTPError as error:
        return _answered(error, timeout_s)
    except urllib.error.URLError as error:
        return Outcome(f"it cannot be reached ({error.reason})")
    except TimeoutError:
        return Outcome(f"it did not answer within {timeout_s:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Outcome(f"the connection broke ({type(error).__name__})")


def _answered(error: urllib.error.HTTPError, timeout_s: float) -> Outcome:
    try:
        said = " ".join(error.read(ANSWER_BYTES).decode("utf-8", "replace").split())
    except (OSError, http.client.HTTPException):
        said = ""
    reason = f"it answered {error.code}" + (f": {said}" if said else "")
    if error.code in TRY_AGAIN or error.code >= 500:
        return Outcome(reason, pause_s=wish(error.headers.get("Retry-After")))
    return Outcome(reason, refused=True)


def wish(retry_after: str | None) -> float | None:
    """Seconds that a header Retry-After asks to wait, within bounds; None where it says nothing that can be read."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), LONGEST_WISH_S)


def pause(failures: int, wished_s: float | None) -> float:
    """Seconds before the next attempt, after so many: twice as long each time, by chance up to a half shorter."""
    own = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
    return max(own * random.uniform(0.5, 1.0), wished_s or 0.0)  # noqa: S311


def checked(url: str) -> str:
    """The address of an HTTP receiver; raises ConfigError, which never shows it whole."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise ConfigError(f"{shown(url)!r} is not the address of a receiver: write it like https://host:port/path")
    return url


def shown(url: str) -> str:
    """An address without what may be secret in it: user, password, path and query."""
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{host}" if parts.scheme else "the address"
