"""The store without a server: names of keys, bytes of entries, and what is said of unusable settings."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.crc import key_slot

from stream_detector.errors import ConfigError, FencedError, StoreError, StreamDetectorError
from stream_detector.settings import RedisSettings
from stream_detector.streaming.store import PartitionSave, Rows, Store, WriteRefusedError
from stream_detector.streaming.store import codec as codec_module
from stream_detector.streaming.store.codec import pack_outboxed, save_call, tag, unpack_outboxed, unpack_rows
from stream_detector.streaming.store.connection import Link, Patience
from stream_detector.streaming.store.keys import LAYOUT, PartitionKeys, profile_of, rows_field

SECRET = "s3cr3t"  # noqa: S105
ANY_TEXT = st.text(st.characters())
PROFILES = st.text(st.characters(exclude_categories=[]))


def save(**given: object) -> PartitionSave:
    """A small save with some of its fields given."""
    fields = {"topic": "readings", "partition": 0, "epoch": 1, "step": 1, "expected_offset": None, "next_offset": 5}
    return PartitionSave(**{**fields, "meta": b"", **given})  # type: ignore[arg-type]


@given(prefix=ANY_TEXT, group=PROFILES, topic=PROFILES, partition=st.integers(0, 10_000), profile=PROFILES)
def test_all_keys_of_a_partition_share_a_slot(
    prefix: str, group: str, topic: str, partition: int, profile: str
) -> None:
    """Whatever the names are, the part in braces is the topic and the partition, and decides the slot."""
    keys = PartitionKeys(prefix, group, topic, partition)
    names = [keys.meta, keys.outbox, keys.sensors(profile)]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert {key_slot(f"{keys.base.split('{')[1].split('}')[0]}".encode())} == {key_slot(names[0].encode())}
    assert all(name.isascii() and name.isprintable() and name.count("{") == name.count("}") == 1 for name in names)


def test_names_that_look_alike_have_keys_of_their_own() -> None:
    """A colon or a brace in a name cannot make it another name's key."""
    groups = ["a", "a:b", "a%3Ab", "a:{b:0}", "", "ä", "a b"]
    assert len({PartitionKeys("p", group, "t", 0).meta for group in groups}) == len(groups)
    keys = PartitionKeys("p", "a", "t", 0)
    assert len({keys.sensors(name) for name in groups} | {keys.meta, keys.outbox}) == len(groups) + 2


@given(PROFILES)
def test_a_profile_is_found_by_its_field(profile: str) -> None:
    """A profile's name comes back from the field that counts its rows."""
    assert profile_of(rows_field(profile)) == profile


@given(st.lists(st.binary(), min_size=1), st.integers(0, 2**53), st.integers(1, 2**53))
def test_an_outbox_entry_comes_back(messages: list[bytes], end_offset: int, step: int) -> None:
    """Messages of any bytes, their offset and their step survive the entry."""
    found = unpack_outboxed(pack_outboxed(save(outbox=messages, next_offset=end_offset, step=step)))
    assert (found.messages, found.end_offset, found.step) == (messages, end_offset, step)


@pytest.mark.parametrize("entry", [b"", b"12\n", b"x y\n\x90", b"1 2\n", b"1 2\n\xc1", b"1 2\n\x91\x01"])
def test_a_foreign_outbox_entry_is_an_error(entry: bytes) -> None:
    """What the program did not write is said so."""
    with pytest.raises(StoreError, match="not written by this program"):
        unpack_outboxed(entry)


def test_rows_of_two_layouts_are_told_apart() -> None:
    """After an upgrade each row still comes with the layout it was written in, ids in order."""
    meta = {LAYOUT + tag(b"old"): b"old", LAYOUT + tag(b"new"): b"new"}
    stored = {b"c": tag(b"old") + b"33", b"a": tag(b"old") + b"11", b"b": tag(b"new") + b"2222"}
    found = {rows.layout: (list(rows.ids), rows.packed) for rows in unpack_rows(stored, meta)}
    assert found == {b"old": (["a", "c"], b"1133"), b"new": (["b"], b"2222")}


@pytest.mark.parametrize(
    "stored",
    [{b"a": b"short"}, {b"a": tag(b"other") + b"1"}, {b"a": tag(b"l") + b"1", b"b": tag(b"l") + b"22"}],
    ids=["no tag", "unknown layout", "two sizes"],
)
def test_damaged_rows_are_an_error(stored: dict[bytes, bytes]) -> None:
    """Rows that do not fit together are never handed out."""
    with pytest.raises(StoreError, match="not written by this program"):
        list(unpack_rows(stored, {LAYOUT + tag(b"l"): b"l"}))


def test_rows_are_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block holds whole rows and no more than a server takes in one argument."""
    monkeypatch.setattr(codec_module, "BLOCK_BYTES", 5)
    rows = Rows(b"l", ["a", "b", "c"], b"112233")
    _, arguments = save_call(PartitionKeys("p", "g", "t", 0), save(sensors={"x": rows}))
    assert arguments[-8:] == [2, 2, b"a", b"b", b"1122", 1, b"c", b"33"]


def test_a_save_beyond_what_redis_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before the server cuts the connection."""
    monkeypatch.setattr(codec_module, "MOST_BYTES", 5)
    with pytest.raises(ConfigError, match=r"lower worker\.max_sensors"):
        save_call(PartitionKeys("p", "g", "t", 0), save(sensors={"x": Rows(b"l", ["a"], b"123456")}))


