"""The store against a real server: fencing, repeated calls, restarts, and everything comes back byte for byte."""

from __future__ import annotations

import random
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from stream_detector.errors import ConfigError, StoreError
from stream_detector.settings import RedisSettings
from stream_detector.streaming.store import (
    Claim,
    PartitionSave,
    PartitionTrim,
    Rows,
    Store,
    WriteRefusedError,
)
from stream_detector.streaming.store.connection import Patience

TOPIC = "readings"
QUICK = Patience(connect_s=1.0, answer_s=1.0, attempts=3)


def store_at(url: str, prefix: str = "test", patience: Patience = QUICK, **given: Any) -> Store:
    """A store that does not wait long."""
    return Store(RedisSettings(url=SecretStr(url), prefix=prefix, **given), "a group: {odd}", patience)


@pytest.fixture
def prefix() -> str:
    """Keys that no other test has."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def client(redis_url: str, prefix: str) -> Iterator[redis.Redis]:
    """A look behind the store's back; takes its keys away in the end."""
    with redis.Redis.from_url(redis_url) as found:
        yield found
        for key in found.scan_iter(f"{prefix}:*", count=1000):
            found.delete(key)


@pytest.fixture
def store(redis_url: str, prefix: str, client: redis.Redis) -> Iterator[Store]:
    """A store of its own on the shared server."""
    with store_at(redis_url, prefix) as found:
        yield found


def after(claim: Claim, next_offset: int, *, outbox: Sequence[bytes] = (), **sensors: Rows) -> PartitionSave:
    """The first save after a claim."""
    return PartitionSave(
        topic=claim.topic,
        partition=claim.partition,
        epoch=claim.epoch,
        step=claim.step + 1,
        expected_offset=claim.next_offset,
        next_offset=next_offset,
        meta=b"meta at %d" % next_offset,
        sensors=sensors,
        outbox=outbox,
    )


def kept(client: redis.Redis, prefix: str) -> dict[bytes, Any]:
    """All that the server holds below a prefix."""
    found: dict[bytes, Any] = {}
    for key in client.scan_iter(f"{prefix}:*", count=1000):
        found[key] = client.lrange(key, 0, -1) if client.type(key) == b"list" else client.hgetall(key)
    return found


def rows_of(claim: Claim) -> dict[tuple[str, bytes, str], bytes]:
    """Profile, layout and sensor -> its row."""
    return {
        (profile, rows.layout, sensor_id): rows.packed[i * rows.width : (i + 1) * rows.width]
        for profile, found in claim.sensors.items()
        for rows in found
        for i, sensor_id in enumerate(rows.ids)
    }


def test_a_new_partition_is_empty(store: Store) -> None:
    """Nothing saved is told apart from saved at offset 0, and each claim's epoch is above the last."""
    first = store.claim(TOPIC, 0)
    assert (first.next_offset, first.step, first.meta, first.sensors, first.outbox) == (None, 0, b"", {}, [])
    store.save([after(first, 0)])
    second = store.claim(TOPIC, 0)
    assert (second.next_offset, second.step, second.meta) == (0, 1, b"meta at 0")
    assert second.epoch > first.epoch


def test_what_was_saved_comes_back(store: Store) -> None:
    """Rows, layouts, outbox and place of each partition; a row written again replaces the old one."""
    layout = b'{"version": 1}'
    claims = [store.claim(TOPIC, partition) for partition in range(3)]
    store.save(
        [
            after(
                claim,
                10,
                outbox=[b"one", b"\x00two"],
                small=Rows(layout, ["a", "b"], bytes([0, claim.partition, 2, 3])),
            )
            for claim in claims
        ]
    )
    claim = store.claim(TOPIC, 1)
    store.save([after(claim, 12, outbox=[b""], small=Rows(layout, ["b", "c"], b"XXYY"), wide=Rows(b"w", ["a"], b"Z"))])
    claim = store.claim(TOPIC, 1)
    assert rows_of(claim) == {
        ("small", layout, "a"): b"\x00\x01",
        ("small", layout, "b"): b"XX",
        ("small", layout, "c"): b"YY",
        ("wide", b"w", "a"): b"Z",
    }
    assert [(entry.step, entry.end_offset, entry.messages) for entry in claim.outbox] == [
        (1, 10, [b"one", b"\x00two"]),
        (2, 12, [b""]),
    ]
    assert (claim.step, claim.next_offset, claim.meta) == (2, 12, b"meta at 12")
    assert rows_of(store.claim(TOPIC, 2))["small", layout, "a"] == b"\x00\x02"


