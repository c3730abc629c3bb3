"""The way to Redis: settings to a client, how long to try, and Redis' errors in our words.

It does not know what is stored. No message holds the password or the address as it was given.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)
from redis.retry import Retry

from stream_detector.errors import ConfigError, StoreError, StreamDetectorError
from stream_detector.settings import RedisSettings
from stream_detector.settings.secret_file import read_secret

T = TypeVar("T")
PARSE: Callable[[str], dict[str, Any]] = parse_url
NODE: Callable[[str, int], ClusterNode] = ClusterNode
logger = logging.getLogger(__name__)

REFUSED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError)
PASSING = (redis.ConnectionError, redis.TimeoutError, NoScriptError, ReadOnlyError, ClusterDownError, TryAgainError)
"""What may be over at the next attempt: a restart, a failover, a lost connection."""
NO_CLUSTER = "cluster mode is not enabled"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call may take: `attempts` times both time-outs, and the pauses between, about a second each."""

    connect_s: float = 3.0
    answer_s: float = 10.0
    attempts: int = 4


class Link:
    """One Redis, or one cluster of them, and the patience with it."""

    def __init__(self, settings: RedisSettings, patience: Patience) -> None:
        self.patience = patience
        self._backoff = ExponentialWithJitterBackoff(cap=1.0, base=0.05)
        options = _options(settings)
        self.address = str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
        # Attempts are counted here, once: the client's own retries are per connection and per command, and multiply.
        options |= {
            "socket_connect_timeout": patience.connect_s,
            "socket_timeout": patience.answer_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "decode_responses": False,
        }
        self._cluster: Any = None
        self._nodes: list[tuple[str, int]] = []
        self._pool = redis.ConnectionPool(**options)
        try:
            self._pool.connection_class(**self._pool.connection_kwargs)
        except (TypeError, ValueError, redis.RedisError):
            raise ConfigError(
                "redis.url has an option that is not known or cannot be used: look behind its '?'"
            ) from None
        self._single = None if settings.cluster else redis.Redis(connection_pool=self._pool)

    @property
    def client(self) -> Any:
        """What commands are sent with; a cluster is asked for its nodes first, which raises as `patiently` does.

        Its types are those of both its blocking and its asynchronous kind, for text and for bytes.
        """
        if self._single is None and self._cluster is None:
            self._cluster = self.patiently(self._meet)
        return self._single or self._cluster

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()
        if self._cluster is not None:
            self._cluster.close()

    def _meet(self) -> RedisCluster:
        options = {key: value for key, value in self._pool.connection_kwargs.items() if key not in ("db", "retry")}
        if issubclass(self._pool.connection_class, redis.SSLConnection):
            options["ssl"] = True
        named = options.pop("host", "localhost"), options.pop("port", 6379)
        nodes = [NODE(*one) for one in dict.fromkeys([*self._nodes, named])]
        # A slot that moves is followed at once; what else fails is tried again here, by its attempts.
        return RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 0), **options)

    def _leave(self) -> None:
        """Ask for the nodes anew with the next call: the client by itself may ask one that is gone again and again."""
        if self._cluster is not None:
            self._nodes = [(node.host, node.port) for node in self._cluster.get_nodes()]
            self._cluster.close()
            self._cluster = None

    def patiently(self, call: Callable[[], T]) -> T:
        """The call's answer, after several attempts if need be: it must be one that may be sent twice.

        Raises StoreError, or ConfigError where another attempt cannot help.
        """
        failures = 0
        while True:
            try:
                return call()
            except (redis.RedisError, RedisClusterException) as error:
                failures += 1
                said = self._translated(error)
                passing = isinstance(error, (*PASSING, RedisClusterException))
                if passing:
                    self._leave()
                if failures >= self.patience.attempts or isinstance(said, ConfigError) or not passing:
                    raise said from error
                logger.info("%s; attempt %d of %d follows", said, failures + 1, self.patience.attempts)
                if isinstance(error, ReadOnlyError):
                    # After a failover the name may lead to another server; an open connection stays with the old.
                    self._pool.disconnect()
            time.sleep(self._backoff.compute(failures))

    def _translated(self, error: redis.RedisError | RedisClusterException) -> StreamDetectorError:
        """The error in words that say what to do."""
        text = str(error)
        at = f"Redis at {self.address}"
        if isinstance(error, REFUSED):
            return ConfigError(f"{at} refuses the user or the password: set redis.url or redis.password_file")
        if isinstance(error, NoPermissionError):
            return ConfigError(f"{at} does not let this user do what is needed, extend its ACL: {text[:200]}")
        if trouble := _tls_trouble(error):
            return ConfigError(
                f"{at} and this program do not agree on TLS, see redis.url and redis.ssl_cafile: {trouble}"
            )
        if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in text:
            return StoreError(f"{at} is full and takes no writes: give it more memory (maxmemory) or fewer sensors")
        if isinstance(error, ReadOnlyError):
            return StoreError(f"{at} is a replica that takes no writes: wait for the failover, or name the primary")
        if isinstance(error, BusyLoadingError):
            return StoreError(f"{at} is still loading its data: try again when it is done")
        if isinstance(error, redis.TimeoutError):
            return StoreError(f"{at} does not answer within {self.patience.answer_s:g} s: see whether it is overloaded")
        if isinstance(error, redis.ConnectionError):
            return StoreError(
                f"{at} cannot be reached, see whether it runs and redis.url (rediss:// for TLS): {text[:200]}"
            )
        if self._single is None and NO_CLUSTER in text.casefold():
            return ConfigError(f"{at} is not a node of a cluster: leave redis.cluster out")
        if self._single is None and isinstance(error, RedisClusterException | ClusterDownError | TryAgainError):
            return StoreError(
                f"the Redis Cluster at {self.address} has no node for some of the keys, or none that can be reached: "
                f"wait for the failover, and see whether its nodes run: {text[:200]}"
            )
        if isinstance(error, AskError) or text.startswith(("MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN")):
            return ConfigError(f"{at} is one node of a cluster: set redis.cluster = true")
        return StoreError(f"{at} refuses what it was asked for: {text[:200]}")


def _tls_trouble(error: BaseException) -> str | None:
    """What the two sides disagreed about, if that is what lies behind an error; not a connection cut meanwhile."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, ssl.SSLError) and not isinstance(behind, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return getattr(behind, "verify_message", None) or getattr(behind, "reason", None) or "no reason given"
        behind = behind.__cause__ or behind.__context__
    return None


def _options(settings: RedisSettings) -> dict[str, Any]:
    """What the settings say of the connection; raises ConfigError."""
    url = settings.url.get_secret_value()
    try:
        options = PARSE(url)
    except ValueError:
        # What the parser says may hold a part of the password.
        raise ConfigError(
            "redis.url cannot be read: write it like redis://user:password@host:6379/0, and special characters of "
            "the password as %XX"
        ) from None
    if settings.password_file:
        if options.get("password"):
            raise ConfigError("redis.url has a password and redis.password_file is given: leave one of them out")
        options["password"] = read_secret(settings.password_file, "redis.password_file")
    if settings.cluster and (options.get("db") or "path" in options):
        raise ConfigError("redis.cluster is set: redis.url names a node by host and port, and no database but 0")
    if settings.ssl_cafile:
        if not url.startswith("rediss://"):
            raise ConfigError("redis.ssl_cafile is given, but redis.url does not begin with rediss:// (TLS)")
        options["ssl_ca_certs"] = str(_authority(settings.ssl_cafile))
    return options


def _authority(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"redis.ssl_cafile {path} cannot be used ({reason})") from error
    return path
