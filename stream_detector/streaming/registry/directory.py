"""A registry's place in a directory, which may be a volume that several processes share.

DIR/lines/KEY.json       a line's record, its champion included; replaced in one go
DIR/artifacts/DIGEST/    an artifact, whole from the moment it has this name
DIR/tallies/KEY/*.json   what each process has counted of the line's shadow
DIR/leases/NAME.json     who holds a lease, and until when
DIR/lock                 held by whoever writes; readers need no lock

Leases run by the machines' clocks, which must agree much better than a lease is long.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from stream_detector.errors import ConfigError, OutputError, StoreError
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Packed
from stream_detector.streaming.registry.place import Added, Change, fenced, lease_name, missing
from stream_detector.streaming.registry.records import Champion, LineRecord, Shadow, packed, unpacked
from stream_detector.streaming.registry.tally import Tally

LOCK_SECONDS = 30.0
"""Longest that a writer waits for another one, which may be writing large weights to a slow volume."""
OURS = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.(part|old|gone)")
"""Artifacts, and what is left of those that were being written or taken away."""


class Lease(msgspec.Struct, frozen=True):
    """What a file of a lease says; until: seconds since 1970."""

    token: str
    holder: str
    until: float


class DirectoryPlace:
    """The models of one directory; see `Place`. It comes into being with the first write."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        if root.exists() and not root.is_dir():
            raise ConfigError(f"models.registry {root} is a file: name a directory")
        self._root = root
        self._clock = clock

    def close(self) -> None:
        """Nothing is held open."""

    def record(self, key: str) -> LineRecord | None:
        """The record of a line."""
        path = self._root / "lines" / f"{key}.json"
        data = self._read(path)
        return None if data is None else unpacked(data, str(path))

    def records(self) -> list[LineRecord]:
        """The records of all lines."""
        try:
            keys = sorted(path.stem for path in (self._root / "lines").glob("[!.]*.json"))
        except OSError as error:
            raise self._trouble(error) from error
        return [record for key in keys if (record := self.record(key)) is not None]

    def champions(self) -> dict[str, Champion]:
        """By key of the line."""
        leaders = (record.leader for record in self.records())
        return {leader.line.key: leader for leader in leaders if leader}

    def shadows(self) -> dict[str, Shadow]:
        """By key of the line."""
        return {record.line.key: record.shadow for record in self.records() if record.shadow}

    def tally(self, shadow: Shadow, name: str, tally: Tally) -> bool:
        """Keep what one process has counted; False when the shadow's trial is over."""
        with self._alone():
            record = self.record(shadow.line.key)
            if record is None or record.shadow != shadow:
                return False
            self._replace(self._tallies(shadow.line.key) / f"{quote(name, safe='')}.json", msgspec.json.encode(tally))
        return True

    def tallies(self, shadow: Shadow) -> dict[str, Tally]:
        """What each process has counted of a shadow, by its name."""
        place = self._tallies(shadow.line.key)
        try:
            found = {unquote(path.stem): self._read(path) for path in place.glob("*.json")}
            return {name: msgspec.json.decode(data, type=Tally) for name, data in found.items() if data}
        except OSError as error:
            raise self._trouble(error) from error
        except msgspec.MsgspecError as error:
            raise StoreError(f"{place} is damaged: delete it") from error

    def change(self, key: str, change: Change, lease: str | None, added: Added | None = None) -> LineRecord:
        """Write the artifact, then the record, then drop what no line keeps; alone, under the lock."""
        with self._alone():
            if lease is not None and not self._has(lease):
                raise fenced(lease)
            before = self.record(key)
            after = change(before)
            if added:
                self._keep(added)
            self._replace(self._root / "lines" / f"{key}.json", packed(after))
            if before and before.shadow != after.shadow:
                shutil.rmtree(self._tallies(key), ignore_errors=True)
            self._sweep()
        return after

    def packed(self, digest: str) -> Packed:
        """An artifact's bytes, unchecked; raises ArtifactError when they are not there."""
        if not self._artifact(digest).is_dir():
            raise missing(digest)
        return artifacts.read(self._artifact(digest))

    def acquire(self, token: str, holder: str, seconds: float) -> bool:
        """Take the lease that a token names unless another token has it."""
        with self._alone():
            held = self._lease(lease_name(token))
            if held is not None and held.token != token:
                return False
            self._write_lease(Lease(token, holder, self._clock() + seconds))
        return True

    def renew(self, token: str, seconds: float) -> bool:
        """Make the lease last `seconds` from now on; False when the token has it no more."""
        with self._alone():
            held = self._lease(lease_name(token))
            if held is None or held.token != token:
                return False
            self._write_lease(Lease(token, held.holder, self._clock() + seconds))
        return True

    def release(self, token: str) -> None:
        """Give the lease up if the token has it."""
        with self._alone():
            if self._has(token):
                self._lease_path(lease_name(token)).unlink()

    def holder(self, name: str) -> str | None:
        """Who has a lease now."""
        held = self._lease(name)
        return None if held is None else held.holder

    def _has(self, token: str) -> bool:
        held = self._lease(lease_name(token))
        return held is not None and held.token == token

    def _lease(self, name: str) -> Lease | None:
        data = self._read(self._lease_path(name))
        try:
            held = data and msgspec.json.decode(data, type=Lease)
        except msgspec.MsgspecError as error:
            raise StoreError(f"{self._lease_path(name)} is damaged: delete it") from error
        return held if held and held.until > self._clock() else None

    def _write_lease(self, lease: Lease) -> None:
        self._replace(self._lease_path(lease_name(lease.token)), msgspec.json.encode(lease))

    def _lease_path(self, name: str) -> Path:
        return self._root / "leases" / f"{quote(name, safe='')}.json"

    def _artifact(self, digest: str) -> Path:
        return self._root / "artifacts" / digest

    def _tallies(self, key: str) -> Path:
        return self._root / "tallies" / key

    def _keep(self, added: Added) -> None:
        place = self._artifact(added.digest)
        if added.there and place.is_dir():
            return
        try:
            place.parent.mkdir(exist_ok=True)
            self._discard(place)
            artifacts.write(added.packed, place)
        except OutputError as error:
            raise StoreError(str(error)) from error

    def _sweep(self) -> None:
        """Take away artifacts that no line keeps: those just dropped, and those of a writer that was killed."""
        kept: set[str] = set().union(*(record.digests for record in self.records()))
        place = self._root / "artifacts"
        for path in place.iterdir() if place.is_dir() else ():
            # What else lies there is somebody else's.
            if OURS.fullmatch(path.name) and path.name not in kept:
                self._discard(path)

    def _discard(self, path: Path) -> None:
        """Under another name first: what has an artifact's name is whole."""
        if path.exists():
            hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}.gone")
            if path != hidden:
                shutil.rmtree(hidden, ignore_errors=True)
                path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._trouble(error) from error

    def _replace(self, path: Path, data: bytes) -> None:
        """Write a file so that readers see the old or the new one, after a power cut too."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock, which its process loses when it ends, however it does; raises StoreError."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with (self._root / "lock").open("ab") as file:
                self._lock(file.fileno())
                yield
        except OSError as error:
            raise self._trouble(error) from error

    def _lock(self, number: int) -> None:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise StoreError(
                        f"another process has held {self._root / 'lock'} for {LOCK_SECONDS:g} s: see whether one hangs"
                    ) from error
            time.sleep(0.01)

    def _trouble(self, error: OSError) -> StoreError:
        return StoreError(
            f"models.registry {self._root} cannot be used ({error.strerror}): see its rights and its free space"
        )
