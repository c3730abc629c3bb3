"""What a registry keeps of a line of weights, and how it is written down. Pure: no place, no clock.

A line's record is written whole, as its checksum and its JSON; the checksum also tells two states apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from stream_detector.errors import ArtifactError, ConfigError, StoreError
from stream_detector.models import MODELS
from stream_detector.models.artifact import Artifact, TrainedOn
from stream_detector.records import format_time

FORMAT = 1
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")
CHECKSUM_CHARS = 64

Status: TypeAlias = Literal["champion", "former", "shadow", "challenger", "refused"]


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


class Shadow(msgspec.Struct, frozen=True):
    """The challenger that workers run beside a line's champion. trial: rises with every shadow of the line."""

    line: Line
    digest: str
    since: str
    trial: int


class LineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All of a line. before: what a rollback goes back to, the latest last. versions: in the order they were put.

    trials: how many shadows it has had.
    """

    line: Line
    format: int = FORMAT
    generation: int = 0
    champion: str | None = None
    before: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ()
    shadow: Shadow | None = None
    trials: int = 0

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
