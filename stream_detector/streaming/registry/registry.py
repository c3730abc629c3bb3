"""The registry: artifacts by digest, and for each line of weights its versions and its champion.

The same in every place; see `Place` for what the places do. Times are the caller's clock, for people; what is current
is told by `generation`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.streaming.registry import changes, records
from stream_detector.streaming.registry.place import Added, Place
from stream_detector.streaming.registry.records import Champion, Line, LineRecord, Shadow, Version
from stream_detector.streaming.registry.tally import Tally, total

DIGEST = re.compile(r"[0-9a-f]{64}")
START = re.compile(r"[0-9a-f]{6,64}")
ALGORITHM = "sha256:"
"""Alerts and states write a digest with this before it; both forms are taken everywhere."""


class Registry:
    """Every method raises StoreError when the place is away, ArtifactError for weights that are missing or corrupt.

    lease: a token that `lease` gave. A write that names one raises FencedError, and changes nothing, unless the
    lease is still held.
    """

    def __init__(self, place: Place, clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._place.close()

    def put(
        self,
        artifact: Artifact,
        line: Line,
        *,
        parent: str | None = None,
        decision: Mapping[str, Any] | None = None,
        lease: str | None = None,
    ) -> str:
        """Keep an artifact as a version of a line, and return its digest. The same again changes nothing.

        decision: plain values. `passed` False makes it a refused version, anything else a challenger. Put again with
        other metrics or another decision, the version takes those over; its artifact stays as it was first put.
        """
        records.check_fits(artifact, line)
        now_ms = self._now_ms()
        digest = artifact.digest
        version = records.version_of(
            replace(
                artifact,
                parent=artifact.parent if parent is None else parent.removeprefix(ALGORITHM),
                decision=artifact.decision if decision is None else decision,
            ),
            digest,
            now_ms,
        )
        whole = replace(artifact, parent=version.parent, decision=version.decision, created=version.created)
        change = partial(changes.added, line=line, version=version, now_ms=now_ms)
        self._place.change(line.key, change, lease, Added(digest, whole.pack(), self._is_whole(digest)))
        return digest

    def get(self, digest: str) -> Artifact:
        """An artifact; raises ArtifactError when it is missing or corrupt. Never a part of one."""
        digest = _digest(digest)
        found = artifacts.unpack(self._place.packed(digest), f"version {digest[:12]} in the registry")
        if found.digest != digest:
            raise ArtifactError(f"what is kept as version {digest[:12]} is another artifact: import it again")
        return found

    def champion(self, line: Line) -> str | None:
        """The digest that a line uses; None when nothing was promoted yet."""
        record = self._place.record(line.key)
        return None if record is None else record.champion

    def champions(self) -> Mapping[str, Champion]:
        """The champions of all lines that have one, by the line's key; cheap enough to ask every other second."""
        return self._place.champions()

    def promote(self, line: Line, digest: str, reason: str, *, lease: str | None = None) -> None:
        """Make one of a line's versions its champion; raises ArtifactError when the line does not have it.

        A trial of a shadow, which was held against the champion before, ends with it.
        """
        change = partial(changes.promoted, line=line, digest=_digest(digest), reason=reason, now_ms=self._now_ms())
        self._place.change(line.key, change, lease)

    def rollback(self, line: Line, reason: str = "rolled back") -> str:
        """Go back to the champion before, and return its digest; twice goes further back.

        Raises ArtifactError when there is none.
        """
        change = partial(changes.rolled_back, line=line, reason=reason, now_ms=self._now_ms())
        return self._place.change(line.key, change, None).champion or ""

    def shadows(self) -> Mapping[str, Shadow]:
        """The shadows of all lines that have one, by the line's key; as cheap to ask for as the champions."""
        return self._place.shadows()

    def try_beside(self, line: Line, digest: str, *, lease: str | None = None) -> None:
        """Make one of a line's versions its shadow, in place of the one it has; the same again changes nothing.

        Raises ArtifactError when the line does not have it.
        """
        change = partial(changes.tried, line=line, digest=_digest(digest), now_ms=self._now_ms())
        self._place.change(line.key, change, lease)

    def tally(self, shadow: Shadow, name: str, tally: Tally) -> bool:
        """Keep what one process has counted of a shadow so far, in place of what it said before.

        name: `SLOT:PROCESS`, so that a restarted worker adds to what it counted before. False, and nothing is kept,
        when the shadow's trial is over.
        """
        return self._place.tally(shadow, name, tally)

    def counted(self, shadow: Shadow) -> Tally:
        """What all processes together have counted of a shadow."""
        return total(shadow.trial, self._place.tallies(shadow))

    def settle(
        self, shadow: Shadow, passed: bool, reason: str, found: Mapping[str, Any], *, lease: str | None = None
    ) -> None:
        """End a shadow's trial: it is the champion now, or refused; found: plain values, kept in its decision.

        Raises ArtifactError when the trial is over already.
        """
        plain = json.loads(json.dumps(dict(found)))
        change = partial(
            changes.settled, shadow=shadow, passed=passed, reason=reason, found=plain, now_ms=self._now_ms()
        )
        self._place.change(shadow.line.key, change, lease)

    def versions(self, line: Line) -> list[Version]:
        """All that is kept of a line, the newest first."""
        record = self._place.record(line.key)
        return list(reversed(record.versions)) if record else []

    def lines(self) -> list[Line]:
        """All lines that have versions."""
        return [record.line for record in self.records()]

    def records(self) -> list[LineRecord]:
        """All that is known of all lines, by model and channels."""
        return sorted(self._place.records(), key=lambda record: (record.line.model, record.line.channels))

    def find(self, start: str) -> list[tuple[Line, Version]]:
        """The versions whose digest begins so, in every line that has it; raises ConfigError for too few digits."""
        start = start.removeprefix(ALGORITHM).lower()
        if not START.fullmatch(start):
            raise ConfigError(f"{start!r} names no version: give at least 6 of its digits (0-9, a-f)")
        return [(one.line, version) for one in self.records() for version in one.versions if _is(version, start)]

    def lease(self, name: str, holder: str, seconds: float) -> str | None:
        """Take a lease, and return its token; None while another token has it, even if its holder has this name."""
        token = f"{name}:{uuid4().hex}"
        return token if self._place.acquire(token, holder, seconds) else None

    def renew(self, token: str, seconds: float) -> bool:
        """Make a lease last `seconds` from now on; False when it has run out or somebody else has it."""
        return self._place.renew(token, seconds)

    def release(self, token: str) -> None:
        """Give a lease up, if it is still held."""
        self._place.release(token)

    def holder(self, name: str) -> str | None:
        """Who holds a lease now; None when nobody does."""
        return self._place.holder(name)

    def _is_whole(self, digest: str) -> bool:
        try:
            self.get(digest)
        except ArtifactError:
            return False
        return True

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _digest(digest: str) -> str:
    plain = digest.removeprefix(ALGORITHM)
    if not DIGEST.fullmatch(plain):
        raise ArtifactError(f"{digest!r} is not an artifact's digest: it has 64 digits (0-9, a-f)")
    return plain


def _is(version: Version, start: str) -> bool:
    return version.digest.startswith(start)
