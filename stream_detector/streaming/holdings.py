"""The partitions that a worker holds: claimed in the store, brought in step with Kafka, and kept in step.

Kafka says with K which readings are answered for, the store with R which are in the state. On every claim:

    K = R   go on; the sensors' rows come as they are needed (`stored_rows`).
    K < R   a worker stopped between store and Kafka: what the outbox still holds is published, nothing is scored anew.
    K > R   the store lost its tail: go back to R and take the readings in again; what was told up to K is not told
            again.
    no R    the store is empty: take the last readings before K in again likewise, and say so (`state_gap`).

Which entries of an outbox are published is known by number: each save has a step, and the offsets committed with it
note the step, behind the name of the run that counts it, and which of people's answers were heard by then. A state that
starts afresh or goes back starts a new run, and Kafka notes it before anything is saved.

Knows the store and the transport; nothing of what is detected.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec

from stream_detector.records import Ints
from stream_detector.settings import Settings
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.intake import Intake
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.store import Claim, PartitionSave, PartitionTrim, Store
from stream_detector.streaming.stored_rows import Meta, StoredRows
from stream_detector.streaming.transport import Committed, Transport

logger = logging.getLogger(__name__)
NOTE_BYTES = 2_000
"""Most that the note beside an offset says about answers; a broker takes notes of up to 4,096 bytes."""


@dataclass
class Held:
    """A claimed partition.

    saved_offset: as the store has it. position: the next offset to take in. told_until: offsets below were answered
    for. gap: its state is missing and being rebuilt. feedback: next answer to hear, by partition of their topic.
    told_feedback: likewise, the next whose consequences were not told.
    """

    epoch: int
    step: int
    saved_offset: int | None
    position: int
    told_until: int
    run: str
    gap: bool = False
    feedback: dict[str, int] = field(default_factory=dict)
    told_feedback: dict[str, int] = field(default_factory=dict)

    @property
    def caught_up(self) -> bool:
        """All that was answered for is in the state."""
        return not self.gap and self.position >= self.told_until


@dataclass(frozen=True, slots=True)
class Step:
    """What one step brought in a partition: how far it has come, and what there is to tell."""

    partition: int
    next_offset: int
    messages: Sequence[Message]


class Holdings:
    """Everything about the partitions of one worker that has to be right when another one takes over."""

    def __init__(
        self, settings: Settings, transport: Transport, store: Store, profiles: Profiles, intake: Intake
    ) -> None:
        self._topic = settings.kafka.readings_topic
        self._rebuild = settings.worker.rebuild_readings
        self._transport, self._store = transport, store
        self._fleet, self._rows = profiles.fleet, StoredRows(profiles, intake, store)
        self.held: dict[int, Held] = {}
        self._wanted: set[int] = set()

    @property
    def ready(self) -> bool:
        """Every partition that the group gave is claimed."""
        return not self._wanted

    def follow(self) -> frozenset[int]:
        """Let go of what the group took, and claim what it gave; the partitions of which nothing fetched so far counts.

        Nothing is claimed unless the group has answered of late: a worker that was stopped for long would otherwise
        put the new owner of its partitions out.
        """
        changes = self._transport.changes()
        self.release(changes.revoked | changes.lost)
        self._wanted |= changes.assigned
        moved = changes.revoked | changes.lost | self._wanted
        for partition in sorted(self._wanted) if self._transport.connected else ():
            self._claim(partition)
            self._wanted.discard(partition)
        return moved

    def admit(self, fetched: Sequence[Fetched]) -> list[Fetched]:
        """What comes next: without what others hold now or what is in the state already.

        A partition that catches up stops where it was: what people answered there comes before what follows.
        """
        kept = []
        for one in fetched:
            held = self.held.get(one.partition)
            if held is None:
                continue
            new = one.since(held.position)
            if held.position < held.told_until and len(new.until(held.told_until).values) < len(new.values):
                new = new.until(held.told_until)
                self._transport.resume(one.partition, held.told_until)
            kept += [new] if len(new.values) else []
        return kept

    def release(self, partitions: Iterable[int]) -> None:
        """Forget partitions without writing anything: their next owner has it all from the store."""
        for partition in partitions:
            self._wanted.discard(partition)
            self._rows.forget(partition)
            if self.held.pop(partition, None) is not None:
                self._fleet.drop(partition)

    def reclaim(self) -> None:
        """Hold nothing for sure any more: claim everything anew at the next `follow`."""
        held = set(self.held)
        self._fleet.dirty()  # rows of what was not saved: they are about to be dropped, and others get their numbers
        self.release(held)
        self._wanted |= held

    @property
    def waiting(self) -> int:
        """Sensors that are held and still in the store alone."""
        return self._rows.waiting()

    def fetch(self, partition: int, sensor_ids: Iterable[str]) -> None:
        """See to it that the state of these sensors is here, if there is any."""
        self._rows.fetch(partition, sensor_ids)

    def bring_back(self) -> list[int]:
        """Fetch some of the sensors that wait; the partitions of which all are here now."""
        return self._rows.some()

    def save(self, steps: Sequence[Step], dirty: Mapping[str, Ints]) -> None:
        """Write what changed, one atomic script a partition; raises WriteRefusedError where another took over."""
        partitions = [step.partition for step in steps]
        rows = self._rows.changed(dirty, partitions)
        saves = []
        for step in steps:
            held = self.held[step.partition]
            saves.append(
                PartitionSave(
                    topic=self._topic,
                    partition=step.partition,
                    epoch=held.epoch,
                    step=held.step + 1,
                    expected_offset=held.saved_offset,
                    next_offset=step.next_offset,
                    meta=self._rows.meta(step.partition, held.run, held.feedback),
                    sensors=rows.get(step.partition, {}),
                    outbox=[pack(message) for message in step.messages],
                )
            )
        self._store.save(saves)
        self._rows.written(partitions)
        for step in steps:
            held = self.held[step.partition]
            held.step, held.gap = held.step + 1, False
            held.saved_offset = held.position = step.next_offset

    def publish(self, steps: Sequence[Step]) -> None:
        """Tell what the steps brought and answer for their readings, in one transaction; then empty the outboxes."""
        due = [step for step in steps if step.messages or step.next_offset > self.held[step.partition].told_until]
        for step in due:
            held = self.held[step.partition]
            held.told_until = max(step.next_offset, held.told_until)
        offsets = {step.partition: self._committed(step.partition) for step in due}
        self._transport.publish([message for step in due for message in step.messages], offsets)
        self._store.trim([self._trim(step.partition) for step in due if step.messages])

    # -- claiming ---------------------------------------------------------------------------------------------------

    def _claim(self, partition: int) -> None:
        claim = self._store.claim(self._topic, partition, rows=False)
        committed = self._transport.committed(partition)
        first, end = self._transport.bounds(partition)
        meta = msgspec.json.decode(claim.meta, type=Meta) if claim.meta else None
        held = Held(
            epoch=claim.epoch,
            step=claim.step,
            saved_offset=claim.next_offset,
            position=claim.next_offset or 0,
            told_until=min(committed.offset, end) if committed else 0,
            run=meta.run if meta else uuid4().hex,
            feedback=dict(meta.feedback) if meta else {},
            told_feedback=_told_feedback(committed),
        )
        self.held[partition] = held
        told_step = _told_step(committed, held.run)
        self._settle_outbox(partition, claim, committed, told_step, end)
        # What readings bring that are taken in again was told already, or not: that is known of sensors that are here.
        behind = held.position < held.told_until or (told_step or 0) > claim.step
        if meta is None or not first <= held.position <= end or not self._rows.restore(claim, meta, whole=behind):
            self._rows.forget(partition)
            self._fleet.drop(partition)
            held.position = max(first, held.told_until - self._rebuild)
            held.gap = committed is not None or claim.next_offset is not None
            if held.gap:
                logger.warning(
                    "partition %d: its state is missing; rebuilding it from offset %d", partition, held.position
                )
        elif behind:
            logger.warning(
                "partition %d: the store is behind Kafka (%d of %d); taking in again what it lost",
                partition,
                held.position,
                held.told_until,
            )
        else:
            self._transport.resume(partition, held.position)
            return
        # The steps that follow are other ones than those that Kafka has noted.
        held.run = uuid4().hex
        if committed is not None:
            self._transport.publish([], {partition: self._committed(partition)})
        self._transport.resume(partition, held.position)

    def _settle_outbox(
        self, partition: int, claim: Claim, committed: Committed | None, told_step: int | None, end: int
    ) -> None:
        """Publish what a former worker saved and did not tell."""
        held = self.held[partition]
        saved_offset = claim.next_offset or 0
        if not claim.outbox and saved_offset <= held.told_until:
            return
        outstanding = [
            entry
            for entry in claim.outbox
            if (entry.end_offset > held.told_until if told_step is None else entry.step > told_step)
        ]
        if saved_offset <= end:  # else the topic was made anew, and what is in it now was never told
            held.told_until = max(held.told_until, saved_offset)
        if outstanding or committed is None or held.told_until > committed.offset:
            messages = [unpack(packed) for entry in outstanding for packed in entry.messages]
            self._transport.publish(messages, {partition: self._committed(partition)})
            logger.info("partition %d: told %d messages that a former worker had saved", partition, len(messages))
        if claim.outbox:
            self._store.trim([self._trim(partition, claim.outbox[-1].end_offset)])

    def _committed(self, partition: int) -> Committed:
        held = self.held[partition]
        for topic_partition, offset in held.feedback.items():
            held.told_feedback[topic_partition] = max(offset, held.told_feedback.get(topic_partition, 0))
        heard = ",".join(f"{p}={offset}" for p, offset in sorted(held.told_feedback.items()))
        return Committed(held.told_until, f"{held.run}:{held.step}:{heard if len(heard) < NOTE_BYTES else ''}")

    def _trim(self, partition: int, up_to: int | None = None) -> PartitionTrim:
        held = self.held[partition]
        return PartitionTrim(self._topic, partition, held.epoch, held.told_until if up_to is None else up_to)


def _told_step(committed: Committed | None, run: str) -> int | None:
    """The last step of a run that Kafka has noted, None if it notes another run's."""
    noted_run, _, rest = committed.note.partition(":") if committed else ("", "", "")
    number = rest.partition(":")[0]
    return int(number) if noted_run == run and number.isdigit() else None


def _told_feedback(committed: Committed | None) -> dict[str, int]:
    """The next answers whose consequences were not told, by partition of their topic, as Kafka has noted them."""
    heard = committed.note.split(":")[2:3] if committed else []
    pairs = [pair.partition("=") for one in heard for pair in one.split(",")]
    return {partition: int(offset) for partition, _, offset in pairs if offset.isdigit()}


def pack(message: Message) -> bytes:
    """A message as bytes, for the outbox."""
    return msgspec.msgpack.encode((message.topic, message.key, message.value, message.headers))


def unpack(packed: bytes) -> Message:
    """What `pack` wrote."""
    found: tuple[Any, ...] = msgspec.msgpack.decode(
        packed, type=tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]
    )
    return Message(*found)
