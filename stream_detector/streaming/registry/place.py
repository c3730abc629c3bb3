"""What a registry needs of the place where it keeps things. Two places know how: `redis_place` and `directory`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from stream_detector.errors import ArtifactError, FencedError
from stream_detector.models.artifact import Packed
from stream_detector.streaming.registry.records import Champion, LineRecord, Shadow
from stream_detector.streaming.registry.tally import Tally

Change: TypeAlias = Callable[[LineRecord | None], LineRecord]
"""A line's record (None: there is none) to the one that takes its place. It may be called several times."""


@dataclass(frozen=True, slots=True)
class Added:
    """An artifact that a change brings along. there: whether the place is known to hold it, whole."""

    digest: str
    packed: Packed
    there: bool


class Place(Protocol):
    """Keeps artifacts, records of lines, and leases. Every method raises StoreError when the place is away.

    A lease's token is `NAME:` and something that nobody else can have.
    """

    def record(self, key: str) -> LineRecord | None:
        """The record of a line."""

    def records(self) -> list[LineRecord]:
        """The records of all lines."""

    def champions(self) -> Mapping[str, Champion]:
        """By key of the line; in one round trip."""

    def shadows(self) -> Mapping[str, Shadow]:
        """By key of the line; in one round trip."""

    def tally(self, shadow: Shadow, name: str, tally: Tally) -> bool:
        """Keep what one process has counted of a shadow, in place of what it said before.

        False, and nothing is kept, when the shadow's trial is over.
        """

    def tallies(self, shadow: Shadow) -> Mapping[str, Tally]:
        """What each process has counted of a shadow, by its name; counts of an earlier one of its line may be left."""

    def change(self, key: str, change: Change, lease: str | None, added: Added | None = None) -> LineRecord:
        """Put another record in the place of a line's, as if nobody else did anything meanwhile.

        The artifact that is added comes with it; artifacts that no line keeps any more, and what was counted of another
        shadow, go with it. Raises FencedError, and changes nothing, when the lease is given and not current.
        """

    def packed(self, digest: str) -> Packed:
        """An artifact's bytes, unchecked; raises ArtifactError when they are not there."""

    def acquire(self, token: str, holder: str, seconds: float) -> bool:
        """Take the lease that a token names unless another token has it."""

    def renew(self, token: str, seconds: float) -> bool:
        """Make the lease last `seconds` from now on; False when the token has it no more."""

    def release(self, token: str) -> None:
        """Give the lease up if the token has it."""

    def holder(self, name: str) -> str | None:
        """Who has a lease now."""

    def close(self) -> None:
        """Let go of connections."""


def lease_name(token: str) -> str:
    """The name of the lease that a token is for."""
    return token.rpartition(":")[0]


def fenced(token: str) -> FencedError:
    """The error of a write under a lease that is over."""
    return FencedError(
        f"the lease {lease_name(token)!r} has run out or somebody else has it: nothing was written; take it again first"
    )


def missing(digest: str) -> ArtifactError:
    """The error of an artifact that is not kept."""
    return ArtifactError(
        f"there is no version {digest[:12]} in the registry: `stream-detector models list` shows those that it keeps"
    )
