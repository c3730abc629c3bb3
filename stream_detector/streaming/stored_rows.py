"""The sensors' rows on their way to the store and back, with what is kept of their partition beside them.

Knows profiles and the shapes of their rows; not who holds a partition, nor how far it has come.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from stream_detector.errors import DataError
from stream_detector.records import Ints
from stream_detector.streaming.intake import Intake
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.store import Claim, Rows

logger = logging.getLogger(__name__)


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


class StoredRows:
    """Restores what a claim gave, and gathers what a save has to write."""

    def __init__(self, profiles: Profiles, intake: Intake) -> None:
        self._profiles, self._intake = profiles, intake

    def restore(self, claim: Claim, meta: Meta) -> bool:
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
            digest = meta.models.get(name)
            if digest != detector.writer.model.digest:
                former = profiles.former(digest, detector.artifact.channels) if digest else None
                detector.take_over(detector.sensors(ids, partition), former)
        self._intake.forget(rows.ids)
        return count

    def changed(self, dirty: Mapping[str, Ints]) -> dict[int, dict[str, Rows]]:
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

    def meta(self, partition: int, run: str, feedback: dict[str, int]) -> bytes:
        """What to keep of a partition beside its sensors."""
        detectors = self._profiles.fleet.detectors
        return msgspec.json.encode(
            Meta(
                run=run,
                watermark_ms=self._profiles.fleet.watermarks.of.get(partition),
                channels={self._profiles.shape(name): list(d.artifact.channels) for name, d in detectors.items()},
                models={name: detector.writer.model.digest for name, detector in detectors.items()},
                feedback=feedback,
            )
        )


def _joined(parts: Sequence[tuple[bytes, list[str], bytes]]) -> Rows:
    """Rows of detectors of one shape, and so of one layout, as one."""
    return Rows(
        layout=parts[0][0],
        ids=[sensor_id for _, ids, _ in parts for sensor_id in ids],
        packed=b"".join(packed for _, _, packed in parts),
    )
