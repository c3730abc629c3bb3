"""What the consumer group has given to this worker, and what it has taken, since the worker last asked.

The client calls from a thread of its own while the worker waits in a poll: here it is only written down, and a new
partition is paused before anything of it can be read. Knows nothing of messages, offsets and state.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import ConsumerGroupMetadata, MemberState, TopicPartition

Partitions = frozenset[int]


@dataclass(frozen=True, slots=True)
class Changes:
    """What the group decided: deal with `revoked` and `lost` first, then with `assigned`.

    A partition that was taken and given again is in both: somebody else may have had it in between. One that was
    given and taken before anybody asked is in `revoked` alone. Of a `lost` one it is known that others have it.
    """

    assigned: Partitions
    revoked: Partitions
    lost: Partitions

    def __bool__(self) -> bool:
        return bool(self.assigned or self.revoked or self.lost)


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Flags of one consumer's partitions; `running` are those that the worker has claimed and reads."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._lock = threading.Lock()
        self._assigned: set[int] = set()
        self._revoked: set[int] = set()
        self._lost: set[int] = set()
        self._running: set[int] = set()
        self._member: ConsumerGroupMetadata | None = None

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """New partitions wait, paused, until the worker has claimed their state.

        They get a position that is never read from: without one the client would ask the broker for the committed
        offsets, and wait in every poll as long as a transaction of the former owner is pending.
        """
        for place in assigned:
            self._consumer.pause(place)
            self._consumer.seek(place, 0)
        self._note(assigned, self._assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The group takes partitions away in good order."""
        self._note(revoked, self._revoked)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """The group had given partitions to others before this worker knew."""
        self._note(lost, self._lost)

    def _note(self, places: Iterable[TopicPartition], flags: set[int]) -> None:
        with self._lock:
            for place in places:
                self._running.discard(place.partition)
                self._assigned.discard(place.partition)
                flags.add(place.partition)

    def after_poll(self) -> None:
        """Keep the generation that the present partitions belong to; call after each poll, on the same thread.

        The client's own generation may be a newer one while a rebalance is under way. A member that was thrown out
        in the middle of a rebalance joins again under a new name, and the client does not call that a loss.
        """
        now = self._consumer.group_metadata()
        if now.state != MemberState.STABLE:
            return
        if self._member is not None and now.member_id != self._member.member_id:
            with self._lock:
                kept = {place for place in self._consumer.assignment() if place.partition not in self._assigned}
            self.on_partitions_lost(kept)
            self.on_partitions_assigned(kept)
        self._member = now

    def changes(self) -> Changes:
        """What happened since the last call."""
        with self._lock:
            changes = Changes(frozenset(self._assigned), frozenset(self._revoked), frozenset(self._lost))
            for flags in (self._assigned, self._revoked, self._lost):
                flags.clear()
        return changes

    @property
    def member(self) -> ConsumerGroupMetadata:
        """On whose behalf offsets are committed: the membership that the present partitions were given under."""
        return self._member if self._member is not None else self._consumer.group_metadata()

    @property
    def running(self) -> Partitions:
        """Partitions that the worker reads."""
        with self._lock:
            return frozenset(self._running)

    def start(self, partition: int) -> None:
        """The worker has claimed the partition and reads it from now on."""
        with self._lock:
            self._running.add(partition)

    @property
    def rebalancing(self) -> bool:
        """A rebalance is under way: nothing is read until it is over."""
        return bool(self._consumer.group_metadata().state == MemberState.REBALANCING)

    def missing(self, partitions: Iterable[int]) -> list[int]:
        """Those partitions that are not this worker's any more, or were taken away since it last asked."""
        if self._consumer.group_metadata().state == MemberState.UNJOINED:
            return sorted(partitions)
        mine = {place.partition for place in self._consumer.assignment()}
        with self._lock:
            return sorted(set(partitions) - (mine - self._revoked - self._lost))
