"""Records of the client as columns. Knows nothing of what is inside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from kafka.consumer.fetcher import ConsumerRecord

COLUMNS = [ConsumerRecord._fields.index(name) for name in ("offset", "timestamp", "key", "value", "headers")]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one partition, in order, as columns of equal length; `headers` None: not one record has any."""

    partition: int
    offsets: npt.NDArray[np.int64]
    timestamps_ms: npt.NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[list[tuple[str, bytes]]] | None

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(map(len, filter(None, self.values)))

    def since(self, offset: int) -> Fetched:
        """The records from an offset on."""
        at = int(np.searchsorted(self.offsets, offset))
        return self if at == 0 else self._some(slice(at, None))

    def until(self, offset: int) -> Fetched:
        """The records before an offset."""
        at = int(np.searchsorted(self.offsets, offset))
        return self if at == len(self.offsets) else self._some(slice(at))

    def _some(self, at: slice) -> Fetched:
        headers = None if self.headers is None else self.headers[at]
        return Fetched(
            self.partition, self.offsets[at], self.timestamps_ms[at], self.keys[at], self.values[at], headers
        )


def columns(partition: int, records: Sequence[Any]) -> Fetched:
    """At least one record of the client's, turned on its side."""
    sides = list(zip(*records, strict=True))
    offsets, timestamps, keys, values, headers = (sides[at] for at in COLUMNS)
    return Fetched(
        partition,
        np.array(offsets, np.int64),
        np.array(timestamps, np.int64),
        list(keys),
        list(values),
        list(headers) if any(headers) else None,
    )
