"""A real Kafka and a real Redis-compatible server on this machine, from pip packages alone: for trying out and tests.

It knows nothing of readings and alerts; whatever connects to these servers cannot tell them from others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stream_detector.local.kafka import LocalKafka, Secure
from stream_detector.local.redis import LocalRedis
from stream_detector.local.server import Server

__all__ = ["LocalKafka", "LocalRedis", "Secure", "Servers", "running"]


@dataclass(frozen=True)
class Servers:
    """Addresses of running servers: bootstrap server and URL; empty where one was not asked for."""

    kafka: str
    redis: str
    processes: tuple[Server, ...] = field(default=(), repr=False)

    def check(self) -> None:
        """Raise OutsideError when one of the servers has ended by itself."""
        for process in self.processes:
            process.check()


@contextmanager
def running(
    directory: Path | None = None,
    kafka: bool = True,
    redis: bool = True,
    kafka_port: int | None = None,
    redis_port: int | None = None,
) -> Iterator[Servers]:
    """Run the servers while the block lasts; with a directory, their data are there again the next time.

    Raises ConfigError where a package is missing, OutsideError where a server does not come up.
    """
    with ExitStack() as stack:
        if directory is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-detector-")))
        else:
            home = directory
        a_kafka = LocalKafka(home / "kafka", kafka_port)
        a_redis = LocalRedis(home / "redis", redis_port, keep=directory is not None)
        chosen: list[Server] = [each for each, wanted in ((a_redis, redis), (a_kafka, kafka)) if wanted]
        for server in chosen:
            stack.callback(server.stop)
            server.launch()
        for server in chosen:
            server.wait()
        yield Servers(a_kafka.address if kafka else "", a_redis.url if redis else "", tuple(chosen))
