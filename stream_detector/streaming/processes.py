"""Several processes of one service, watched over: what dies is started again, and all stop together.

Each process is a command with an environment of its own. It is told to stop with SIGTERM, and by the end of its
standard input, which comes by itself when this process is killed. Knows nothing of what the processes do; their health
is asked over HTTP where they serve it.
"""

from __future__ import annotations

import http.client
import logging
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stream_detector.errors import ConfigError
from stream_detector.streaming.telemetry import Telemetry

logger = logging.getLogger(__name__)
TURN_S = 0.2
ASK_EVERY_S = 1.0
ASK_LIMIT_S = 1.0
PAUSE_S = (0.5, 30.0)
"""First and longest pause before a process is started again; it doubles each time."""
STEADY_S = 60.0
"""A process that ran for so long has got over what ended the one before it."""
KILL_AFTER_S = 5.0
"""Beyond the time that a stop may take."""
WRONG_USAGE = 2


@dataclass
class Child:
    """One process: what is run, and how it is. host, port: where it serves its health; port 0 nowhere."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    host: str = "127.0.0.1"
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    began_s: float = 0.0
    due_s: float = 0.0
    failures: int = 0
    alive: bool = True
    ready: bool = False
    served: bool = field(default=False, repr=False)

    def start(self) -> None:
        """Run the command."""
        self.began_s = time.monotonic()
        self.alive, self.ready, self.served = True, False, False
        self.process = subprocess.Popen(  # noqa: S603 - the command is this program
            self.command, env=dict(self.environment), stdin=subprocess.PIPE, start_new_session=True
        )

    def ask(self) -> None:
        """Bring its health up to date; it is not dead as long as it has never answered."""
        if self.process is None:
            return
        if not self.port:
            self.ready = True
            return
        alive, self.ready = (self._says(path) for path in ("/livez", "/readyz"))
        self.served = self.served or alive
        self.alive = alive or not self.served

    def _says(self, path: str) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ASK_LIMIT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Processes:
    """See the module's docstring. The telemetry says that all are alive, and all are ready."""

    def __init__(self, children: Sequence[Child], telemetry: Telemetry, stop_limit_s: float) -> None:
        self.children = children
        self._telemetry = telemetry
        self._stop_limit_s = stop_limit_s
        self._stopping = threading.Event()
        telemetry.ready = lambda: all(child.ready for child in children)
        self._running = telemetry.gauge("processes", "processes that run")
        self._restarts = telemetry.counter("process_restarts", "times that a process was started again", "process")
        for child in children:
            self._restarts.labels(child.name)

    def stop(self) -> None:
        """End all, cleanly."""
        self._stopping.set()

    def run(self) -> None:
        """Keep all running until `stop`; raises ConfigError where one says that it cannot be run like this."""
        threading.Thread(target=self._ask, name="health", daemon=True).start()
        try:
            while not self._stopping.is_set():
                for child in self.children:
                    self._look_after(child)
                self._running.set(sum(child.process is not None for child in self.children))
                if all(child.alive for child in self.children):
                    self._telemetry.beat()
                self._stopping.wait(TURN_S)
        finally:
            self._stopping.set()
            self._end()

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.due_s:
                if child.began_s:
                    self._restarts.labels(child.name).inc()
                child.start()
            return
        code = child.process.poll()
        if code is None:
            return
        child.process, child.ready = None, False
        if code == WRONG_USAGE:
            raise ConfigError(f"process {child.name} cannot be run with these settings (see above): all of them end")
        child.failures = 0 if now - child.began_s > STEADY_S else child.failures + 1
        pause_s = min(PAUSE_S[1], PAUSE_S[0] * 2 ** max(0, child.failures - 1))
        child.due_s = now + pause_s
        logger.warning("process %s ended with %s; it is started again in %g s", child.name, _said(code), pause_s)

    def _ask(self) -> None:
        """Ask for their health now and then, so that nobody who asks this process waits for one that hangs."""
        while not self._stopping.wait(ASK_EVERY_S):
            for child in self.children:
                child.ask()

    def _end(self) -> None:
        """Tell all to stop, and end those that take longer than they may."""
        running = [child for child in self.children if child.process is not None and child.process.poll() is None]
        for child in running:
            _signal(child, signal.SIGTERM)
        until = time.monotonic() + self._stop_limit_s + KILL_AFTER_S
        for child in running:
            try:
                code = child.process.wait(max(0.0, until - time.monotonic())) if child.process else 0
            except subprocess.TimeoutExpired:
                logger.error("process %s does not stop: it is killed, which loses nothing", child.name)
                _signal(child, signal.SIGKILL)
                code = child.process.wait() if child.process else 0
            if code:
                logger.warning("process %s ended with %s", child.name, _said(code))


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process is not None:
        child.process.send_signal(number)


def _said(code: int) -> str:
    """An exit code for a person."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
