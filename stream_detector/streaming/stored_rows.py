"""The sensors' rows on their way to the store and back, with what is kept of their partition beside them.

Knows profiles and the shapes of their rows; not who holds a partition, nor how far it has come.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import translate
from itertools import chain, islice

import msgspec
import numpy as np

from stream_detector.errors import DataError
from stream_detector.records import Ints
from stream_detector.streaming.intake import Intake
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.store import Claim, Rows, Store

logger = logging.getLogger(__name__)
AT_ONCE_BYTES = 32 << 20
"""Rows of a partition that are brought back before it is ready; few enough sensors are then back altogether."""
PORTION, PORTION_BYTES = 2_000, 4 << 20
"""Rows that are asked for together, at most."""
PORTION_S = 0.1
"""How long rows are brought back between two batches while others wait."""


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


class _Waiting:
    """The rows of a claimed partition that are still in the store alone, by their sensors' ids."""

    def __init__(self, claim: Claim, meta: Meta) -> None:
        self.claim, self.meta = claim, meta
        self.shapes = {shape: frozenset(ids) for shape, ids in claim.left.items()}
        self.ids = set[str]().union(*self.shapes.values())
        self._order = chain.from_iterable(claim.left.values())
        self.width = PORTION_BYTES // 50  # until the first rows say it

    @property
    def portion(self) -> int:
        """How many rows to ask for together."""
        return max(1, min(PORTION, PORTION_BYTES // self.width))

    def next(self) -> list[str]:
        """Some of those that wait; none when nobody does."""
        return list(islice((one for one in self._order if one in self.ids), self.portion))


class StoredRows:
    """Brings rows back from the store, and gathers what a save has to write.

    A partition is ready when the first of its rows are back. Those of the others come with their sensors' first
    reading or answer, and in between a portion at a time. Nothing of a sensor depends on when that is: what there is
    to tell of it since (it fell silent) rests on its own times.
    """

    def __init__(self, profiles: Profiles, intake: Intake, store: Store) -> None:
        self._profiles, self._intake, self._store = profiles, intake, store
        self._waiting: dict[int, _Waiting] = {}
        self._moved: set[int] = set()
        groups = [entry.match for entry in profiles.overrides.entries if entry.group]
        self._grouped = re.compile("|".join(map(translate, groups))) if groups else None
        intake.stored = self

    def restore(self, claim: Claim, meta: Meta, whole: bool) -> bool:
        """Bring the sensors back, all or the first; False where there are some and none of them fits these settings."""
        fleet, partition = self._profiles.fleet, claim.partition
        waiting = self._waiting[partition] = _Waiting(claim, meta)
        self._intake.forget()
        # A group's story is in the rows of all its members.
        grouped = [one for one in waiting.ids if self._grouped.match(one)] if self._grouped else []
        restored = size = 0
        while waiting.ids and (whole or grouped or not restored or size < AT_ONCE_BYTES):
            at = waiting.portion
            ids, grouped = grouped[:at] or waiting.next(), grouped[at:]
            count, bytes_read = self._load(waiting, ids)
            restored, size = restored + count, size + bytes_read
        if claim.left and any(claim.left.values()) and not restored:
            self.forget(partition)
            return False
        if meta.watermark_ms is not None:
            fleet.watermarks.of[partition] = meta.watermark_ms
        fleet.recall()
        self.settle()
        if not waiting.ids:
            self._waiting.pop(partition)
        return True

    def forget(self, partition: int) -> None:
        """What waits of a partition is somebody else's matter."""
        self._waiting.pop(partition, None)
        self._moved.discard(partition)

    def waiting(self, partition: int | None = None) -> int:
        """How many sensors of a partition, or of all, are still in the store alone."""
        chosen = self._waiting.values() if partition is None else filter(None, [self._waiting.get(partition)])
        return sum(len(one.ids) for one in chosen)

    def fetch(self, partition: int, sensor_ids: Iterable[str]) -> None:
        """Bring these sensors back, as far as they wait."""
        if waiting := self._waiting.get(partition):
            wanted = [one for one in dict.fromkeys(sensor_ids) if one in waiting.ids]
            while wanted:
                at = waiting.portion
                self._load(waiting, wanted[:at])
                wanted = wanted[at:]

    def some(self) -> list[int]:
        """Bring some back; the partitions of which nothing waits any more since."""
        until = time.monotonic() + PORTION_S
        for waiting in self._waiting.values():
            while waiting.ids and time.monotonic() < until:
                self._load(waiting, waiting.next())
        return self._finished()

    def settle(self) -> None:
        """Bring all back of a partition whose profiles go on with other weights: it is saved with one word of them."""
        detectors = self._profiles.fleet.detectors
        for waiting in self._waiting.values():
            saved = waiting.meta.models
            if any(name in detectors and detectors[name].writer.model.digest != saved[name] for name in saved):
                while waiting.ids:
                    self._load(waiting, waiting.next())

    def _finished(self) -> list[int]:
        done = [partition for partition, waiting in self._waiting.items() if not waiting.ids]
        for partition in done:
            del self._waiting[partition]
        return done

    def _load(self, waiting: _Waiting, ids: Sequence[str]) -> tuple[int, int]:
        """Bring some of those that wait back; how many could be used, and their bytes."""
        claim, found, size = waiting.claim, dict[str, list[Rows]](), 0
        for shape, mine in waiting.shapes.items():
            found[shape] = self._store.rows(claim, shape, [one for one in ids if one in mine])
            size += sum(len(rows.packed) for rows in found[shape])
        waiting.ids -= set(ids)
        waiting.width = max(1, size // max(1, len(ids)))
        restored = 0
        # Rows of another shape first (from before a setting changed): a row of today's shape then overwrites them.
        for current in (False, True):
            for shape, several in found.items():
                channels = tuple(waiting.meta.channels.get(shape, ()))
                for rows in several:
                    restored += self._restore_rows(claim.partition, shape, channels, rows, waiting.meta, current)
        return restored, size

    def _restore_rows(
        self, partition: int, shape: str, channels: tuple[str, ...], rows: Rows, meta: Meta, current: bool
    ) -> int:
        """Bring rows back that have today's shape, or that have not; how many."""
        profiles = self._profiles
        chosen: dict[str, list[int]] = {}
        for i, name in enumerate(profiles.names(rows.ids, channels)):
            if name is not None and (profiles.shape(name) == shape) == current:
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
            digest = meta.models.get(name)
            if digest != detector.writer.model.digest:
                former = profiles.former(digest, detector.artifact.channels) if digest else None
                detector.take_over(detector.sensors(ids, partition), former)
                self._moved.add(partition)
        return count

    def changed(self, dirty: Mapping[str, Ints], saved: Collection[int]) -> dict[int, dict[str, Rows]]:
        """The rows that changed, by partition and shape.

        saved: partitions that are about to be saved, with the word of today's weights: of those whose rows came back
        from other ones all are written, whether a reading came or not.
        """
        found: dict[int, dict[str, list[tuple[bytes, list[str], bytes]]]] = {}
        moved = sorted(self._moved.intersection(saved))
        for name, detector in self._profiles.fleet.detectors.items():
            table, shape = detector.table, self._profiles.shape(name)
            rows = dirty.get(name, np.zeros(0, np.int64))
            if moved:
                rows = np.union1d(rows, np.flatnonzero(np.isin(table.partition, moved)))
            for partition in np.unique(table.partition[rows]).tolist():
                mine = rows[table.partition[rows] == partition]
                ids = [table.ids[row] for row in mine.tolist()]
                part = (table.layout(), ids, table.state_of(mine).tobytes())
                found.setdefault(partition, {}).setdefault(shape, []).append(part)
        return {p: {shape: _joined(parts) for shape, parts in shapes.items()} for p, shapes in found.items()}

    def written(self, partitions: Collection[int]) -> None:
        """What `changed` gave is in the store now."""
        self._moved.difference_update(partitions)

    def meta(self, partition: int, run: str, feedback: dict[str, int]) -> bytes:
        """What to keep of a partition beside its sensors."""
        detectors = self._profiles.fleet.detectors
        channels = {self._profiles.shape(name): list(d.artifact.channels) for name, d in detectors.items()}
        models = {name: detector.writer.model.digest for name, detector in detectors.items()}
        if waiting := self._waiting.get(partition):
            # What waits may be of profiles that nobody has met yet.
            channels, models = waiting.meta.channels | channels, waiting.meta.models | models
        mark = self._profiles.fleet.watermarks.of.get(partition)
        return msgspec.json.encode(
            Meta(run=run, watermark_ms=mark, channels=channels, models=models, feedback=feedback)
        )


def _joined(parts: Sequence[tuple[bytes, list[str], bytes]]) -> Rows:
    """Rows of detectors of one shape, and so of one layout, as one."""
    return Rows(
        layout=parts[0][0],
        ids=[sensor_id for _, ids, _ in parts for sensor_id in ids],
        packed=b"".join(packed for _, _, packed in parts),
    )
