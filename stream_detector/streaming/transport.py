"""Readings from the broker, alerts to the broker, as a member of a consumer group.

The worker's whole view of Kafka. What it can rely on:

1. Only committed readings are seen, each partition in order.
2. A partition that the group gives is not read until the worker calls `resume`, with the offset to read from.
3. `publish` makes messages and offsets visible together, or neither, and only while the partitions are this worker's.
   Which generation of the group the offsets are committed under is taken when the partitions are given, never when
   they are published, so that the broker refuses a batch that was read before a partition moved.
4. Only `poll` and `keep_alive` let the group change anything: between two of them the assignment stands still.

Knows nothing of what is inside a message, and nothing of the store. All calls come from one thread, but for
`connected`.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kafka.errors as foreign
from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition

from stream_detector.errors import FencedError, TransportError
from stream_detector.settings import KafkaSettings, WorkerSettings
from stream_detector.streaming.fetched import Fetched, columns
from stream_detector.streaming.kafka_client import Message, connected, consumer_options
from stream_detector.streaming.kafka_errors import translated, translating
from stream_detector.streaming.membership import Changes, Membership
from stream_detector.streaming.publisher import Publisher

__all__ = ["Changes", "Committed", "Fetched", "Message", "Transport"]

logger = logging.getLogger(__name__)
MAX_POLL_INTERVAL_MS = 300_000
HEARTBEAT_MS = 1_000
"""Also how long a member takes to notice that another has joined or left."""
JOIN_WAIT_MS = 3_000
JOIN_SLICE_MS = 50
PUBLISH_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Committed:
    """The group's next offset of a partition, and what the worker that committed it noted beside."""

    offset: int
    note: str = ""


