"""One server as a child process: started, awaited, paused, stopped or killed, with its log in a file.

It knows nothing of Kafka or Redis: what to run and how to tell that it answers is filled in by `kafka` and `redis`.
A child leads its own session, so that Ctrl-C reaches only this program, which then stops its children in order; on
Linux a child also dies when this program is killed without a chance to do so (see `bound`). Elsewhere it stays.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from stream_detector.errors import ConfigError, OutputError, OutsideError
from stream_detector.local import bound

HOST = "127.0.0.1"
POLL_S = 0.02
STOP_TIMEOUT_S = 20.0
PLAIN_TEXT = re.compile(r"[A-Za-z0-9._-]+")
TAKEN = "Address already in use"
TRIES = 5
LAST_LINES = 8
NOT_FOR_CHILDREN = {"CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"}
"""Variables that would change a child behind our back."""

# The signal of PR_SET_PDEATHSIG comes when the thread ends that started the child, not the process. So all children
# are started by one thread, which ends only with the program.
_launcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-servers")


class PortTakenError(OutsideError):
    """Another program listens on the port that a server was to have."""


class Server(ABC):
    """A server on ports of this machine, with its data and its log in a directory, where it also works.

    Without a port it takes a free one and keeps it over restarts. Starting it again finds the data of before.
    """

    name: ClassVar[str]
    error: ClassVar[type[OutsideError]]
    ports_needed: ClassVar[int]

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory.absolute()
        self.log = self.directory / f"{self.name.lower()}.log"
        self._ports = [] if port is None else [port, *free_ports(self.ports_needed - 1)]
        self._port_was_free = port is None
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Write what the server reads at its start, and say how it is started."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server does its work by now."""

    @property
    def port(self) -> int:
        """Where the server listens. Raises ConfigError before the first start."""
        if not self._ports:
            raise ConfigError(f"{self.name} has no port yet: start it first")
        return self._ports[0]

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended; a paused one runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """Id of the server's process. Raises ConfigError when it does not run."""
        return self._running().pid

    def start(self, timeout_s: float = 60.0) -> Self:
        """Start the server and wait until it answers.

        Raises ConfigError when it runs already or a package is missing, OutsideError when it does not come up.
        """
        self.launch()
        try:
            return self.wait(timeout_s)
        except BaseException:  # an interrupt too: who could not start it will not stop it
            self.kill()
            raise

    def launch(self) -> None:
        """Start the server and return at once; `wait` must follow. Two servers can so come up side by side."""
        if self.is_running:
            raise ConfigError(f"{self.name} runs already: stop it before it is started again")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._ports = self._ports or free_ports(self.ports_needed)
            with _locked(self.directory, self.name) as lock:
                command = self._command()
                self._log_start = self.log.stat().st_size if self.log.exists() else 0
                self._child = _launcher.submit(_spawn, command, self.log, lock).result()
        except OSError as error:
            raise OutputError(
                f"{self.directory} cannot hold {self.name}'s data ({error.strerror}): choose another directory"
            ) from error

    def wait(self, timeout_s: float = 60.0) -> Self:
        """Wait until the server answers; end it and tell the end of its log where it does not.

        Where its port was taken in the meantime, it is started again on another.
        """
        deadline = time.monotonic() + timeout_s
        tries = 1
        while not (self.is_running and self._answers()):
            if not self.is_running:
                if not (self._port_was_free and tries < TRIES and TAKEN in self.said()):
                    self._fail("did not start")
                tries += 1
                self._ports = []
                self.launch()
            if time.monotonic() > deadline:
                self.kill()
                self._fail(f"did not answer within {timeout_s:.0f} s")
            time.sleep(POLL_S)
        self._port_was_free = False
        return self

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the server cleanly, paused or not; kill it when that takes too long. One that has ended stays so."""
        if self._child is None:
            return
        self._child.terminate()
        self._child.send_signal(signal.SIGCONT)
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server at once, with no chance to write anything more."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def pause(self) -> None:
        """Freeze the server: its connections stay open and get no answer."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._running().send_signal(signal.SIGCONT)

    def check(self) -> None:
        """Raise OutsideError, with the end of the log, when the server has ended by itself."""
        if not self.is_running:
            self._fail("has ended")

    def said(self) -> str:
        """What the server has written to its log since it was started."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def __enter__(self) -> Self:
        """Start the server if it does not run."""
        return self if self.is_running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop the server."""
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or not self.is_running:
            raise ConfigError(f"{self.name} does not run: start it first")
        return self._child

    def _fail(self, what: str) -> None:
        said = self.said()
        if TAKEN in said:
            ports = " or ".join(str(port) for port in self._ports)
            raise PortTakenError(f"{self.name} {what}: port {ports} is taken by another program, choose another one")
        lines = [line for line in said.splitlines() if line.strip()][-LAST_LINES:]
        end = "".join(f"\n    {line[:300]}" for line in lines)
        raise self.error(f"{self.name} {what}; {self.log} ends with:{end or ' nothing'}")


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now; another program may take them before they are used."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def check_secret(text: str) -> str:
    """Give a name or a password back if it needs no quoting in settings and addresses. Raises ConfigError."""
    if not PLAIN_TEXT.fullmatch(text):
        raise ConfigError("names and passwords of a local server may hold letters, digits, '.', '_' and '-' only")
    return text


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read: settings may hold passwords."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


@contextmanager
def _locked(directory: Path, name: str) -> Iterator[int]:
    """Take a directory for one server. The child inherits the lock, which so lasts as long as the child does."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError as error:
        raise ConfigError(f"another {name} runs in {directory}: stop it first, or choose another directory") from error
    finally:
        os.close(descriptor)


def _spawn(command: Sequence[str], log: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start a program whose output goes to a file, bound to this process where the system offers that."""
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", str(Path(bound.__file__)), str(os.getpid()), *command]
    env = {name: value for name, value in os.environ.items() if name not in NOT_FOR_CHILDREN}
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            pass_fds=(lock,),
            start_new_session=True,
        )
