"""The console beside the demo, in a process of its own, and a browser that opens at what there is to see."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import webbrowser
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType

from rich.console import Console

from stream_detector.errors import ConfigError, OutputError
from stream_detector.records import SEVERITIES, Alert
from stream_detector.settings import PREFIX, Settings
from stream_detector.streaming.forward import text

ADDRESS = re.compile(r"http://\S+:\d+")
ENDS_S = 10.0


def check() -> None:
    """Raise ConfigError where the console cannot be shown: better at once than after the learning."""
    if find_spec("nicegui") is None:
        raise ConfigError("--open shows the console, which needs NiceGUI: pip install 'stream-detector[console]'")


@contextmanager
def console_beside(settings: Settings) -> Iterator[tuple[str, str]]:
    """A console on the demo's broker and store while the block lasts; its address and its token."""
    token = secrets.token_urlsafe(9)
    given = {
        "KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "REDIS__URL": settings.redis.url.get_secret_value(),
        "DETECTOR__MODEL": settings.detector.model,
        "CONSOLE__TOKEN": token,
        "CONSOLE__PORT": "0",
        "CONSOLE__HOST": "127.0.0.1",
    }
    environment = {**os.environ, **{f"{PREFIX}{name}": value for name, value in given.items()}}
    environment.pop(f"{PREFIX}CONSOLE__TOKEN_FILE", None)
    # With a session of its own it does not end by the Ctrl-C that ends the demo, but after it.
    command = [sys.executable, "-c", "from stream_detector.cli import main; main()", "console"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603
    try:
        yield _address(process), token
    finally:
        process.terminate()
        try:
            process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    """Where it listens, as it says itself."""
    said = []
    for line in process.stderr or ():
        if found := ADDRESS.search(line):
            # What it says later is read and left: a pipe that is full would stop it.
            threading.Thread(target=lambda: deque(process.stderr or (), maxlen=0), daemon=True).start()
            return found[0]
        said.append(line)
    raise OutputError(f"the console did not start: {''.join(said).strip() or 'it said nothing'}")


def show(console: Console, address: str, token: str, alerts: Sequence[Alert]) -> None:
    """Open a browser at the worst incident, and say how to go on."""
    place = text.link(worst, address) if (worst := _worst(alerts)) else address
    console.print(f"The console is on {place}", highlight=False, soft_wrap=True)
    console.print(f"Answer an alert there with the token {token}. Ctrl-C ends the demo.", highlight=False)
    webbrowser.open(place)


def _worst(alerts: Sequence[Alert]) -> Alert | None:
    """The incident that is told of as the worst; of several the last one."""
    scored = [alert for alert in alerts if alert.kind == "anomaly" and alert.channels]
    return max(enumerate(scored), key=lambda one: (SEVERITIES.index(one[1].severity), one[0]), default=(0, None))[1]


def until_interrupted(step: Callable[[], object]) -> None:
    """Go on with what is under way until somebody ends it."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not asked:
            step()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
