"""Servers that lose what they were given, hang or are away for a while: the worker goes on by itself, exactly once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from stream_detector.local import LocalKafka, LocalRedis
from stream_detector.settings import Settings
from tests.integration.streams import (
    Outcome,
    Running,
    drain,
    kinds,
    make_topics,
    outcome,
    plant,
    send,
    settings_for,
    told_twice,
    undisturbed,
)
from tests.integration.workers import Feeder, WorkerProcess, wait_for_progress, wait_until, wait_until_answered

Snapshot = dict[bytes, bytes]
SENSORS, STEPS, PARTITIONS = 20, 420, 3


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalKafka, LocalRedis]]:
    """Servers of these tests' own, which they may stop."""
    home = tmp_path_factory.mktemp("servers")
    with LocalKafka(home / "kafka") as kafka, LocalRedis(home / "redis", keep=True) as store:
        yield kafka, store


@pytest.fixture
def settings(
    servers: tuple[LocalKafka, LocalRedis], topic: str, made: dict[tuple[str, ...], Path]
) -> Iterator[Settings]:
    """Settings of a test's workers, its topics made."""
    kafka, store = servers
    found = settings_for(kafka.address, store.url, topic, made)
    make_topics(found, PARTITIONS)
    yield found


@pytest.fixture
def running(settings: Settings) -> Iterator[Running]:
    """A worker at work."""
    found = Running(settings)
    found.start()
    yield found
    found.stop()
    assert not found.is_alive()
    assert found.error is None


MESSAGES = plant(SENSORS, STEPS, PARTITIONS).messages
HALF = len(MESSAGES) // 2


def without_gaps(settings: Settings) -> Outcome:
    """What was told and saved, but for the word that a state was lost."""
    gaps = {alert.alert_id for alert in kinds(settings, "state_gap")}
    found = outcome(settings, PARTITIONS)
    return Outcome({key: life for key, life in found.lives.items() if key not in gaps}, found.states)


def check_gaps(settings: Settings) -> None:
    """Each partition has told of its gap once, and nothing was told twice."""
    places = sorted(alert.sensor_id for alert in kinds(settings, "state_gap"))
    assert places == [f"{settings.kafka.readings_topic}/{partition}" for partition in range(PARTITIONS)]
    assert told_twice(settings) == []


def flush(settings: Settings) -> None:
    """Empty the store."""
    with redis.Redis.from_url(settings.redis.url.get_secret_value()) as client:
        client.flushall()


def snapshot(settings: Settings) -> Snapshot:
    """All keys of the store at one moment."""
    with redis.Redis.from_url(settings.redis.url.get_secret_value()) as client:
        keys = client.keys()
        with client.pipeline(transaction=True) as pipeline:
            for key in keys:
                pipeline.dump(key)
            found = dict(zip(keys, pipeline.execute(), strict=True))
    return {key: packed for key, packed in found.items() if packed is not None}


def restore(settings: Settings, earlier: Snapshot) -> None:
    """Put the store back to where it was."""
    with redis.Redis.from_url(settings.redis.url.get_secret_value()) as client, client.pipeline() as pipeline:
        pipeline.flushall()
        for key, packed in earlier.items():
            pipeline.restore(key, 0, packed)
        pipeline.execute()


def test_a_store_that_is_emptied_under_a_running_worker(settings: Settings, running: Running) -> None:
    """The worker takes everything in again, says so once a partition, and tells nothing a second time."""
    feeder = Feeder(settings, MESSAGES, 5)
    feeder.start()
    wait_until(lambda: running.worker.counts.readings > HALF, "half is done")
    flush(settings)
    feeder.finish()
    wait_until_answered(settings)
    running.stop()
    check_gaps(settings)
    assert without_gaps(settings).differences(undisturbed(settings, MESSAGES)) == []


def test_a_store_that_is_emptied_between_two_workers(settings: Settings) -> None:
    """Killed right after it has saved the first batch with the word of the gap, the next worker still tells it once."""
    send(settings, MESSAGES[:HALF])
    drain(settings, PARTITIONS)
    flush(settings)
    send(settings, MESSAGES[HALF:])
    assert WorkerProcess(settings, "a", "saved").dies(settings)
    drain(settings, PARTITIONS)
    check_gaps(settings)
    assert without_gaps(settings).differences(undisturbed(settings, MESSAGES)) == []


