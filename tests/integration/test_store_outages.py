"""The store and a server that stops, hangs, fills up, fails over or does not let it in."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from stream_detector.errors import ConfigError, StoreError
from stream_detector.local import LocalRedis
from stream_detector.settings import RedisSettings
from stream_detector.streaming.store import PartitionSave, PartitionTrim, Rows, Store, WriteRefusedError
from stream_detector.streaming.store.connection import Patience

QUICK = Patience(connect_s=0.5, answer_s=0.5, attempts=2)
SECRET = "s3cr3t"  # noqa: S105


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalRedis]:
    """A server of the test's own."""
    with LocalRedis(tmp_path / "redis", keep=True) as found:
        yield found


@pytest.fixture
def admin(server: LocalRedis) -> Iterator[redis.Redis]:
    """Somebody who may change the server's setup."""
    with redis.Redis.from_url(server.url) as found:
        yield found


@pytest.fixture
def store(server: LocalRedis) -> Iterator[Store]:
    """A store that does not wait long."""
    with store_at(server.url) as found:
        yield found


def store_at(url: str, password_file: Path | None = None) -> Store:
    """A store at an address."""
    return Store(RedisSettings(url=SecretStr(url), password_file=password_file), "group", QUICK)


def first(epoch: int, size: int = 1) -> PartitionSave:
    """The first save of a partition."""
    return PartitionSave("t", 0, epoch, 1, None, 5, b"m", {"p": Rows(b"l", ["a"], b"1" * size)}, [b"once"])


def test_a_server_that_is_away_is_said_and_met_again(server: LocalRedis, store: Store) -> None:
    """While it is stopped each call is a StoreError; afterwards the same store goes on, scripts and all."""
    store.save([first(store.claim("t", 0).epoch)])
    server.kill()
    for call in (store.check, lambda: store.claim("t", 0)):
        with pytest.raises(StoreError, match="cannot be reached"):
            call()
    server.start()
    store.check()
    found = store.claim("t", 0)
    assert (found.next_offset, [entry.messages for entry in found.outbox]) == (5, [[b"once"]])


def test_a_killed_server_holds_whole_saves(server: LocalRedis, store: Store) -> None:
    """Killed while it writes, it comes back with the last save that was answered or the one under way, never a part."""
    ids = [f"sensor-{i}" for i in range(300)]
    pause = random.Random(5)  # noqa: S311
    for _ in range(4):
        claim = store.claim("t", 0)
        step, answered = claim.step, claim.step
        killer = threading.Timer(pause.uniform(0.02, 0.15), server.kill)
        killer.start()
        with pytest.raises(StoreError):
            while True:
                step += 1
                rows = Rows(b"l", ids, step.to_bytes(4, "little") * (250 * len(ids)))
                store.save([PartitionSave("t", 0, claim.epoch, step, step - 1 or None, step, b"", {"p": rows})])
                answered = step
        killer.join()
        server.start()
        found = store.claim("t", 0)
        assert found.step in {answered, answered + 1}
        assert found.next_offset == (found.step or None)
        if found.step:
            assert set(memoryview(found.sensors["p"][0].packed).cast("I")) == {found.step}
    assert found.step


def test_a_server_that_lost_everything_fences(server: LocalRedis, store: Store, admin: redis.Redis) -> None:
    """State that came back empty is claimed anew, never written on top of."""
    claim = store.claim("t", 0)
    store.save([first(claim.epoch)])
    admin.flushall()
    with pytest.raises(WriteRefusedError):
        store.save([PartitionSave("t", 0, claim.epoch, 2, 5, 6, b"")])
    assert store.claim("t", 0).next_offset is None


def test_a_server_that_hangs_is_said_and_the_save_repeated(server: LocalRedis, store: Store) -> None:
    """All attempts of the save wait in the server and are done when it wakes up: the save counts once."""
    claim = store.claim("t", 0)
    server.pause()
    try:
        with pytest.raises(StoreError, match=r"does not answer within 0\.5 s"):
            store.save([first(claim.epoch)])
    finally:
        server.resume()
    store.save([first(claim.epoch)])
    assert [entry.messages for entry in store.claim("t", 0).outbox] == [[b"once"]]


def test_a_wrong_password_is_a_setting_to_mend(server: LocalRedis, admin: redis.Redis, tmp_path: Path) -> None:
    """Wrong, missing and right password, and a user without rights; no message tells a password."""
    admin.config_set("requirepass", "right")
    admin.acl_setuser("reader", enabled=True, passwords=["+" + SECRET], keys=["*"], commands=["+@read", "+ping"])
    address = server.url.split("://")[1].split("@")[-1]
    for url, words in [
        (f"redis://:{SECRET}@{address}", "refuses the user or the password"),
        (f"redis://nobody:{SECRET}@{address}", "refuses the user or the password"),
        (f"redis://{address}", "refuses the user or the password"),
        (f"redis://reader:{SECRET}@{address}", "extend its ACL"),
    ]:
        with store_at(url) as store, pytest.raises(ConfigError, match=words) as caught:
            store.claim("t", 0)
        assert SECRET not in f"{caught.value} {caught.value.__cause__} {store!r}"
    with store_at(f"redis://reader:{SECRET}@{address}") as store:
        store.check()
    path = tmp_path / "password"
    path.write_text("right\n")
    with store_at(f"redis://{address}", password_file=path) as store:
        assert store.claim("t", 0).next_offset is None


def test_a_full_server_takes_nothing_and_can_be_trimmed(store: Store, admin: redis.Redis) -> None:
    """A save that it refuses leaves no part behind; trimming works, and gives room."""
    claim = store.claim("t", 0)
    store.save([first(claim.epoch)])
    second = PartitionSave("t", 0, claim.epoch, 2, 5, 6, b"", {"p": Rows(b"l2", ["a", "b"], b"22")}, [b"two"])
    admin.config_set("maxmemory", 1)
    for write in (lambda: store.save([second]), lambda: store.claim("t", 0)):
        with pytest.raises(StoreError, match="is full"):
            write()
    store.trim([PartitionTrim("t", 0, claim.epoch, 5)])
    admin.config_set("maxmemory", 0)
    found = store.claim("t", 0)
    assert (found.step, found.outbox, found.sensors["p"]) == (1, [], [Rows(b"l", ["a"], b"1")])


def test_a_replica_takes_nothing(store: Store, admin: redis.Redis) -> None:
    """During a failover a write is refused in words, and done afterwards."""
    claim = store.claim("t", 0)
    admin.replicaof("127.0.0.1", "1")
    with pytest.raises(StoreError, match="replica"):
        store.save([first(claim.epoch)])
    admin.replicaof("NO", "ONE")
    store.save([first(claim.epoch)])


def test_a_server_that_evicts_is_warned_of(store: Store, admin: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """State must not be dropped by the server itself; the policies that spare it are fine."""
    with caplog.at_level(logging.WARNING):
        store.check()
        assert not caplog.records
        admin.config_set("maxmemory-policy", "allkeys-lru")
        store.check()
    assert "noeviction" in caplog.text
