"""Workers in processes of their own, readings that come at a pace, and waiting for what comes of both."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import MemberToRemove
from kafka.structs import TopicPartition

from stream_detector.settings import Settings
from tests.integration.streams import Message

ROOT = Path(__file__).parents[2]
FORKS = multiprocessing.get_context("forkserver")


def answered(settings: Settings) -> dict[int, tuple[int, int]]:
    """Of each partition the offset up to which the group has answered for its readings, and the end."""
    kafka = settings.kafka
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, group_id=kafka.group_id, enable_auto_commit=False
    )
    try:
        places = [
            TopicPartition(kafka.readings_topic, p) for p in consumer.partitions_for_topic(kafka.readings_topic) or ()
        ]
        ends = consumer.end_offsets(places)
        return {place.partition: (consumer.committed(place) or 0, ends[place]) for place in places}
    finally:
        consumer.close(autocommit=False)


def progress(settings: Settings) -> int:
    """Readings that the group has answered for."""
    return sum(done for done, _ in answered(settings).values())


def wait_until_answered(settings: Settings, limit_s: float = 90) -> None:
    """Wait until the group has answered for all readings."""
    deadline = time.monotonic() + limit_s
    while True:
        found = answered(settings)
        if all(done >= end for done, end in found.values()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not answered for after {limit_s} s (partition: offset, end): {found}")
        time.sleep(0.2)


def wait_until(true: Callable[[], object], what: str, limit_s: float = 60) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {limit_s} s still not: {what}")
        time.sleep(0.05)


def wait_for_progress(settings: Settings, beyond: int, limit_s: float = 60) -> None:
    """Wait until the group has answered for more than so many readings."""
    wait_until(lambda: progress(settings) > beyond, f"more than {beyond} readings are answered for", limit_s)


class Feeder(threading.Thread):
    """Sends messages at an even pace, so that things happen to workers that have work."""

    def __init__(self, settings: Settings, messages: Sequence[Message], over_s: float) -> None:
        super().__init__(daemon=True)
        self._settings, self._messages, self._over_s = settings, messages, over_s
        self._producer = KafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers, acks="all", delivery_timeout_ms=300_000
        )

    def run(self) -> None:
        """Send, a little every 50 ms."""
        slices = np.array_split(np.arange(len(self._messages)), max(1, round(self._over_s / 0.05)))
        began = time.monotonic()
        for number, part in enumerate(slices):
            for i in part.tolist():
                partition, key, value = self._messages[i]
                self._producer.send(self._settings.kafka.readings_topic, key=key, value=value, partition=partition)
            time.sleep(max(0.0, began + 0.05 * number - time.monotonic()))
        self._producer.flush()
        self._producer.close()

    def finish(self, limit_s: float = 120) -> None:
        """Wait until all is sent."""
        self.join(limit_s)
        if self.is_alive():
            raise TimeoutError(f"not all readings could be sent within {limit_s} s")


class WorkerProcess:
    """A worker in a process of its own, forked from one that has everything imported."""

    def __init__(self, settings: Settings, slot: str, place: str = "never", count: int = 1) -> None:
        if str(ROOT) not in sys.path:
            sys.path.append(str(ROOT))  # a child finds this package by it
        kafka = settings.kafka
        topic, group = kafka.readings_topic.removesuffix("-readings"), kafka.group_id
        arguments = [
            kafka.bootstrap_servers,
            settings.redis.url.get_secret_value(),
            topic,
            group.removeprefix(f"{topic}-"),
            str(Path(settings.detector.model).parent),
            place,
            str(count),
            slot,
        ]
        FORKS.set_forkserver_preload(["tests.integration.crashing"])
        self.process = FORKS.Process(target=_work, args=(arguments,), daemon=True)
        self.process.start()

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.process.pid or 0, number)

    def stop(self, limit_s: float = 30) -> int | None:
        """End it cleanly; its exit code."""
        self.process.terminate()
        return self.wait(limit_s)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()

    def dies(self, settings: Settings) -> bool:
        """Wait until it has killed itself and tell the group, which would else wait until its session is over."""
        died = self.wait() == -signal.SIGKILL
        admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        group_id = settings.kafka.group_id
        members = admin.describe_groups([group_id])[group_id]["members"]
        if members:
            admin.remove_group_members(group_id, [MemberToRemove(member_id=one["member_id"]) for one in members])
        admin.close()
        return died

    def wait(self, limit_s: float = 30) -> int | None:
        """Wait until it has ended; its exit code, negative for a signal, None when it has not."""
        self.process.join(limit_s)
        return self.process.exitcode


def _work(arguments: list[str]) -> None:
    from tests.integration import crashing

    sys.argv[1:] = arguments
    crashing.main()
