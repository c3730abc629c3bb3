"""One message as bytes -> one record.

`read` takes any message in the wire format. A `Shape` takes only single readings with certain channels: it makes no
mapping of channels to values, and is much faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from stream_detector.records import Floats
from stream_detector.streaming.decode.times import Time

Number = float | None
Row = float | list[float | None] | None
SINGLE: Final = ("value",)
"""The channel of a message that names none."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises when bytes are not JSON, or not of the wanted type."""


class Record(msgspec.Struct, gc=False):
    """A message as it stands: the types are right, but it may lack what it needs."""

    sensor_id: str | UnsetType = UNSET
    timestamp: Time | UnsetType = UNSET
    value: Number | UnsetType = UNSET
    values: dict[str, Number] | list[Row] | UnsetType | None = UNSET
    timestamps: list[Time] | UnsetType = UNSET
    channels: list[str] | UnsetType = UNSET


read: Callable[[bytes], Record] = msgspec.json.Decoder(Record).decode
"""Decodes a message; raises one of UNREADABLE, also for a bare NaN."""


class Shape:
    """Decodes single readings that have exactly these channels; anything else is UNREADABLE to it.

    A decoded record has `sensor_id`, `timestamp` and `values`; what `values` is, only `columns` knows.
    """

    def __init__(self, channels: tuple[str, ...]) -> None:
        self.channels = channels
        required: list[Any] = [("sensor_id", str), ("timestamp", Time)]
        never: list[Any] = [("timestamps", UnsetType, UNSET)]  # it would come before `timestamp`
        if channels == SINGLE:
            self._fields = []
            fields = [*required, ("values", Number), *never, ("others", None, None)]
            renamed = {"values": "value", "others": "values"}
        else:
            # Channels may have any name; fields may not.
            self._fields = [f"c{i}" for i in range(len(channels))]
            inner = msgspec.defstruct(
                "Values",
                [(name, Number) for name in self._fields],
                rename=dict(zip(self._fields, channels, strict=True)),
                forbid_unknown_fields=True,
                gc=False,
            )
            fields, renamed = [*required, ("values", inner), *never], {}
        struct = msgspec.defstruct("Reading", fields, rename=renamed, gc=False)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(struct).decode

    @staticmethod
    def possible(channels: tuple[str, ...]) -> bool:
        """Whether there may be a shape for these channels: msgspec knows no fields with such characters."""
        return not any('"' in name or "\\" in name for name in channels)

    def columns(self, rows: Sequence[Any]) -> Floats:
        """The `values` of N records as (N, C)."""
        if not self._fields:
            return np.array(rows, np.float64).reshape(len(rows), 1)
        values = np.empty((len(rows), len(self._fields)), np.float64)
        for column, name in enumerate(self._fields):
            values[:, column] = np.fromiter(map(attrgetter(name), rows), np.float64, len(rows))
        return values