def test_rows_of_an_older_layout_stay_readable(store: Store) -> None:
    """After an upgrade only the rows that were written again have the new layout."""
    store.save([after(store.claim(TOPIC, 0), 1, p=Rows(b"old", ["a", "b"], b"1122"))])
    store.save([after(store.claim(TOPIC, 0), 2, p=Rows(b"new", ["b"], b"333"))])
    assert rows_of(store.claim(TOPIC, 0)) == {("p", b"old", "a"): b"11", ("p", b"new", "b"): b"333"}


def test_the_older_claim_writes_nothing(store: Store, redis_url: str, prefix: str, client: redis.Redis) -> None:
    """After another worker's claim neither a save nor a trim changes a byte, and the partition is named."""
    mine = store.claim(TOPIC, 7)
    store.save([after(mine, 5, outbox=[b"alert"], p=Rows(b"l", ["a"], b"1"))])
    with store_at(redis_url, prefix) as other:
        theirs = other.claim(TOPIC, 7)
        before = kept(client, prefix)
        late = PartitionSave(TOPIC, 7, mine.epoch, 2, 5, 9, b"", {"p": Rows(b"l", ["a"], b"2")}, [b"late"])
        for write in (lambda: store.save([late]), lambda: store.trim([PartitionTrim(TOPIC, 7, mine.epoch, 5)])):
            with pytest.raises(WriteRefusedError, match=r"taken over readings\[7\]") as caught:
                write()
            assert caught.value.fenced == caught.value.partitions == {(TOPIC, 7)}
        assert kept(client, prefix) == before
        other.save([after(theirs, 9)])


def test_only_the_fenced_partition_is_refused(store: Store) -> None:
    """The others of the same call are saved, and the error names the one."""
    claims = [store.claim(TOPIC, partition) for partition in range(3)]
    store.claim(TOPIC, 1)
    with pytest.raises(WriteRefusedError) as caught:
        store.save([after(claim, 4) for claim in claims])
    assert caught.value.partitions == {(TOPIC, 1)}
    assert [store.claim(TOPIC, partition).next_offset for partition in range(3)] == [4, None, 4]


def test_a_save_sent_twice_changes_nothing(store: Store, client: redis.Redis, prefix: str) -> None:
    """Also when it consumed nothing, as after feedback; the next step is another save."""
    claim = store.claim(TOPIC, 0)
    first = after(claim, 5, outbox=[b"a"], p=Rows(b"l", ["a"], b"1"))
    store.save([first])
    store.save([first, first])
    feedback = [PartitionSave(TOPIC, 0, claim.epoch, step, 5, 5, b"m", {}, [b"f%d" % step]) for step in (2, 3)]
    store.save(feedback[:1])
    before = kept(client, prefix)
    store.save(feedback[:1])
    assert kept(client, prefix) == before
    store.save(feedback[1:])
    assert [(e.step, e.end_offset, e.messages) for e in store.claim(TOPIC, 0).outbox] == [
        (1, 5, [b"a"]),
        (2, 5, [b"f2"]),
        (3, 5, [b"f3"]),
    ]


@pytest.mark.parametrize(
    ("step", "expected", "next_offset"),
    [(2, None, 9), (2, 4, 9), (3, 5, 9), (1, 5, 9), (1, None, 6)],
    ids=["forgot the place", "another place", "skips a step", "repeats a step", "a step with another end"],
)
def test_a_save_from_another_place_is_a_conflict(
    store: Store, client: redis.Redis, prefix: str, step: int, expected: int | None, next_offset: int
) -> None:
    """The store at step 1, offset 5 takes only step 2 from offset 5."""
    claim = store.claim(TOPIC, 0)
    store.save([after(claim, 5)])
    before = kept(client, prefix)
    with pytest.raises(WriteRefusedError, match="does not hold what was last saved") as caught:
        store.save([PartitionSave(TOPIC, 0, claim.epoch, step, expected, next_offset, b"", {}, [b"x"])])
    assert caught.value.conflicting == {(TOPIC, 0)}
    assert not caught.value.fenced
    assert kept(client, prefix) == before


