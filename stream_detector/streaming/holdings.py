"""The partitions that a worker holds: claimed in the store, brought in step with Kafka, and kept in step.

Kafka says with K which readings are answered for, the store with R which are in the state. On every claim:

    K = R   go on.
    K < R   a worker stopped between store and Kafka: what the outbox still holds is published, nothing is scored anew.
    K > R   the store lost its tail: go back to R and take the readings in again; what was told up to K is not told
            again.
    no R    the store is empty: take the last readings before K in again likewise, and say so (`state_gap`).

Which entries of an outbox are published is known by number: each save has a step, and the offsets committed with it
note the step, behind the name of the run that counts it. A state that starts afresh starts a new run.

Knows the store and the transport; nothing of what is detected.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np

from stream_detector.errors import DataError
from stream_detector.records import Ints
from stream_detector.settings import Settings
from stream_detector.streaming.intake import Intake
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.store import Claim, PartitionSave, PartitionTrim, Rows, Store
from stream_detector.streaming.transport import Committed, Transport

logger = logging.getLogger(__name__)
NOTE_BYTES = 2_000
"""Most that the note beside an offset says about answers; a broker takes notes of up to 4,096 bytes."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a partition beside its sensors.

    run: whose steps these are. watermark_ms: None before the first reading. channels: of each shape of rows. models:
    digest of the weights by profile. feedback: next offset to hear, by partition of the feedback topic.
    """

    run: str
    watermark_ms: int | None
    channels: dict[str, list[str]]
    models: dict[str, str]
    feedback: dict[str, int]


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
        self._profiles, self._intake = profiles, intake
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

    def release(self, partitions: Iterable[int]) -> None:
        """Forget partitions without writing anything: their next owner has it all from the store."""
        for partition in partitions:
            self._wanted.discard(partition)
            if self.held.pop(partition, None) is not None:
                self._profiles.fleet.drop(partition)

    def reclaim(self) -> None:
        """Hold nothing for sure any more: claim everything anew at the next `follow`."""
        held = set(self.held)
        self.release(held)
        self._wanted |= held

    def save(self, steps: Sequence[Step], dirty: Mapping[str, Ints]) -> None:
        """Write what changed, one atomic script a partition; raises WriteRefusedError where another took over."""
        rows = self._rows(dirty)
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
                    meta=msgspec.json.encode(self._meta(step.partition)),
                    sensors=rows.get(step.partition, {}),
                    outbox=[pack(message) for message in step.messages],
                )
            )
        self._store.save(saves)
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
        claim = self._store.claim(self._topic, partition)
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
        if meta is None or not first <= held.position <= end or not self._restore(claim, meta):
            self._profiles.fleet.drop(partition)
            held.position = max(first, held.told_until - self._rebuild)
            held.gap = committed is not None or claim.next_offset is not None
            if held.gap:
                logger.warning(
                    "partition %d: its state is missing; rebuilding it from offset %d", partition, held.position
                )
        elif held.position < held.told_until or (told_step or 0) > claim.step:
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

    def _restore(self, claim: Claim, meta: Meta) -> bool:
        """Bring the sensors back; False where there are some and none of them fits these settings."""
        fleet, partition = self._profiles.fleet, claim.partition
        restored = given = 0
        # Rows of another shape first (from before a setting changed): a row of today's shape then overwrites them.
        for current in (False, True):
            for shape, several in claim.sensors.items():
                channels = tuple(meta.channels.get(shape, ()))
                for rows in several:
                    given += len(rows.ids)
                    restored += self._restore_rows(partition, shape, channels, rows, meta, current)
        if given and not restored:
            return False
        if meta.watermark_ms is not None:
            fleet.watermarks.of[partition] = meta.watermark_ms
        fleet.recall()
        return True

    def _restore_rows(
        self, partition: int, shape: str, channels: tuple[str, ...], rows: Rows, meta: Meta, current: bool
    ) -> int:
        """Bring rows back that have today's shape, or that have not; how many."""
        profiles = self._profiles
        chosen: dict[str, list[int]] = {}
        for i, sensor_id in enumerate(rows.ids):
            if channels and profiles.channels_of(sensor_id, channels) == channels:
                name = profiles.name(sensor_id, channels)
                if (profiles.shape(name) == shape) == current:
                    chosen.setdefault(name, []).append(i)
        size = len(rows.packed) // max(len(rows.ids), 1)
        packed = np.frombuffer(rows.packed, np.dtype((np.void, size))) if size else np.zeros(0, "V1")
        count = 0
        for name, mine in chosen.items():
            detector = profiles.fleet.detectors[name]
            ids = [rows.ids[i] for i in mine]
            try:
                detector.table.restore(ids, packed[mine].tobytes(), rows.layout, partition)
            except DataError as error:
                logger.warning("partition %d: the state of %d sensors is not used (%s)", partition, len(ids), error)
                continue
            count += len(ids)
            if meta.models.get(name) != detector.writer.model.digest:
                detector.lose_scale(detector.sensors(ids, partition))
        self._intake.forget(rows.ids)
        return count

    # -- writing ----------------------------------------------------------------------------------------------------

    def _rows(self, dirty: Mapping[str, Ints]) -> dict[int, dict[str, Rows]]:
        """The rows that changed, by partition and shape."""
        found: dict[int, dict[str, list[tuple[bytes, list[str], bytes]]]] = {}
        for name, rows in dirty.items():
            table, shape = self._profiles.fleet.detectors[name].table, self._profiles.shape(name)
            for partition in np.unique(table.partition[rows]).tolist():
                mine = rows[table.partition[rows] == partition]
                ids = [table.ids[row] for row in mine.tolist()]
                part = (table.layout(), ids, table.state_of(mine).tobytes())
                found.setdefault(partition, {}).setdefault(shape, []).append(part)
        return {p: {shape: _joined(parts) for shape, parts in shapes.items()} for p, shapes in found.items()}

    def _meta(self, partition: int) -> Meta:
        held = self.held[partition]
        detectors = self._profiles.fleet.detectors
        return Meta(
            run=held.run,
            watermark_ms=self._profiles.fleet.watermarks.of.get(partition),
            channels={self._profiles.shape(name): list(d.artifact.channels) for name, d in detectors.items()},
            models={name: detector.writer.model.digest for name, detector in detectors.items()},
            feedback=held.feedback,
        )

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


def _joined(parts: Sequence[tuple[bytes, list[str], bytes]]) -> Rows:
    """Rows of detectors of one shape, and so of one layout, as one."""
    return Rows(
        layout=parts[0][0],
        ids=[sensor_id for _, ids, _ in parts for sensor_id in ids],
        packed=b"".join(packed for _, _, packed in parts),
    )


def pack(message: Message) -> bytes:
    """A message as bytes, for the outbox."""
    return msgspec.msgpack.encode((message.topic, message.key, message.value, message.headers))


def unpack(packed: bytes) -> Message:
    """What `pack` wrote."""
    found: tuple[Any, ...] = msgspec.msgpack.decode(
        packed, type=tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]
    )
    return Message(*found)
