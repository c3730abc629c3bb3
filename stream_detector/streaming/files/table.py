"""All input of one run as columns: what the readers make and what everything else is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.records import Bools, Floats, Ints, Readings
from stream_detector.streaming.files.rows import Part, Shared


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input row that could not be used.

    line: from 1, in the file; row: its index in the table; sensor_id: as it stood, empty if it could not be read.
    """

    source: str
    line: int
    reason: str
    row: int
    sensor_id: str


@dataclass(frozen=True, slots=True)
class Table:
    """All rows in input order, one entry a row; N rows, C channels.

    sensor_ids: of the usable rows, in order of first appearance.
    sensor: (N,) index into `sensor_ids`; -1 for a rejected row, whose id is kept in `rejected`.
    time_ms: (N,) 0 for a rejected row.
    values: (N, C) NaN is a missing value; all NaN for a rejected row.
    timestamps: the text of the time as it stood in the input.
    order: usable rows in time order, rows of one time in input order: as a detector should see them.
    out_of_order: usable rows that are older than an earlier row of their sensor.
    repeated: usable rows that repeat the sensor and time of another.
    """

    channels: tuple[str, ...]
    sensor_ids: list[str]
    sensor: Ints
    time_ms: Ints
    values: Floats
    timestamps: list[str]
    usable: Bools
    rejected: list[Rejected]
    order: Ints
    out_of_order: int
    repeated: int

    def __len__(self) -> int:
        return len(self.sensor)

    def readings(self, rows: Ints) -> Readings:
        """The readings of these input rows, in the order given; they count their sensors in `sensor_ids`."""
        return Readings(self.sensor[rows], self.time_ms[rows], self.values[rows])

    def ids(self) -> list[str]:
        """The sensor id of each input row, also of rejected ones."""
        ids = [self.sensor_ids[index] if index >= 0 else "" for index in self.sensor.tolist()]
        for rejected in self.rejected:
            ids[rejected.row] = rejected.sensor_id
        return ids


def assemble(parts: Sequence[Part], shared: Shared) -> Table:
    """One table of the finished parts."""
    code, time_ms, values, usable = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("code", "time_ms", "values", "usable")
    )
    texts = list(shared.codes)
    rows = np.flatnonzero(usable)
    present, first = np.unique(code[rows], return_index=True)
    present = present[np.argsort(first)]
    index = np.full(len(texts), -1, np.int64)
    index[present] = np.arange(len(present))
    sensor = np.where(usable, index[code], -1)
    out_of_order, repeated = _disorder(sensor[rows], time_ms[rows])
    return Table(
        channels=shared.channels or (),
        sensor_ids=[texts[i] for i in present.tolist()],
        sensor=sensor,
        time_ms=time_ms,
        values=values,
        timestamps=[text for part in parts for text in part.timestamps],
        usable=usable,
        rejected=_rejected(parts, texts),
        order=rows[np.argsort(time_ms[rows], kind="stable")],
        out_of_order=out_of_order,
        repeated=repeated,
    )


def _rejected(parts: Sequence[Part], texts: list[str]) -> list[Rejected]:
    """The unusable rows of all parts in input order."""
    found = []
    start = 0
    for part in parts:
        for i, reason in sorted(part.reasons.items()):
            sensor_id = texts[int(part.code[i])]
            found.append(Rejected(part.source.name, int(part.line[i]), reason, start + i, sensor_id))
        start += len(part.timestamps)
    return found


def _disorder(sensor: Ints, time_ms: Ints) -> tuple[int, int]:
    """How many rows come late in their sensor's order, and how many repeat a sensor's time."""
    moments, moment = np.unique(time_ms, return_inverse=True)
    key = sensor * len(moments) + moment
    # With the sensors one after the other, and each above the one before, one running maximum serves all.
    grouped = key[np.argsort(sensor, kind="stable")]
    late = int(np.sum(grouped < np.maximum.accumulate(grouped)))
    return late, len(key) - len(np.unique(key))
