"""A Redis Cluster in the place of one Redis: partitions spread over its nodes, slots that move, a node that dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from stream_detector.errors import ConfigError, StoreError
from stream_detector.settings import RedisSettings, Settings
from stream_detector.streaming import retained
from stream_detector.streaming.overlook import overlook
from stream_detector.streaming.store import PartitionTrim, Rows, Store, WriteRefusedError
from stream_detector.streaming.store.connection import Patience
from stream_detector.streaming.store.keys import PartitionKeys
from tests.integration.clusters import Cluster, running_cluster
from tests.integration.streams import (
    Running,
    drain,
    make_topics,
    outcome,
    plant,
    send,
    settings_for,
    told_twice,
    undisturbed,
)
from tests.integration.test_store import after, store_at
from tests.integration.workers import Feeder, progress, wait_until, wait_until_answered

SENSORS, STEPS, PARTITIONS = 20, 150, 6
Made = dict[tuple[str, ...], Path]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose primaries have a replica each, for this test to break."""
    with running_cluster(tmp_path / "cluster", 3, 3) as found:
        yield found


def settings_at(cluster: Cluster, kafka: str, topic: str, made: Made) -> Settings:
    """Settings of a worker with its state in a cluster, its topics made."""
    found = settings_for(kafka, cluster.url, topic, made)
    found = found.model_copy(update={"redis": found.redis.model_copy(update={"cluster": True})})
    make_topics(found, PARTITIONS)
    return found


def meta_of(settings: Settings, partition: int) -> str:
    """The key that says how far a partition's state is."""
    kafka = settings.kafka
    return PartitionKeys(settings.redis.prefix, kafka.group_id, kafka.readings_topic, partition).meta


def test_the_store_keeps_its_word(cluster: Cluster, topic: str) -> None:
    """Claims, repeated and refused saves, looks and trims, of partitions on several nodes in one call."""
    with store_at(cluster.url, topic, cluster=True) as store, store_at(cluster.url, topic, cluster=True) as other:
        store.check()
        claims = [store.claim("readings", partition) for partition in range(PARTITIONS)]
        rows = Rows(b"layout", ["a", "b"], b"xxyy")
        saves = [after(claim, 5, outbox=[b"m"], pumps=rows) for claim in claims]
        for _ in range(2):
            store.save(saves)
        looked = other.look("readings", 1, ["b"])
        assert looked is not None and looked.sensors == {"pumps": [Rows(b"layout", ["b"], b"yy")]}
        glanced = other.glance("readings", 2)
        assert glanced is not None and (glanced.sensors, glanced.next_offset) == (2, 5)
        taken = other.claim("readings", 3)
        assert (taken.step, taken.next_offset, taken.outbox[0].messages) == (1, 5, [b"m"])
        assert taken.sensors == {"pumps": [rows]}
        with pytest.raises(WriteRefusedError) as caught:
            store.trim([PartitionTrim("readings", p, claim.epoch, 5) for p, claim in enumerate(claims)])
        assert caught.value.fenced == {("readings", 3)}
        assert [len(other.claim("readings", p).outbox) for p in range(PARTITIONS)] == [0, 0, 0, 1, 0, 0]


def test_a_worker_s_state_is_spread(cluster: Cluster, kafka: str, topic: str, made: Made) -> None:
    """The alerts and the rows are those of one Redis; the keys of a partition are on one node, all on several."""
    settings = settings_at(cluster, kafka, topic, made)
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    send(settings, messages)
    drain(settings, PARTITIONS)
    assert not undisturbed(settings, messages).differences(outcome(settings, PARTITIONS))
    holding = {}
    for node in cluster.primaries:
        for key in redis.Redis.from_url(node.url).scan_iter(f"test:{settings.kafka.group_id}:*"):
            holding.setdefault(key.partition(b"{")[2].partition(b"}")[0], set()).add(node.port)
    assert len(holding) == PARTITIONS and {len(nodes) for nodes in holding.values()} == {1}
    assert len(set.union(*holding.values())) > 1


def test_others_find_it_there(cluster: Cluster, kafka: str, topic: str, made: Made) -> None:
    """What `replay` and the pages for people ask for."""
    settings = settings_at(cluster, kafka, topic, made)
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    send(settings, messages)
    drain(settings, PARTITIONS)
    found, away = retained.row(settings, 1, "pump-1")
    assert found is not None and (found.channels, away) == (("value",), "")
    with Store(settings.redis, settings.kafka.group_id) as store:
        assert overlook(settings, store, range(PARTITIONS)).sensors == SENSORS


def test_slots_move_while_a_worker_works(cluster: Cluster, kafka: str, topic: str, made: Made) -> None:
    """Each partition's keys go to another node meanwhile: nothing is lost, nothing is told twice."""
    settings = settings_at(cluster, kafka, topic, made)
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    worker, feeder = Running(settings), Feeder(settings, messages, 6)
    worker.start()
    feeder.start()
    wait_until(lambda: progress(settings) > 200, "the worker works")
    for partition in range(PARTITIONS):
        key = meta_of(settings, partition)
        source = cluster.owner(key)
        cluster.move(key, next(node for node in cluster.primaries if node is not source))
        assert cluster.owner(key) is not source
    feeder.finish()
    wait_until_answered(settings)
    worker.stop()
    assert not undisturbed(settings, messages).differences(outcome(settings, PARTITIONS))
    assert told_twice(settings) == []


def test_a_node_dies_and_its_replica_takes_over(guarded: Cluster, kafka: str, topic: str, made: Made) -> None:
    """The worker waits, goes on, and tells all once, also where the replica had not yet heard the last.

    The node that dies is the one that the settings name.
    """
    settings = settings_at(guarded, kafka, topic, made)
    dead = guarded.owner(meta_of(settings, 0))
    named = settings.redis.model_copy(update={"url": SecretStr(dead.url)})
    settings = settings.model_copy(update={"redis": named})
    messages = plant(SENSORS, STEPS, PARTITIONS).messages
    worker, feeder = Running(settings), Feeder(settings, messages, 6)
    worker.start()
    feeder.start()
    wait_until(lambda: progress(settings) > 400, "the worker works")
    dead.kill()
    feeder.finish()
    wait_until_answered(settings)
    worker.stop()
    assert worker.error is None and worker.worker.counts.errors > 0
    assert guarded.owner(meta_of(settings, 0)) is not dead
    dead.start()
    guarded.wait_until_well()
    assert not undisturbed(settings, messages).differences(outcome(settings, PARTITIONS))
    assert told_twice(settings) == []


def test_what_is_wrong_with_a_cluster_is_said(cluster: Cluster, redis_url: str) -> None:
    """One that is away, one that is none, one that nobody said was one; another database than 0."""
    for url, more, kind, words in [
        ("redis://127.0.0.1:1", {"cluster": True}, StoreError, "cannot be reached|none that can be reached"),
        (redis_url, {"cluster": True}, ConfigError, "leave redis.cluster out"),
        (cluster.url, {}, ConfigError, "set redis.cluster = true"),
    ]:
        with store_at(url, **more) as store, pytest.raises(kind, match=words):
            for partition in range(PARTITIONS):
                store.claim("readings", partition)
    for url in ("redis://h:1/2", "unix:///tmp/redis"):
        with pytest.raises(ConfigError, match="no database but 0"):
            Store(RedisSettings(url=SecretStr(url), cluster=True), "group", Patience())
