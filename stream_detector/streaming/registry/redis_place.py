"""A registry's place in Redis.

A hash holds the records of all lines, others the champions alone and the shadows alone, which workers ask for every
other second. What workers count of a line's shadow is a hash that goes with the shadow, a field a process. Each
artifact is a hash of chunks; it is uploaded under a name of its own that expires, and given its name by the same script
that writes the record, so that nobody ever sees a part of one. All keys share the hash tag `{models}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec

from stream_detector.errors import ArtifactError, StoreError
from stream_detector.models.artifact import Packed
from stream_detector.settings import RedisSettings
from stream_detector.streaming.registry.place import Added, Change, fenced, lease_name, missing
from stream_detector.streaming.registry.records import (
    CHECKSUM_CHARS,
    Champion,
    LineRecord,
    Shadow,
    packed,
    unpacked,
)
from stream_detector.streaming.registry.tally import Tally
from stream_detector.streaming.store.connection import Link, Patience

CHUNK_BYTES = 512_000
"""Most that one value holds: a larger one keeps the server from its other clients for long."""
CHUNKS_A_REPLY = 8
UPLOAD_SECONDS = 3_600
"""An upload that was never finished is gone after this."""
ATTEMPTS = 100
Kept = TypeVar("Kept", Champion, Shadow, Tally)
WRITE, UPLOAD, LEASE, TALLY = (
    files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    for name in ("write", "upload", "lease", "tally")
)


class RedisPlace:
    """The models of one prefix; see `Place`."""

    def __init__(self, settings: RedisSettings, patience: Patience | None = None) -> None:
        self._link = Link(settings, patience or Patience())
        self._base = f"{quote(settings.prefix, safe='')}:{{models}}:"
        self._records = f"{self._base}lines"
        self._champions = f"{self._base}champions"
        self._shadows = f"{self._base}shadows"

    def close(self) -> None:
        """Close all connections."""
        self._link.close()

    def record(self, key: str) -> LineRecord | None:
        """The record of a line."""
        stored = self._call("HGET", self._records, key)
        return None if stored is None else self._unpacked(stored)

    def records(self) -> list[LineRecord]:
        """The records of all lines."""
        return [self._unpacked(stored) for stored in self._link.patiently(self._all_of(self._records)).values()]

    def champions(self) -> dict[str, Champion]:
        """By key of the line; in one round trip."""
        return self._decoded(self._champions, Champion)

    def shadows(self) -> dict[str, Shadow]:
        """By key of the line; in one round trip."""
        return self._decoded(self._shadows, Shadow)

    def tally(self, shadow: Shadow, name: str, tally: Tally) -> bool:
        """Keep what one process has counted; False when the shadow's trial is over."""
        keys = self._shadows, self._key("tallies", shadow.line.key)
        arguments = shadow.line.key, msgspec.json.encode(shadow), name, msgspec.json.encode(tally)
        return bool(self._call("EVAL", TALLY, len(keys), *keys, *arguments))

    def tallies(self, shadow: Shadow) -> dict[str, Tally]:
        """What each process has counted of a shadow, by its name."""
        return self._decoded(self._key("tallies", shadow.line.key), Tally)

    def change(self, key: str, change: Change, lease: str | None, added: Added | None = None) -> LineRecord:
        """Write the changed record, and anew from what is there now when somebody else was faster."""
        if lease == "":
            raise fenced(lease)
        upload = self._key("upload", uuid4().hex) if added and not added.there else None
        if added and upload:
            self._upload(upload, added.packed)
        for _ in range(ATTEMPTS):
            stored: bytes = self._call("HGET", self._records, key) or b""
            before = self._unpacked(stored) if stored else None
            after = change(before)
            dropped = (before.digests if before else frozenset()) - after.digests
            leader = msgspec.json.encode(after.leader) if after.leader else b""
            shadow = msgspec.json.encode(after.shadow) if after.shadow else b""
            keys = [self._records, self._champions, self._shadows, self._key("tallies", key)]
            keys += [self._key("lease", lease_name(lease or ""))]
            keys += [self._key("artifact", added.digest if added else ""), upload or self._key("upload", "none")]
            keys += [self._key("artifact", digest) for digest in sorted(dropped)]
            arguments = [key, stored[:CHECKSUM_CHARS], packed(after), leader, shadow, lease or ""]
            arguments += ["add" if added else ""]
            reply = self._call("EVAL", WRITE, len(keys), *keys, *arguments)
            if reply == b"fenced":
                raise fenced(lease or "")
            if reply == b"missing" and added:
                upload = self._key("upload", uuid4().hex)
                self._upload(upload, added.packed)
            elif reply == b"written":
                return after
        raise StoreError("others change the same line of weights all the time: try again later")

    def packed(self, digest: str) -> Packed:
        """An artifact's bytes, unchecked; raises ArtifactError when they are not there."""
        key = self._key("artifact", digest)
        manifest, chunks = self._call("HMGET", key, "manifest", "chunks")
        if chunks is None:
            raise missing(digest)
        found: list[bytes] = []
        try:
            end, count = int(manifest), int(chunks)
            for start in range(0, count, CHUNKS_A_REPLY):
                found += self._call("HMGET", key, *range(start, min(count, start + CHUNKS_A_REPLY)))
            data = b"".join(found)
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"version {digest[:12]} is damaged in Redis: import it again, or roll back") from error
        return Packed(data[:end], data[end:])

    def acquire(self, token: str, holder: str, seconds: float) -> bool:
        """Take the lease that a token names unless another token has it."""
        return self._lease("acquire", token, seconds, holder)

    def renew(self, token: str, seconds: float) -> bool:
        """Make the lease last `seconds` from now on; False when the token has it no more."""
        return self._lease("renew", token, seconds)

    def release(self, token: str) -> None:
        """Give the lease up if the token has it."""
        self._lease("release", token)

    def holder(self, name: str) -> str | None:
        """Who has a lease now."""
        held: bytes | None = self._call("GET", self._key("lease", name))
        return None if held is None else held.partition(b"\n")[2].decode()

    def _upload(self, key: str, added: Packed) -> None:
        data = added.manifest + added.weights
        chunks = range(0, len(data), CHUNK_BYTES)
        about = {"manifest": len(added.manifest), "chunks": len(chunks)}
        about["fields"] = len(chunks) + len(about) + 1
        for i, start in enumerate(chunks):
            self._call("EVAL", UPLOAD, 1, key, UPLOAD_SECONDS, i, data[start : start + CHUNK_BYTES])
        pairs = [part for item in about.items() for part in item]
        self._call("EVAL", UPLOAD, 1, key, UPLOAD_SECONDS, *pairs)

    def _lease(self, action: str, token: str, seconds: float = 0.0, holder: str = "") -> bool:
        key = self._key("lease", lease_name(token))
        reply: int = self._call("EVAL", LEASE, 1, key, action, token, max(1, round(seconds * 1000)), holder)
        return bool(reply)

    def _key(self, kind: str, name: str) -> str:
        return f"{self._base}{kind}:{quote(name, safe='')}"

    def _unpacked(self, stored: bytes) -> LineRecord:
        return unpacked(stored, f"a line in {self._records} in Redis at {self._link.address}")

    def _decoded(self, key: str, kind: type[Kept]) -> dict[str, Kept]:
        stored = self._link.patiently(self._all_of(key))
        try:
            return {name.decode(): msgspec.json.decode(one, type=kind) for name, one in stored.items()}
        except msgspec.MsgspecError as error:
            raise StoreError(f"{key} in Redis was not written by this program: delete it") from error

    def _all_of(self, key: str) -> Any:
        return lambda: self._link.client.hgetall(key)

    def _call(self, *command: Any) -> Any:
        """One command; each is such that it may be sent again."""
        arguments: Sequence[Any] = command
        return self._link.patiently(lambda: self._link.client.execute_command(*arguments))
