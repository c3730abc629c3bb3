"""What a registry keeps of a line of weights, and how promoting and rolling back change it. Pure: no place, no clock.

A line's record is written whole, as its checksum and its JSON; the checksum also tells two states apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from stream_detector.errors import ArtifactError, ConfigError, StoreError
from stream_detector.models import MODELS
from stream_detector.models.artifact import Artifact, TrainedOn
from stream_detector.records import format_time, parse_time

FORMAT = 1
KEPT = 10
"""Versions of a line that are kept because they are its newest."""
KEPT_MS = 30 * 86_400_000
"""How long a version is kept after it was the champion: a worker may have been away for so long."""
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")
CHECKSUM_CHARS = 64

Status: TypeAlias = Literal["champion", "former", "challenger", "refused"]


class Line(msgspec.Struct, frozen=True):
    """What weights are for: what `detector.model` says, and the channels, in any order."""

    model: str
    channels: tuple[str, ...]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "channels", tuple(sorted(self.channels)))

    @property
    def key(self) -> str:
        """The same in every process, and safe in keys and in names of files."""
        return hashlib.sha256(json.dumps([self.model, *self.channels]).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{self.model} ({', '.join(self.channels)})"


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact in a line.

    metrics, decision: of its training and validation; a number that was none (NaN) is None.
    promoted_at, until, reason: of the last time that it was the champion, if it ever was.
    """

    digest: str
    created: str
    parent: str | None
    metrics: dict[str, float | None]
    decision: dict[str, Any]
    trained_on: TrainedOn
    status: Status = "challenger"
    promoted_at: str | None = None
    until: str | None = None
    reason: str | None = None


class Champion(msgspec.Struct, frozen=True):
    """Which weights a line uses. generation: rises with every change of the champion, a rollback too."""

    line: Line
    digest: str
    promoted_at: str
    generation: int


class LineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All of a line. before: what a rollback goes back to, the latest last. versions: in the order they were put."""

    line: Line
    format: int = FORMAT
    generation: int = 0
    champion: str | None = None
    before: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ()

    def version(self, digest: str) -> Version | None:
        """The version with this digest."""
        return next((one for one in self.versions if one.digest == digest), None)

    @property
    def leader(self) -> Champion | None:
        """The champion, as workers ask for it."""
        found = self.version(self.champion) if self.champion else None
        return None if found is None else Champion(self.line, found.digest, found.promoted_at or "", self.generation)

    @property
    def digests(self) -> frozenset[str]:
        """The artifacts that it keeps."""
        return frozenset(one.digest for one in self.versions)


def check_name(name: str) -> str:
    """A name that weights may be registered under; raises ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a name for weights: use up to 100 letters, digits, '.', '_' and '-', a letter or digit "
            f"first"
        )
    if name in MODELS:
        raise ConfigError(f"{name} is the name of a model: choose another one for your weights")
    return name


def check_fits(artifact: Artifact, line: Line) -> None:
    """Raise ArtifactError when a line cannot use an artifact."""
    if line.model in MODELS and artifact.model.name != line.model:
        raise ArtifactError(f"the weights are of the model {artifact.model.name}, the line {line} needs {line.model}")
    if tuple(sorted(artifact.channels)) != line.channels:
        raise ArtifactError(f"the weights are for the channels {', '.join(artifact.channels)}, not for the line {line}")


def version_of(artifact: Artifact, digest: str, now_ms: int) -> Version:
    """The version that an artifact becomes."""
    decision = json.loads(json.dumps(dict(artifact.decision)))
    return Version(
        digest=digest,
        created=artifact.created or format_time(now_ms),
        parent=artifact.parent,
        metrics={name: float(value) for name, value in artifact.metrics.items()},
        decision=decision,
        trained_on=artifact.trained_on,
        status="refused" if decision.get("passed") is False else "challenger",
    )