def test_the_outbox_is_trimmed_from_its_old_end(store: Store) -> None:
    """Entries up to the offset go, the rest stays in order, and a trim sent twice does no harm."""
    claim = store.claim(TOPIC, 0)
    for step, end in enumerate((3, 5, 5, 8), start=1):
        before = (None, 3, 5, 5)[step - 1]
        store.save([PartitionSave(TOPIC, 0, claim.epoch, step, before, end, b"", {}, [b"%d" % step])])
    other = store.claim(TOPIC, 1)
    for up_to, left in [(2, [1, 2, 3, 4]), (4, [2, 3, 4]), (4, [2, 3, 4]), (5, [4]), (100, [])]:
        store.trim([PartitionTrim(TOPIC, 0, claim.epoch, up_to), PartitionTrim(TOPIC, 1, other.epoch, up_to)])
        claim_again = store.claim(TOPIC, 0)
        assert [entry.step for entry in claim_again.outbox] == left
        claim = claim_again


def test_a_long_outbox_comes_back_in_order(store: Store) -> None:
    """Also when it takes several replies."""
    claim = store.claim(TOPIC, 0)
    saves = [
        PartitionSave(TOPIC, 0, claim.epoch, step, step - 1 or None, step, b"", {}, [b"%d" % step])
        for step in range(1, 251)
    ]
    store.save(saves)
    assert [entry.messages for entry in store.claim(TOPIC, 0).outbox] == [[b"%d" % step] for step in range(1, 251)]


def test_sensor_ids_are_any_text(store: Store) -> None:
    """Braces, newlines, NUL, scripts, lone surrogates and a thousand bytes come back as they were."""
    ids = [
        "",
        "{a}",
        "}{",
        "a\nb\r\n",
        "\x00",
        "'); redis.call('FLUSHALL') --",
        "пу́мпа-7",
        "🔥",
        "\udce4",
        "x" * 1000,
        "%7B",
    ]
    packed = b"".join(i.to_bytes(4, "little") for i in range(len(ids)))
    store.save([after(store.claim(TOPIC, 0), 1, **{"odd {profile}:\n": Rows(b"l", ids, packed)})])
    expected = {("odd {profile}:\n", b"l", sensor_id): i.to_bytes(4, "little") for i, sensor_id in enumerate(ids)}
    assert rows_of(store.claim(TOPIC, 0)) == expected


def test_a_hundred_thousand_sensors_come_back(store: Store) -> None:
    """One save and one claim of a large partition, byte for byte, ids in order."""
    ids = [f"machine-{i:06d}" for i in range(100_000)]
    width = 64
    packed = random.Random(7).randbytes(len(ids) * width)  # noqa: S311
    shuffled = random.Random(8).sample(range(len(ids)), len(ids))  # noqa: S311
    rows = Rows(b"l", [ids[i] for i in shuffled], b"".join(packed[i * width : (i + 1) * width] for i in shuffled))
    store.save([after(store.claim(TOPIC, 0), 1, p=rows)])
    (found,) = store.claim(TOPIC, 0).sensors["p"]
    assert list(found.ids) == ids
    assert found.packed == packed


def test_a_forgotten_script_is_loaded_again(store: Store, client: redis.Redis) -> None:
    """A server that restarted or failed over no longer knows the scripts."""
    claim = store.claim(TOPIC, 0)
    client.script_flush()
    store.save([after(claim, 1, outbox=[b"a"])])
    client.script_flush()
    store.trim([PartitionTrim(TOPIC, 0, claim.epoch, 1)])
    client.script_flush()
    found = store.claim(TOPIC, 0)
    assert (found.next_offset, found.outbox) == (1, [])


class Wire:
    """A wire to the server that can lose the reply to a request after the server has done it."""

    def __init__(self, url: str) -> None:
        options = redis.connection.parse_url(url)
        self._server = (options.get("host", "localhost"), options.get("port", 6379))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/{options.get('db', 0)}"
        self.lose = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._server)
            threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        try:
            while data := source.recv(65536):
                if replies and self.lose:
                    self.lose -= 1
                    break
                target.sendall(data)
        except OSError:
            pass  # the other direction has closed both ends
        for end in (source, target):
            end.close()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()


def test_a_lost_reply_is_not_a_second_write(redis_url: str, prefix: str, client: redis.Redis) -> None:
    """The server did the save, the answer got lost, the store asks again: one entry in the outbox, no error."""
    wire = Wire(redis_url)
    with store_at(wire.url, prefix) as store:
        claim = store.claim(TOPIC, 0)
        wire.lose = 1
        store.save([after(claim, 5, outbox=[b"once"], p=Rows(b"l", ["a"], b"1"))])
        assert wire.lose == 0
        wire.lose = 1
        found = store.claim(TOPIC, 0)
        assert wire.lose == 0
        assert [entry.messages for entry in found.outbox] == [[b"once"]]
        wire.lose = 1
        store.trim([PartitionTrim(TOPIC, 0, found.epoch, 5)])
        assert store.claim(TOPIC, 0).outbox == []
    wire.close()


