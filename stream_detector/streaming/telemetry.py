"""Numbers and health over HTTP: /metrics for Prometheus, /livez and /readyz for whoever restarts or routes.

One server a process, for worker and trainer alike. Nothing is counted by sensor: ids are data, not labels.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from stream_detector import __version__
from stream_detector.settings import HttpSettings

logger = logging.getLogger(__name__)
STAGES = ("fetch", "decode", "detect", "save", "publish")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 4.0, 8.0)
HANGS_AFTER_S = 60.0
"""A loop that has not come round for so long hangs: /livez says so, and the process may be restarted."""


class Telemetry:
    """The numbers of one process. `beat` must be called at each turn of its loop, `ready` says whether it can work."""

    def __init__(self, hangs_after_s: float = HANGS_AFTER_S) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._hangs_after_s = hangs_after_s
        self._beat_s = time.monotonic()
        self.ready: Callable[[], bool] = lambda: False
        self._info = self.gauge("info", "version of the program", "version")
        self._info.labels(__version__).set(1)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A number that only grows; `_total` is added to its name."""
        return Counter(f"stream_detector_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A number that goes up and down."""
        return Gauge(f"stream_detector_{name}", text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        """How often a quantity was how large."""
        return Histogram(f"stream_detector_{name}", text, labels, registry=self.registry, buckets=buckets)

    def beat(self) -> None:
        """The loop has come round once more."""
        self._beat_s = time.monotonic()

    @property
    def alive(self) -> bool:
        """The loop came round not long ago."""
        return time.monotonic() - self._beat_s < self._hangs_after_s


@contextmanager
def serving(telemetry: Telemetry, http: HttpSettings) -> Iterator[int]:
    """Answer HTTP while the block lasts; yields the port, 0 where nothing is served.

    A port that is taken is told of and done without: several workers on a machine must not keep each other from work.
    """
    server = _server(telemetry, http) if http.port else None
    if server is None:
        yield 0
        return
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _server(telemetry: Telemetry, http: HttpSettings) -> ThreadingHTTPServer | None:
    class Handler(BaseHTTPRequestHandler):
        """Three paths, read only."""

        def do_GET(self) -> None:
            """Answer one of the three paths."""
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(telemetry.registry))
            elif path == "/livez":
                self._say(telemetry.alive, "alive", "the loop hangs")
            elif path == "/readyz":
                self._say(telemetry.ready(), "ready", "not ready: waiting for Kafka, Redis or weights")
            else:
                self._answer(404, "text/plain", b"there are /metrics, /livez and /readyz\n")

        def _say(self, good: bool, yes: str, no: str) -> None:
            self._answer(200 if good else 503, "text/plain; charset=utf-8", f"{yes if good else no}\n".encode())

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Probes come every few seconds: they are not worth a line."""

    try:
        server = ThreadingHTTPServer((http.host, http.port), Handler)
    except OSError as error:
        logger.warning(
            "nothing listens on %s:%d (%s), so numbers and health are not served: give each process an http.port",
            http.host,
            http.port,
            error.strerror,
        )
        return None
    server.daemon_threads = True
    return server
