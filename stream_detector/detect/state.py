"""The state of one profile's sensors: one structured array, a row a sensor.

Every part of the core names its fields here through the dtype and works on columns of the array. A row's
bytes are the sensor's whole state: what a store keeps and what `detect` carries over are the same bytes. This
module does not know what the fields mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stream_detector.errors import DataError
from stream_detector.records import Ints

State: TypeAlias = npt.NDArray[np.void]
Fields: TypeAlias = list[tuple[Any, ...]]

LAYOUT = 1
"""Version of the row's layout; raised when a field changes its meaning, not when one is added."""


class SensorTable:
    """Rows by partition and sensor id. New sensors appear at the end; only `drop` changes a row's number.

    `state` must be fetched anew at each use: growing moves the array. `version` changes when rows do that were
    there, for those who keep something by row. A sensor that is read from two partitions is two sensors.
    """

    def __init__(self, fields: Fields) -> None:
        self.dtype = np.dtype(fields)
        self._layout = json.dumps({"version": LAYOUT, "fields": _describe(self.dtype)}).encode()
        self.ids: list[str] = []
        self.version = 0
        self._row_of: dict[int, dict[str, int]] = {}
        self._state: State = np.zeros(0, self.dtype)
        self._partition: Ints = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def state(self) -> State:
        """(S,) structured array, S the number of sensors known so far."""
        return self._state[: len(self.ids)]

    @property
    def partition(self) -> Ints:
        """(S,) the partition that each sensor is read from."""
        return self._partition[: len(self.ids)]

    def rows(self, sensor_ids: Sequence[str], partition: int = 0) -> tuple[Ints, Ints]:
        """Row of each sensor and, apart, the rows that this call created (all zero)."""
        before = len(self.ids)
        row_of, ids = self._row_of.setdefault(partition, {}), self.ids
        found = np.empty(len(sensor_ids), np.int64)
        for i, sensor_id in enumerate(sensor_ids):
            row = row_of.get(sensor_id)
            if row is None:
                row = row_of[sensor_id] = len(ids)
                ids.append(sensor_id)
            found[i] = row
        self._grow(len(ids))
        self._partition[before : len(ids)] = partition
        return found, np.arange(before, len(ids))

    def find(self, sensor_id: str, partition: int | None = None) -> list[int]:
        """The sensor's rows: none, one, or one a partition that it is read from; those of one partition, if given."""
        where = self._row_of.values() if partition is None else [self._row_of.get(partition, {})]
        return [rows[sensor_id] for rows in where if sensor_id in rows]

    def count(self, partition: int) -> int:
        """Sensors of one partition."""
        return len(self._row_of.get(partition, ()))

    def drop(self, partition: int) -> None:
        """Forget a partition's sensors; the others move up."""
        if not self._row_of.pop(partition, None):
            return
        kept = np.flatnonzero(self.partition != partition)
        self.ids = [self.ids[row] for row in kept.tolist()]
        self._state, self._partition = self.state_of(kept), self._partition[kept]
        for row, sensor_id in enumerate(self.ids):
            self._row_of[int(self._partition[row])][sensor_id] = row
        self.version += 1

    def state_of(self, rows: Ints) -> State:
        """A copy of some rows."""
        copy: State = self._state[rows]
        return copy

    def _grow(self, size: int) -> None:
        """Room for `size` rows, a little ahead, in place: a copy would hold two fleets in memory at once."""
        capacity = len(self._state)
        if size > capacity:
            # No view outlives a step of the detector, so nothing can point at the moved block.
            self._state.resize(size + max(16, size // 64), refcheck=False)
            self._partition = np.concatenate(
                [self._partition, np.zeros(len(self._state) - len(self._partition), np.int64)]
            )

    def pack(self, rows: Ints) -> list[bytes]:
        """The whole state of each of these sensors."""
        packed, size = self.state_of(rows).tobytes(), self.dtype.itemsize
        return [packed[at : at + size] for at in range(0, len(packed), size)]

    def layout(self) -> bytes:
        """What `restore` needs to read packed rows: version and named fields."""
        return self._layout

    def restore(self, sensor_ids: Sequence[str], packed: bytes, layout: bytes, partition: int = 0) -> None:
        """Put packed rows back, matching fields by name; a field that the rows lack stays zero.

        Raises DataError when the bytes do not have the layout's size or come from a newer version.
        """
        try:
            described = json.loads(layout)
            version, fields = int(described["version"]), described["fields"]
            dtype = np.dtype([(name, kind, tuple(shape)) for name, kind, shape in fields])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"the saved state's layout cannot be read ({error}); start without it") from error
        if version > LAYOUT:
            raise DataError(f"the saved state has layout {version}, this program knows {LAYOUT}: upgrade it")
        if len(packed) != dtype.itemsize * len(sensor_ids):
            raise DataError("the saved state is cut off or does not fit its layout; start without it")
        stored = np.frombuffer(packed, dtype)
        rows, new = self.rows(sensor_ids, partition)
        self.version += len(new) < len(rows)  # who keeps something by row has nothing of those that are new
        names = self.dtype.names or ()
        for name in set(dtype.names or ()) & set(names):
            column = self._state[name]
            if column.shape[1:] != stored[name].shape[1:]:
                raise DataError(
                    f"the saved state's {name} has shape {stored[name].shape[1:]}, this model needs "
                    f"{column.shape[1:]}: use the model that the state was saved with"
                )
            column[rows] = stored[name]


def _describe(dtype: np.dtype[np.void]) -> list[tuple[str, str, list[int]]]:
    fields: Mapping[str, Any] = dtype.fields or {}
    return [(name, fields[name][0].base.str, list(fields[name][0].shape)) for name in dtype.names or ()]


def distinct(numbers: Ints) -> Ints:
    """The rows, or partitions, that occur in (N,), each once, rising: they are small numbers, and need no sort."""
    return np.flatnonzero(np.bincount(numbers))