@pytest.mark.parametrize(
    "given", [{"step": 0}, {"next_offset": -1}, {"expected_offset": 9, "next_offset": 8}], ids=lambda given: str(given)
)
def test_a_save_goes_forward(given: dict[str, int]) -> None:
    """A place that falls back is the caller's mistake and raised where it is made."""
    with pytest.raises(ValueError, match="goes forward"):
        save(**given)


@pytest.mark.parametrize(("ids", "packed"), [(["a", "b"], b"123"), ([], b"1")])
def test_rows_have_one_size(ids: list[str], packed: bytes) -> None:
    """Bytes that cannot be cut into equal rows are refused where they are put together."""
    with pytest.raises(ValueError, match="rows of one size"):
        Rows(b"l", ids, packed)


def test_a_refused_write_names_its_partitions() -> None:
    """Its words and its attribute name the same partitions, and it is caught as fencing."""
    error = WriteRefusedError([("readings", 3)], [("readings", 1), ("readings", 2)])
    assert isinstance(error, FencedError)
    assert error.partitions == {("readings", 1), ("readings", 2), ("readings", 3)}
    assert "taken over readings[3]" in str(error)
    assert "readings[1], readings[2]" in str(error)


def settings(url: str, **given: object) -> RedisSettings:
    """Settings with this address."""
    return RedisSettings(url=SecretStr(url), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@localhost:6379/0",
        f"redis://user:{SECRET}@localhost:port/0",
        f"redis://user:{SECRET}@localhost:6379/0?socket_timeout=x",
        f"redis://user:{SECRET}@localhost:6379/0?nonsense={SECRET}",
        f"rediss://user:{SECRET}@localhost:6379/0?ssl_cert_reqs={SECRET}",
    ],
)
def test_an_unusable_address_is_said_without_its_secret(url: str) -> None:
    """The error names the setting; neither it nor what lies behind it shows the password."""
    with pytest.raises(ConfigError, match=r"redis\.url") as caught:
        Store(settings(url), "group")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_files_of_settings_are_checked(tmp_path: Path) -> None:
    """A password or a certificate that is missing, empty or given twice is said at once."""
    empty, text = tmp_path / "empty", tmp_path / "text"
    empty.write_text("\n")
    text.write_text("no certificate")
    for url, more, words in [
        ("redis://h", {"password_file": tmp_path / "none"}, "cannot be read"),
        ("redis://h", {"password_file": empty}, "is empty"),
        (f"redis://:{SECRET}@h", {"password_file": text}, "leave one of them out"),
        ("redis://h", {"ssl_cafile": text}, "does not begin with rediss"),
        ("rediss://h", {"ssl_cafile": text}, "holds no certificate"),
        ("rediss://h", {"ssl_cafile": tmp_path / "none"}, "cannot be used"),
    ]:
        with pytest.raises(ConfigError, match=words):
            Store(settings(url, **more), "group")


def test_a_password_file_is_used(tmp_path: Path) -> None:
    """Its content without the line's end is the password; options of the address cannot break the bytes."""
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n")
    link = Link(settings("redis://user@h:1/2?decode_responses=true", password_file=path), Patience())
    found = link.client.connection_pool.connection_kwargs
    assert (found["username"], found["password"], found["db"]) == ("user", SECRET, 2)
    assert found["decode_responses"] is False
    assert link.address == "h:1"


@pytest.mark.parametrize(
    ("error", "kind", "words", "attempts"),
    [
        (redis.AuthenticationError(SECRET), ConfigError, "refuses the user or the password", 1),
        (redis.exceptions.NoPermissionError("no right to EVALSHA"), ConfigError, "extend its ACL", 1),
        (redis.exceptions.OutOfMemoryError(""), StoreError, "is full", 1),
        (redis.ResponseError("Error running script: OOM command not allowed"), StoreError, "is full", 1),
        (redis.exceptions.ReadOnlyError(""), StoreError, "is a replica", 3),
        (redis.BusyLoadingError(""), StoreError, "still loading", 3),
        (redis.TimeoutError(""), StoreError, "does not answer within 1 s", 3),
        (redis.ConnectionError("Connection refused"), StoreError, "cannot be reached.*Connection refused", 3),
        (redis.ResponseError("MOVED 1 h:2"), ConfigError, "one node of a cluster", 1),
        (redis.ResponseError("MISCONF disk"), StoreError, "MISCONF disk", 1),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else None,
)
def test_errors_of_redis_are_told_in_our_words(
    error: redis.RedisError, kind: type[StreamDetectorError], words: str, attempts: int
) -> None:
    """Each has a leaf of our tree, words that help, and further attempts where they can help."""
    link = Link(settings("redis://h:1"), Patience(answer_s=1, attempts=3))
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(kind, match=words) as caught:
        link.patiently(call)
    assert len(calls) == attempts
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value)


def test_a_certificate_that_is_not_trusted_is_said_at_once() -> None:
    """Another attempt cannot help; a connection that is cut while greeting may be a restart, and is tried again."""
    link = Link(settings("rediss://h:1"), Patience(attempts=3))
    for behind, kind, words, attempts in [
        (ssl.SSLCertVerificationError(1, "x"), ConfigError, "do not agree on TLS", 1),
        (ssl.SSLEOFError(8, "x"), StoreError, "cannot be reached", 3),
    ]:
        calls = []

        def call(behind: OSError = behind, calls: list[int] = calls) -> None:
            calls.append(1)
            try:
                raise behind
            except OSError:
                raise redis.ConnectionError("no") from None

        with pytest.raises(kind, match=words):
            link.patiently(call)
        assert len(calls) == attempts
