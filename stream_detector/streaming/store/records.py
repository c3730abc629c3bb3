"""What goes into the store and comes out of it. These records know nothing of Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from stream_detector.errors import FencedError

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of sensors that share a layout: what `SensorTable.restore` takes, and what its rows' bytes give.

    layout: how to read a row (`SensorTable.layout`).
    ids: the sensors, each once; any text.
    packed: their rows joined, in the order of `ids`; all rows have the same size.
    """

    layout: bytes
    ids: Sequence[str]
    packed: bytes

    def __post_init__(self) -> None:
        if len(self.packed) % max(1, len(self.ids)) or (self.packed and not self.ids):
            raise ValueError(f"{len(self.packed)} bytes are not {len(self.ids)} rows of one size")

    @property
    def width(self) -> int:
        """Bytes of one row."""
        return len(self.packed) // max(1, len(self.ids))


@dataclass(frozen=True, slots=True)
class Outboxed:
    """The messages of one save that are not known to be published yet.

    end_offset: the `next_offset` of that save. Saves that consumed nothing share one; `step` tells them apart.
    """

    step: int
    end_offset: int
    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition taken over, and all that was saved of it.

    epoch: goes with every write from now on.
    step: number of the last save, 0 when there never was one; the next save is `step + 1`.
    next_offset: first offset that is not in the state; None when nothing was ever saved.
    meta: as it was saved last; empty when nothing was.
    sensors: by profile, one `Rows` for each layout in which rows were written, ids in order of their bytes.
    outbox: oldest first.
    left: by profile, the ids of sensors whose rows were left where they are, for `Store.rows`.
    layouts: by tag, those that the rows left behind are of.
    """

    topic: str
    partition: int
    epoch: int
    step: int
    next_offset: int | None
    meta: bytes
    sensors: dict[str, list[Rows]]
    outbox: list[Outboxed]
    left: Mapping[str, Sequence[str]] = field(default_factory=dict)
    layouts: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Glance:
    """What lies beside a partition's rows. next_offset, meta: as in `Claim`. sensors: how many rows there are."""

    next_offset: int
    sensors: int
    meta: bytes


@dataclass(frozen=True, slots=True)
class PartitionSave:
    """What one step changed in one partition.

    epoch: the claim's.
    step: one more than that of the last save (or of the claim). A save that is sent twice keeps its number.
    expected_offset: the `next_offset` of the last save (or of the claim).
    next_offset: first offset that is not in the state after this step; equal to `expected_offset` when nothing
        was consumed.
    sensors: the rows that changed, by profile.
    outbox: the messages that are to be published, in order.
    """

    topic: str
    partition: int
    epoch: int
    step: int
    expected_offset: int | None
    next_offset: int
    meta: bytes
    sensors: Mapping[str, Rows] = field(default_factory=dict)
    outbox: Sequence[bytes] = ()

    def __post_init__(self) -> None:
        if self.step < 1 or self.next_offset < max(0, self.expected_offset or 0):
            raise ValueError(
                f"{self.topic}[{self.partition}]: a save goes forward, not from offset {self.expected_offset} to "
                f"{self.next_offset} in step {self.step}"
            )


@dataclass(frozen=True, slots=True)
class PartitionTrim:
    """Entries of one partition's outbox up to and with `up_to` (an `end_offset`) are published and may go."""

    topic: str
    partition: int
    epoch: int
    up_to: int


class WriteRefusedError(FencedError):
    """Partitions that took no write: claim them again if they are still assigned, and drop their state if not.

    fenced: another claim has taken over.
    conflicting: the store does not hold what this claim last wrote; it lost its tail, or the caller its place.
    """

    def __init__(self, fenced: Iterable[Place], conflicting: Iterable[Place] = ()) -> None:
        self.fenced = frozenset(fenced)
        self.conflicting = frozenset(conflicting)
        said = []
        if self.fenced:
            said.append(f"another worker has taken over {_named(self.fenced)}")
        if self.conflicting:
            said.append(f"Redis does not hold what was last saved of {_named(self.conflicting)}")
        super().__init__(f"{'; '.join(said)}: nothing was written there, and the state must be claimed again")

    @property
    def partitions(self) -> frozenset[Place]:
        """All that took no write."""
        return self.fenced | self.conflicting


def _named(places: Iterable[Place]) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(places))