def test_a_state_that_is_rebuilt_in_part(settings: Settings) -> None:
    """With fewer readings to rebuild from, sensors warm up anew: told once, and no step of an incident twice."""
    send(settings, MESSAGES[:HALF])
    drain(settings, PARTITIONS)
    flush(settings)
    few = settings.model_copy(update={"worker": settings.worker.model_copy(update={"rebuild_readings": 200})})
    send(settings, MESSAGES[HALF:])
    drain(few, PARTITIONS)
    check_gaps(settings)


def test_a_store_that_is_put_back_under_a_running_worker(settings: Settings, running: Running) -> None:
    """Back at an older snapshot, the worker takes in again what is missing: alerts and states as if nothing was."""
    feeder = Feeder(settings, MESSAGES, 6)
    feeder.start()
    for share in (0.2, 0.5):
        wait_for_progress(settings, round(share * len(MESSAGES)))
        earlier = snapshot(settings)
        time.sleep(0.7)
        restore(settings, earlier)
    feeder.finish()
    wait_until_answered(settings)
    running.stop()
    assert kinds(settings, "state_gap") == []
    assert outcome(settings, PARTITIONS).differences(undisturbed(settings, MESSAGES)) == []


def test_a_store_that_is_put_back_between_two_workers(settings: Settings) -> None:
    """The snapshot is older than what Kafka has; killed while it takes in again, the next worker goes on with that."""
    send(settings, MESSAGES[: HALF // 2])
    drain(settings, PARTITIONS)
    earlier = snapshot(settings)
    send(settings, MESSAGES[HALF // 2 : HALF])
    drain(settings, PARTITIONS)
    restore(settings, earlier)
    send(settings, MESSAGES[HALF:])
    for place, count in (("saved", 2), ("answered", 1)):
        assert WorkerProcess(settings, "a", place, count).dies(settings)
    drain(settings, PARTITIONS)
    assert kinds(settings, "state_gap") == []
    assert outcome(settings, PARTITIONS).differences(undisturbed(settings, MESSAGES)) == []


def be_away(servers: tuple[LocalKafka, LocalRedis], what: str, for_s: float, running: Running) -> None:
    """Take servers away until the worker has noticed, and for a while more; then bring them back."""
    kafka, store = servers
    if what in ("redis stopped", "both"):
        store.stop()
    if what in ("kafka paused", "both"):
        kafka.pause()
    if what == "kafka killed":
        kafka.kill()
    wait_until(lambda: not running.worker.ready, "it is not ready", 20)
    time.sleep(for_s)
    assert not running.worker.ready
    if what in ("redis stopped", "both"):
        store.start()
    if what in ("kafka paused", "both"):
        kafka.resume()
    if what == "kafka killed":
        kafka.start()


def resident_mb() -> float:
    """Memory of this process, in which the worker runs."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize(
    ("what", "for_s"),
    [
        ("redis stopped", 2),
        ("kafka paused", 1),
        pytest.param("redis stopped", 10, marks=pytest.mark.slow),
        pytest.param("kafka paused", 15, marks=pytest.mark.slow),
        pytest.param("kafka killed", 30, marks=pytest.mark.slow),
        pytest.param("both", 15, marks=pytest.mark.slow),
    ],
)
def test_servers_that_are_away_for_a_while(
    settings: Settings, running: Running, servers: tuple[LocalKafka, LocalRedis], what: str, for_s: float
) -> None:
    """The worker is not ready meanwhile, and alive again by itself: nothing is lost, nothing told twice."""
    feeder = Feeder(settings, MESSAGES, 3)
    feeder.start()
    wait_until(lambda: running.worker.counts.readings > HALF // 4, "some is done")
    assert running.worker.ready
    be_away(servers, what, for_s, running)
    feeder.finish()
    wait_until_answered(settings)
    wait_until(lambda: running.worker.ready, "it is ready again")
    running.stop()
    assert outcome(settings, PARTITIONS).differences(undisturbed(settings, MESSAGES)) == []


@pytest.mark.slow
def test_memory_is_bounded_while_the_store_is_away(
    settings: Settings, running: Running, servers: tuple[LocalKafka, LocalRedis]
) -> None:
    """Readings that pile up meanwhile, 20 MB of them, wait in the broker, not in the worker."""
    _, store = servers
    wait_until(lambda: running.worker.ready, "it is ready")
    store.stop()
    send(settings, [(0, b"", b"{" + b" " * 10_000)])
    wait_until(lambda: not running.worker.ready, "it is not ready", 20)
    before_mb = resident_mb()
    for _ in range(20):
        send(settings, [(partition, b"", b"{" + b" " * 10_000) for partition in range(PARTITIONS)] * 700)
    time.sleep(5)
    grown_mb = resident_mb() - before_mb
    store.start()
    wait_until_answered(settings, 120)
    assert grown_mb < 250
