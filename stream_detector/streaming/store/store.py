"""The store itself: claim, save, trim. See the package's docstring for what is kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha1
from importlib.resources import files
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import uuid4

from redis.exceptions import NoPermissionError, NoScriptError

from stream_detector.errors import ConfigError, StoreError
from stream_detector.settings import RedisSettings
from stream_detector.streaming.store.codec import Argument, save_call, unpack_outboxed, unpack_rows
from stream_detector.streaming.store.connection import Link, Patience
from stream_detector.streaming.store.keys import LAYOUT, ROWS, PartitionKeys, profile_of
from stream_detector.streaming.store.records import (
    Claim,
    Glance,
    Outboxed,
    PartitionSave,
    PartitionTrim,
    Place,
    Rows,
    WriteRefusedError,
)

FORMAT = 1
"""Version of what is kept; raised when a program that knows only the old one would misread it."""
ROWS_A_REPLY = 1_000
ENTRIES_A_REPLY = 100
SCRIPTS = {
    name: files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in ("claim", "save", "trim")
}
DIGESTS = {name: sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in SCRIPTS.items()}
logger = logging.getLogger(__name__)


class Call(NamedTuple):
    """One script with its keys and arguments."""

    script: str
    keys: Sequence[str]
    arguments: Sequence[Argument]


class Store:
    """The partitions of one consumer group in Redis.

    Every method raises StoreError when Redis is away or refuses, ConfigError when it will always refuse, and the
    writing ones WriteRefusedError. After a StoreError it is unknown whether a write happened: send it again as it
    was, or claim anew.
    """

    def __init__(self, settings: RedisSettings, group_id: str, patience: Patience | None = None) -> None:
        self._link = Link(settings, patience or Patience())
        self._prefix = settings.prefix
        self._group_id = group_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; nothing is written."""
        self._link.close()

    def check(self) -> None:
        """Return if Redis answers, and warn where it is set up to drop state by itself."""
        try:
            memory: dict[str, Any] = self._link.patiently(lambda: self._link.client.info("memory"))
        except ConfigError as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            self._link.patiently(self._link.client.ping)
            return
        policy = str(memory.get("maxmemory_policy", ""))
        if policy.startswith("allkeys"):
            logger.warning(
                "Redis at %s drops state when it is full (maxmemory-policy %s): set it to noeviction",
                self._link.address,
                policy,
            )

    def ping(self) -> None:
        """Return if Redis answers; for those who have nothing to save, and would not notice otherwise."""
        self._link.patiently(self._link.client.ping)

    def claim(self, topic: str, partition: int, rows: bool = True) -> Claim:
        """Take a partition over: whoever held it before can write nothing any more; then load what was saved.

        Without `rows` these are left where they are, and only said whose there are. Raises WriteRefusedError if yet
        another claim came while loading.
        """
        keys = self._keys(topic, partition)
        status, found = self._run([Call("claim", [keys.meta], [FORMAT, uuid4().hex])])[0]
        if status == b"newer":
            raise self._newer(topic, partition, int(found))
        meta: dict[bytes, bytes] = dict(zip(found[::2], found[1::2], strict=True))
        sensors: dict[str, list[Rows]] = {}
        left: dict[str, list[str]] = {}
        try:
            for field in sorted(meta):
                if field.startswith(ROWS) and rows:
                    sensors[profile_of(field)] = self._rows(keys, field, meta)
                elif field.startswith(ROWS):
                    left[profile_of(field)] = self._ids(keys, field, meta)
            outbox = self._outbox(keys)
        except (StoreError, ConfigError):
            # What another claim writes meanwhile may look like damage.
            self._verify(keys, topic, partition, meta[b"epoch"])
            raise
        self._verify(keys, topic, partition, meta[b"epoch"])
        return Claim(
            topic=topic,
            partition=partition,
            epoch=int(meta[b"epoch"]),
            step=int(meta.get(b"step", 0)),
            next_offset=int(meta[b"next_offset"]) if b"next_offset" in meta else None,
            meta=meta.get(b"meta", b""),
            sensors=sensors,
            outbox=outbox,
            left=left,
            layouts={field: value for field, value in meta.items() if field.startswith(LAYOUT)},
        )

    def rows(self, claim: Claim, profile: str, sensor_ids: Sequence[str]) -> list[Rows]:
        """The rows of some of the sensors that a claim has left where they are; raises StoreError if one is gone.

        Another worker may have written them meanwhile: then nothing that comes of them can be saved.
        """
        key = self._keys(claim.topic, claim.partition).sensors(profile)
        stored: dict[bytes, bytes] = {}
        for start in range(0, len(sensor_ids), ROWS_A_REPLY):
            ids = [one.encode("utf-8", "surrogatepass") for one in sensor_ids[start : start + ROWS_A_REPLY]]
            found: list[bytes | None] = self._link.patiently(partial(self._link.client.hmget, key, ids))
            stored |= {one: row for one, row in zip(ids, found, strict=True) if row is not None}
        if len(stored) < len(sensor_ids):
            raise self._dropped(key, len(stored), len(sensor_ids))
        return list(unpack_rows(stored, claim.layouts))

    def look(self, topic: str, partition: int, sensor_ids: Sequence[str]) -> Claim | None:
        """What is saved of some sensors, all of one moment; nobody is put out, and nothing can be written with it.

        None where nothing was ever saved. Its outbox is left out.
        """
        keys, ids = self._keys(topic, partition), [one.encode("utf-8", "surrogatepass") for one in sensor_ids]
        client = self._link.client
        fields = self._link.patiently(lambda: client.hkeys(keys.meta))
        profiles = [profile_of(field) for field in sorted(fields) if field.startswith(ROWS)]

        def read() -> Any:
            pipeline = client.pipeline(transaction=True)
            pipeline.hgetall(keys.meta)
            for profile in profiles:
                pipeline.hmget(keys.sensors(profile), ids)
            return pipeline.execute()

        meta, *several = self._link.patiently(read)
        if isinstance(meta, list):  # as the client of a cluster leaves it in a transaction
            meta = dict(zip(meta[::2], meta[1::2], strict=True))
        if not self._saved(topic, partition, meta):
            return None
        stored = [{one: row for one, row in zip(ids, rows, strict=True) if row is not None} for rows in several]
        return Claim(
            topic=topic,
            partition=partition,
            epoch=int(meta[b"epoch"]),
            step=int(meta.get(b"step", 0)),
            next_offset=int(meta[b"next_offset"]),
            meta=meta.get(b"meta", b""),
            sensors={name: list(unpack_rows(rows, meta)) for name, rows in zip(profiles, stored, strict=True) if rows},
            outbox=[],
        )

    def glance(self, topic: str, partition: int) -> Glance | None:
        """What is saved of a partition beside its rows; None where nothing was ever saved. Nobody is put out."""
        meta = self._link.patiently(lambda: self._link.client.hgetall(self._keys(topic, partition).meta))
        if not self._saved(topic, partition, meta):
            return None
        sensors = sum(int(count) for field, count in meta.items() if field.startswith(ROWS))
        return Glance(int(meta[b"next_offset"]), sensors, meta.get(b"meta", b""))

    def save(self, saves: Sequence[PartitionSave]) -> None:
        """Write each partition's step whole or not at all, all in one round trip; sent again it changes nothing.

        Raises WriteRefusedError that names the partitions that took nothing; the others are saved then.
        """
        calls = [Call("save", *save_call(self._keys(save.topic, save.partition), save)) for save in saves]
        self._write(calls, [(save.topic, save.partition) for save in saves])

    def trim(self, trims: Sequence[PartitionTrim]) -> None:
        """Drop what is published from the outboxes, all in one round trip; raises WriteRefusedError as `save` does."""
        calls = []
        for trim in trims:
            keys = self._keys(trim.topic, trim.partition)
            calls.append(Call("trim", [keys.meta, keys.outbox], [trim.epoch, trim.up_to]))
        self._write(calls, [(trim.topic, trim.partition) for trim in trims])

    def _saved(self, topic: str, partition: int, meta: Mapping[bytes, bytes]) -> bool:
        """Whether anything was ever saved; raises ConfigError for what a newer program has saved."""
        if b"next_offset" not in meta:
            return False
        if int(meta[b"format"]) > FORMAT:
            raise self._newer(topic, partition, int(meta[b"format"]))
        return True

    @staticmethod
    def _newer(topic: str, partition: int, found: int) -> ConfigError:
        return ConfigError(
            f"the state of {topic}[{partition}] was saved by a newer version of this program (format {found}, this one "
            f"knows {FORMAT}): upgrade it"
        )

    def _keys(self, topic: str, partition: int) -> PartitionKeys:
        return PartitionKeys(self._prefix, self._group_id, topic, partition)

    def _write(self, calls: Sequence[Call], places: Sequence[Place]) -> None:
        replies = self._run(calls)
        fenced = [place for place, reply in zip(places, replies, strict=True) if reply == b"fenced"]
        conflicting = [place for place, reply in zip(places, replies, strict=True) if reply == b"conflict"]
        if fenced or conflicting:
            raise WriteRefusedError(fenced, conflicting)

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        """The scripts' answers, in order; each script is such that it may run twice."""

        def run() -> list[Any]:
            replies = self._send(calls)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                for text in SCRIPTS.values():
                    self._link.client.script_load(text)
                replies = self._send(calls)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

        return self._link.patiently(run) if calls else []

    def _send(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self._link.client.pipeline(transaction=False)
        for script, keys, arguments in calls:
            pipeline.execute_command("EVALSHA", DIGESTS[script], len(keys), *keys, *arguments)
        # Errors stay in their places: raised by the client, one would carry all arguments in its text.
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    def _rows(self, keys: PartitionKeys, field: bytes, meta: dict[bytes, bytes]) -> list[Rows]:
        """A profile's rows; raises StoreError when there are not as many as were saved."""
        key = keys.sensors(profile_of(field))
        expected = int(meta[field])
        # A failover to a server that orders the hash otherwise makes one pass incomplete, never two.
        for _ in range(2):
            stored: dict[bytes, bytes] = {}
            for chunk in self._chunks(key):
                stored.update(chunk)
            if len(stored) == expected:
                return list(unpack_rows(stored, meta))
        raise self._dropped(key, len(stored), expected)

    def _ids(self, keys: PartitionKeys, field: bytes, meta: dict[bytes, bytes]) -> list[str]:
        """Whose rows a profile has; raises StoreError when there are not as many as were saved."""
        key, expected = keys.sensors(profile_of(field)), int(meta[field])
        found: list[bytes] = self._link.patiently(lambda: self._link.client.hkeys(key))
        if len(found) != expected:
            raise self._dropped(key, len(found), expected)
        return [one.decode("utf-8", "surrogatepass") for one in sorted(found)]

    @staticmethod
    def _dropped(key: str, found: int, expected: int) -> StoreError:
        return StoreError(
            f"Redis holds {found} of {expected} sensors that were saved under {key}: it has dropped state, see its "
            f"maxmemory-policy; delete the keys {key.rpartition(':sensors:')[0]}:* to start this partition afresh"
        )

    def _chunks(self, key: str) -> Iterator[dict[bytes, bytes]]:
        cursor = 0
        while True:
            scan = partial(self._link.client.hscan, key, cursor, count=ROWS_A_REPLY)
            cursor, chunk = self._link.patiently(scan)
            yield chunk
            if cursor == 0:
                return

    def _outbox(self, keys: PartitionKeys) -> list[Outboxed]:
        entries: list[bytes] = []
        while True:
            some = partial(self._link.client.lrange, keys.outbox, len(entries), len(entries) + ENTRIES_A_REPLY - 1)
            chunk = self._link.patiently(some)
            entries += chunk
            if len(chunk) < ENTRIES_A_REPLY:
                return [unpack_outboxed(entry) for entry in entries]

    def _verify(self, keys: PartitionKeys, topic: str, partition: int, epoch: bytes) -> None:
        if self._link.patiently(lambda: self._link.client.hget(keys.meta, "epoch")) != epoch:
            raise WriteRefusedError([(topic, partition)])