class Transport:
    """A worker's membership in the group that shares the readings, and its producer."""

    def __init__(
        self, kafka: KafkaSettings, worker: WorkerSettings, max_poll_interval_ms: int = MAX_POLL_INTERVAL_MS
    ) -> None:
        self._kafka = kafka
        self._topic = kafka.readings_topic
        self._answer_ms = worker.transaction_timeout_ms + worker.session_timeout_ms
        self._exactly_once = worker.delivery == "exactly_once"
        self._held = False
        self._leader_epochs: dict[int, int] = {}
        self._unanswered: set[int] = set()
        slot = worker.slot or f"{socket.gethostname()}-{os.getpid()}"
        # The producer first: it ends what an earlier process of this slot left open before partitions are taken.
        self._publisher = Publisher(kafka, worker, f"{kafka.group_id}-{slot}" if self._exactly_once else None)
        options = consumer_options(kafka) | {
            "group_id": kafka.group_id,
            "client_id": f"stream-detector-{slot}",
            "partition_assignment_strategy": (CooperativeStickyAssignor,),
            "session_timeout_ms": worker.session_timeout_ms,
            "heartbeat_interval_ms": min(HEARTBEAT_MS, worker.session_timeout_ms // 4),
            "max_poll_interval_ms": max_poll_interval_ms,
        }
        self._consumer: Any = connected(kafka, KafkaConsumer, options)
        self._membership = Membership(self._consumer)
        self._consumer.subscribe([self._topic], listener=self._membership)

    # -- reading ----------------------------------------------------------------------------------------------------

    def poll(self, timeout_ms: int, max_records: int) -> list[Fetched]:
        """Records of the partitions that are resumed; empty while the broker is away.

        Raises ConfigError when the broker forbids reading, TransportError when what it stores is damaged.
        """
        polled = self._poll(timeout_ms, max_records)
        if not polled:
            self._finish_joining()
        return [columns(place.partition, records) for place, records in polled.items()]

    def keep_alive(self) -> None:
        """Tell the group that this worker lives while it works on a batch: nothing is read, and nothing is lost."""
        self._consumer.pause(*self._consumer.assignment())
        self._poll(0, 1)
        self._finish_joining()

    def changes(self) -> Changes:
        """What the group gave and took since the last call; new partitions wait for `resume`."""
        return self._membership.changes()

    def resume(self, partition: int, offset: int) -> None:
        """Read the partition from `offset` on; raises FencedError if it is not this worker's any more."""
        if self._membership.missing([partition]):
            raise FencedError(f"partition {partition} of {self._topic} was taken away: claim what the group gives now")
        self._consumer.seek(self._place(partition), offset)
        self._leader_epochs.pop(partition, None)
        self._membership.start(partition)
        self._apply_pauses()

    def pause_all(self) -> None:
        """Read nothing until `resume_all`; `poll` still keeps this worker in the group."""
        self._held = True
        self._apply_pauses()

    def resume_all(self) -> None:
        """Read again what was read before `pause_all`, and what was resumed since."""
        self._held = False
        self._apply_pauses()

    def committed(self, partition: int) -> Committed | None:
        """The group's offset and its note, once a transaction that would move it is decided.

        Raises TransportError when that takes longer than transactions may.
        """
        self._publisher.settle()
        place = self._place(partition)
        with translating(self._kafka, f"reading the committed offset of {self._topic} {partition}"):
            if partition in self._unanswered:
                # The client would give the late answer to the question that timed out, not one to this question.
                self._consumer.committed(place, timeout_ms=self._answer_ms)
            self._unanswered.add(partition)
            found = self._consumer.committed(place, metadata=True, timeout_ms=self._answer_ms)
        self._unanswered.discard(partition)
        return None if found is None else Committed(found.offset, found.metadata or "")

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that is still there, and the one after the last that is decided."""
        place = self._place(partition)
        with translating(self._kafka, f"reading the offsets of {self._topic} {partition}"):
            first = self._consumer.beginning_offsets([place], timeout_ms=self._answer_ms)[place]
            end = self._consumer.end_offsets([place], timeout_ms=self._answer_ms)[place]
        return int(first), int(end)

    def behind(self, partition: int, position: int) -> int:
        """Messages from `position` to the partition's end, as of the last fetch; 0 where nothing was fetched yet."""
        end = self._consumer.highwater(self._place(partition))
        return 0 if end is None else max(0, int(end) - position)

    @property
    def connected(self) -> bool:
        """The group has this worker, and answered it within the session time-out."""
        joined = self._consumer.group_metadata().state == MemberState.STABLE
        return bool(joined and not self._consumer._coordinator.heartbeat.session_timeout_expired())

    # -- publishing -------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message], offsets: Mapping[int, Committed]) -> None:
        """Messages and next offsets of partitions, together (at_least_once: first the messages, then the offsets).

        Raises FencedError, with nothing visible, if one of the partitions is not this worker's any more, and
        TransportError if the broker does not answer: then ask `committed` what became of it.
        """
        if not messages and not offsets:
            return
        if self._exactly_once:
            self._publish_together(messages, offsets)
        else:
            self._refuse_foreign(offsets)
            self._publisher.publish_at_least_once(messages)
            self._commit(offsets)

    def reset(self) -> None:
        """Give the producer up and make a new one: what the old one left open is decided when this returns."""
        self._publisher.reset()
        self._publisher.settle()

    def close(self, timeout_ms: int) -> None:
        """Leave the group, so that others take over at once; commits nothing."""
        deadline = time.monotonic() + timeout_ms / 1000
        try:
            with translating(self._kafka, "leaving the group"):
                self._consumer.close(autocommit=False, timeout_ms=timeout_ms)
        finally:
            self._publisher.close(max(0, round((deadline - time.monotonic()) * 1000)))

    def _publish_together(self, messages: Sequence[Message], offsets: Mapping[int, Committed]) -> None:
        for attempt in range(1, PUBLISH_ATTEMPTS + 1):
            self._refuse_foreign(offsets)
            member = self._membership.member
            try:
                self._publisher.publish(messages, self._placed(offsets), member)
                return
            except FencedError:
                # The group may have gone on and left these partitions with this worker: then it is tried again in
                # the generation that they belong to now.
                self._finish_joining()
                self._refuse_foreign(offsets)
                if attempt == PUBLISH_ATTEMPTS or self._membership.member == member:
                    raise

    def _commit(self, offsets: Mapping[int, Committed]) -> None:
        for _ in range(PUBLISH_ATTEMPTS):
            self._refuse_foreign(offsets)
            try:
                with translating(self._kafka, "committing offsets"):
                    self._consumer.commit(self._placed(offsets), timeout_ms=self._answer_ms)
                return
            except TransportError as error:
                if not isinstance(error.__cause__, foreign.RebalanceInProgressError):
                    raise
                self._finish_joining()
        raise TransportError("the group is still being shared out: the offsets are not committed, and tried again")

    def _placed(self, offsets: Mapping[int, Committed]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            self._place(partition): OffsetAndMetadata(one.offset, one.note, self._leader_epochs.get(partition, -1))
            for partition, one in offsets.items()
        }

    def _refuse_foreign(self, offsets: Mapping[int, Committed]) -> None:
        missing = self._membership.missing(offsets)
        if missing:
            raise FencedError(
                f"partitions {', '.join(map(str, missing))} of {self._topic} were taken away: nothing of them was "
                "published; claim what the group gives now"
            )

    # -- the client -------------------------------------------------------------------------------------------------

    def _poll(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        polled: dict[TopicPartition, list[Any]] = {}
        if self._membership.rebalancing:
            # A join that began because the topic changed, and was not over at the end of a poll, is forgotten by the
            # client: it would be without heartbeats and without partitions for ever.
            self._consumer._coordinator.request_rejoin()
        try:
            polled = self._consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
        except (foreign.OffsetOutOfRangeError, foreign.LogTruncationError) as error:
            self._reposition(error)
        except (foreign.RetriableError, foreign.UnknownBrokerIdError) as error:
            logger.info("Kafka does not answer (%s): reading goes on when it does", type(error).__name__)
            time.sleep(min(timeout_ms, JOIN_SLICE_MS) / 1000)
        except foreign.KafkaError as error:
            raise translated(error, self._kafka, f"reading {self._topic}") from error
        for place, records in polled.items():
            self._leader_epochs[place.partition] = records[-1].leader_epoch
        self._membership.after_poll()
        self._apply_pauses()
        return polled

    def _finish_joining(self) -> None:
        """Wait in the client while the group is shared out: a join that ends between two polls is begun again."""
        deadline = time.monotonic() + JOIN_WAIT_MS / 1000
        while self._membership.rebalancing and time.monotonic() < deadline:
            self._consumer.pause(*self._consumer.assignment())
            self._poll(JOIN_SLICE_MS, 1)

    def _apply_pauses(self) -> None:
        reads = frozenset() if self._held else self._membership.running
        for place in self._consumer.assignment():
            (self._consumer.resume if place.partition in reads else self._consumer.pause)(place)

    def _reposition(self, error: foreign.KafkaError) -> None:
        """Go on where the topic goes on, and say what is missing."""
        truncated = isinstance(error, foreign.LogTruncationError)
        for place, wanted in (error.divergent_offsets if truncated else error.args[0]).items():
            try:
                first, end = self.bounds(place.partition)
            except TransportError:
                return  # The broker is away: the next poll comes here again.
            position = end if wanted is None else wanted.offset if truncated else wanted
            goes_on = min(max(position, first), end)
            logger.warning(
                "%s partition %d: what followed offset %d is gone (retention, or a lost replica); it goes on at %d",
                self._topic,
                place.partition,
                position,
                goes_on,
            )
            self._consumer.seek(place, goes_on)

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)