def test_a_claim_sent_again_is_the_same_claim(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was given up and arrives late does not fence the one that was sent in its place."""
    sent: list[Any] = []
    send = store._send
    monkeypatch.setattr(store, "_send", lambda calls: sent.append(calls) or send(calls))
    claim = store.claim(TOPIC, 0)
    assert [call.script for call in sent[0]] == ["claim"]
    send(sent[0])
    store.save([after(claim, 1)])


@pytest.mark.parametrize("theirs", [Rows(b"l", ["a"], b"2"), Rows(b"another", ["b"], b"22")], ids=["alike", "other"])
def test_a_claim_that_is_overtaken_while_loading_says_so(
    store: Store, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch, theirs: Rows
) -> None:
    """State that another worker may have changed meanwhile is never handed out, nor taken for damage."""
    store.save([after(store.claim(TOPIC, 0), 1, p=Rows(b"l", ["a"], b"1"))])
    with store_at(redis_url, prefix) as other:
        load = store._rows

        def overtaken(*given: Any) -> Any:
            other.save([after(other.claim(TOPIC, 0), 2, p=theirs)])
            return load(*given)

        monkeypatch.setattr(store, "_rows", overtaken)
        with pytest.raises(WriteRefusedError, match="taken over"):
            store.claim(TOPIC, 0)


def test_epochs_stay_apart_where_the_server_lost_them(store: Store, client: redis.Redis, prefix: str) -> None:
    """A server that came back without its last writes, or whose clock went back, gives no epoch out twice."""
    lost = store.claim(TOPIC, 0)
    (key,) = client.scan_iter(f"{prefix}:*meta")
    client.delete(key)
    claim = store.claim(TOPIC, 0)
    assert claim.epoch > lost.epoch
    with pytest.raises(WriteRefusedError):
        store.save([after(lost, 1)])
    client.hset(key, "epoch", str(2**52))
    assert store.claim(TOPIC, 0).epoch == 2**52 + 1


def test_dropped_rows_are_noticed(store: Store, client: redis.Redis, prefix: str) -> None:
    """A server that evicts would otherwise hand out half a fleet; the message says how to go on."""
    store.save([after(store.claim(TOPIC, 0), 1, p=Rows(b"l", ["a", "b"], b"12"))])
    (key,) = client.scan_iter(f"{prefix}:*sensors:p")
    client.hdel(key, "a")
    with pytest.raises(StoreError, match=r"1 of 2 sensors.*delete the keys"):
        store.claim(TOPIC, 0)
    for each in client.scan_iter(f"{prefix}:*"):
        client.delete(each)
    assert store.claim(TOPIC, 0).next_offset is None


def test_state_of_a_newer_program_is_not_touched(store: Store, client: redis.Redis, prefix: str) -> None:
    """It is neither misread nor claimed."""
    store.claim(TOPIC, 0)
    (key,) = client.scan_iter(f"{prefix}:*meta")
    client.hset(key, "format", "2")
    before = kept(client, prefix)
    with pytest.raises(ConfigError, match="newer version"):
        store.claim(TOPIC, 0)
    assert kept(client, prefix) == before


def test_a_key_of_another_kind_stops_the_save_before_it_writes(store: Store, client: redis.Redis, prefix: str) -> None:
    """Half a save is worse than none."""
    claim = store.claim(TOPIC, 0)
    store.save([after(claim, 1, p=Rows(b"l", ["a"], b"1"))])
    (key,) = client.scan_iter(f"{prefix}:*meta")
    client.set(key.replace(b"meta", b"outbox"), "not a list")
    before = client.hgetall(key)
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.save([PartitionSave(TOPIC, 0, claim.epoch, 2, 1, 2, b"", {"p": Rows(b"l", ["a"], b"2")}, [b"x"])])
    assert client.hgetall(key) == before
    assert client.hgetall(key.replace(b"meta", b"sensors:p"))[b"a"].endswith(b"1")


def test_groups_and_prefixes_are_apart(store: Store, redis_url: str, prefix: str) -> None:
    """Another group of the same topic has its own claim."""
    claim = store.claim(TOPIC, 0)
    with Store(RedisSettings(url=SecretStr(redis_url), prefix=prefix), "other") as other:
        assert other.claim(TOPIC, 0).next_offset is None
    store.save([after(claim, 1)])
