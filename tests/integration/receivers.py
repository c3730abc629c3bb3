"""Receivers of alerts that behave well and badly, as they are told."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANGS_S = 3.0


@dataclass
class Inbox:
    """What came. moods: what becomes of the next requests, in turn; then all are taken.

    A mood is a status to answer with, `wait` for 429 with a Retry-After of a second, `hang`, or `drop` for a
    connection that breaks in the middle of the answer. always: one for all requests. taken: bodies answered with 200
    or 202. seen: (when, path, headers, body) of every request.
    """

    moods: list[int | str] = field(default_factory=list)
    always: int | str | None = None
    taken: list[Any] = field(default_factory=list)
    seen: list[tuple[float, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def mood(self) -> int | str:
        """What becomes of this request."""
        with self.lock:
            if self.always is not None:
                return self.always
            return self.moods.pop(0) if self.moods else 202


@contextmanager
def receiving(inbox: Inbox | None = None) -> Iterator[Inbox]:
    """A receiver on a port of its own."""
    box = inbox or Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            box.seen.append((time.monotonic(), self.path, dict(self.headers), body))
            mood = box.mood()
            if mood == "hang":
                time.sleep(HANGS_S)
                return
            if mood == "drop":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                self.wfile.flush()
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                return
            status = 429 if mood == "wait" else int(mood)
            if status < 300:
                with box.lock:
                    box.taken.append(json.loads(body))
            self.send_response(status)
            if mood == "wait":
                self.send_header("Retry-After", "1")
            if 300 <= status < 400:
                self.send_header("Location", f"{box.url}/elsewhere")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def handle(self) -> None:
            with suppress(OSError):  # the other side has gone
                super().handle()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    box.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield box
    finally:
        server.shutdown()
        server.server_close()