def added(record: LineRecord | None, line: Line, version: Version, now_ms: int) -> LineRecord:
    """With one version more. One that is there already takes over the new metrics and decision, and no more."""
    record = record or LineRecord(line=line)
    there = record.version(version.digest)
    if there is None:
        return _pruned(msgspec.structs.replace(record, versions=(*record.versions, version)), now_ms)
    status = version.status if there.promoted_at is None else there.status
    renewed = msgspec.structs.replace(
        there, metrics=version.metrics, decision=version.decision, parent=version.parent, status=status
    )
    return _with(record, renewed)


def promoted(record: LineRecord | None, line: Line, digest: str, reason: str, now_ms: int) -> LineRecord:
    """With another champion; the same one again changes nothing. Raises ArtifactError when it is not there."""
    found = None if record is None else record.version(digest)
    if record is None or found is None:
        raise ArtifactError(f"the line {line} has no version {digest[:12]}: `stream-detector models list` shows those")
    if record.champion == digest:
        return record
    # A version counts once among those before, so that going back and forth does not make the list longer.
    before = tuple(one for one in (*record.before, record.champion) if one is not None and one != digest)
    return _crowned(record, found, before, reason, now_ms)


def rolled_back(record: LineRecord | None, line: Line, reason: str, now_ms: int) -> LineRecord:
    """With the champion before; raises ArtifactError when there is none."""
    found = record.version(record.before[-1]) if record and record.before else None
    if record is None or found is None:
        raise ArtifactError(f"the line {line} has no champion before the present one: there is nothing to go back to")
    return _crowned(record, found, record.before[:-1], reason, now_ms)


def _crowned(record: LineRecord, found: Version, before: Sequence[str], reason: str, now_ms: int) -> LineRecord:
    now = format_time(now_ms)
    old = record.version(record.champion) if record.champion else None
    if old is not None:
        record = _with(record, msgspec.structs.replace(old, status="former", until=now))
    record = _with(
        record, msgspec.structs.replace(found, status="champion", promoted_at=now, until=None, reason=reason)
    )
    changed = msgspec.structs.replace(
        record, champion=found.digest, before=tuple(before), generation=record.generation + 1
    )
    return _pruned(changed, now_ms)


def _with(record: LineRecord, version: Version) -> LineRecord:
    versions = tuple(version if one.digest == version.digest else one for one in record.versions)
    return msgspec.structs.replace(record, versions=versions)


def _pruned(record: LineRecord, now_ms: int) -> LineRecord:
    """Without the versions that nobody needs any more.

    Kept are the champion, the one before, the newest, and every one that was champion until a short while ago: the
    state of a worker that was running since then names no other.
    """
    kept = {record.champion, *record.before[-1:], *(one.digest for one in record.versions[-KEPT:])}
    kept |= {one.digest for one in record.versions if one.until and parse_time(one.until) > now_ms - KEPT_MS}
    return msgspec.structs.replace(
        record,
        versions=tuple(one for one in record.versions if one.digest in kept),
        before=tuple(one for one in record.before if one in kept),
    )


def packed(record: LineRecord) -> bytes:
    """The record's checksum and its JSON, on a line each."""
    text = msgspec.json.encode(record)
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def unpacked(data: bytes, place: str) -> LineRecord:
    """The inverse of `packed`; raises StoreError that names the place."""
    checksum, _, text = data.partition(b"\n")
    damaged = StoreError(f"{place} is damaged: restore it from a copy, or delete it to start this line afresh")
    if hashlib.sha256(text).hexdigest().encode() != checksum:
        raise damaged
    try:
        known: Mapping[str, Any] = msgspec.json.decode(text)
        if known["format"] > FORMAT:
            raise ConfigError(
                f"{place} was written by a newer version of this program (format {known['format']}, this one knows "
                f"{FORMAT}): upgrade it"
            )
        return msgspec.convert(known, LineRecord)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise damaged from error
