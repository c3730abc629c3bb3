"""JSON lines -> rows: a reading a line, or many readings of one sensor.

The wire formats are those of a reading on the topic. The first usable record says which channels there are; a
record may lack some of them, and one with others is rejected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from stream_detector.streaming import lenient_json
from stream_detector.streaming.files.delimited import CHUNK, MISSING
from stream_detector.streaming.files.rows import Part
from stream_detector.streaming.files.times import shown


class _Row(NamedTuple):
    """One reading; `values` is in the order of the channels, `reason` says why it cannot be used."""

    timestamp: str = ""
    sensor_id: str = ""
    values: Sequence[float] = ()
    reason: str = ""


class _UnusableError(Exception):
    """Why a record cannot be used."""


def read(first: tuple[int, str], lines: Iterator[tuple[int, str]], part: Part) -> None:
    """Add the readings of a file whose first line is `first`."""
    records = _Records(part)
    source = chain([first], lines)
    waiting: list[tuple[int, _Row]] = []
    while chunk := list(islice(source, CHUNK)):
        waiting += [(line, row) for line, text in chunk for row in records.rows(text)]
        # How wide a row is, is not known before one is usable.
        if part.shared.channels is not None:
            _add(waiting, part, len(part.shared.channels))
            waiting = []
    if waiting:
        _add(waiting, part, 0)


def _add(rows: list[tuple[int, _Row]], part: Part, width: int) -> None:
    missing = (math.nan,) * width
    values = np.array([missing if row.reason else row.values for _, row in rows], np.float64).reshape(len(rows), width)
    part.add(
        [line for line, _ in rows],
        [row.timestamp for _, row in rows],
        [row.sensor_id for _, row in rows],
        values,
        {i: row.reason for i, (_, row) in enumerate(rows) if row.reason},
    )


class _Records:
    """Understands one record after the other."""

    def __init__(self, part: Part) -> None:
        self._shared = part.shared
        self._default = part.source.sensor_id
        self._named = False

    def rows(self, text: str) -> list[_Row]:
        """The readings of a record; a record that cannot be used is one row that says why."""
        timestamp = sensor_id = ""
        try:
            record = _decoded(text)
            sensor_id = self._sensor_id(record)
            if "timestamps" in record:
                rows = self._many(record, sensor_id)
            else:
                timestamp = _time(record.get("timestamp"))
                rows = [self._one(record, timestamp, sensor_id)]
        except _UnusableError as error:
            return [_Row(timestamp, sensor_id, reason=str(error))]
        # Once a record has named its sensor, one without a name is a mistake and not the file's own sensor.
        self._named = self._named or ("sensor_id" in record and any(not row.reason for row in rows))
        return rows

    def _sensor_id(self, record: dict[str, Any]) -> str:
        if "sensor_id" not in record:
            if self._named:
                raise _UnusableError("the sensor_id is missing")
            return self._default
        sensor_id = record["sensor_id"]
        if not isinstance(sensor_id, str):
            raise _UnusableError("the sensor_id is not text")
        return sensor_id.strip()

    def _one(self, record: dict[str, Any], timestamp: str, sensor_id: str) -> _Row:
        values = record.get("values")
        if values is None:
            if "value" not in record:
                raise _UnusableError("it has neither value nor values")
            values = {"value": record["value"]}
        elif not isinstance(values, dict):
            raise _UnusableError("values is not a mapping of channels to numbers")
        names = [name for name in values if self._shared.is_channel(name)]
        return _Row(timestamp, sensor_id, self._ordered(names, [values[name] for name in names], timestamp, sensor_id))

    def _many(self, record: dict[str, Any], sensor_id: str) -> list[_Row]:
        times, values, names = record["timestamps"], record.get("values"), record.get("channels", ["value"])
        if not isinstance(times, list) or not isinstance(values, list) or len(times) != len(values) or not times:
            raise _UnusableError("timestamps and values are not two lists of the same length, or they are empty")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _UnusableError("channels is not a list of names")
        if len(set(names)) != len(names):
            raise _UnusableError("channels names one twice")
        if "channels" not in record and not any(isinstance(row, list) for row in values):
            values = [[value] for value in values]
        return [self._of_many(time, row, names, sensor_id) for time, row in zip(times, values, strict=True)]

    def _of_many(self, time: Any, row: Any, names: list[str], sensor_id: str) -> _Row:
        timestamp = ""
        try:
            timestamp = _time(time)
            if not isinstance(row, list) or len(row) != len(names):
                raise _UnusableError(f"an entry of values is not a list of {len(names)} numbers")
            kept = [i for i, name in enumerate(names) if self._shared.is_channel(name)]
            values = self._ordered([names[i] for i in kept], [row[i] for i in kept], timestamp, sensor_id)
        except _UnusableError as error:
            return _Row(timestamp, sensor_id, reason=str(error))
        return _Row(timestamp, sensor_id, values)

    def _ordered(self, names: list[str], values: list[Any], timestamp: str, sensor_id: str) -> Sequence[float]:
        """The values in the order of the channels; the first usable record says which these are."""
        found = {name: _number(name, value) for name, value in zip(names, values, strict=True)}
        if not found:
            raise _UnusableError("it has no value of any channel")
        if self._shared.channels is None:
            if not math.isfinite(self._shared.times.parse([timestamp])[0][0]):
                raise _UnusableError(f"the time {shown(timestamp)} is neither ISO 8601 nor a number")
            if not sensor_id:
                raise _UnusableError("the sensor_id is empty")
            self._shared.channels = tuple(names)
        unknown = [name for name in names if name not in self._shared.channels]
        if unknown:
            raise _UnusableError(f"{shown(unknown)} is not among the channels {shown(self._shared.channels)}")
        return [found.get(name, math.nan) for name in self._shared.channels]


def _decoded(text: str) -> dict[str, Any]:
    try:
        record = lenient_json.decode(text)
    except ValueError as error:
        raise _UnusableError(f"it is not valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise _UnusableError("it is not a JSON object")
    return record


def _time(value: Any) -> str:
    """The text of a time, as it stood."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        raise _UnusableError("the timestamp is missing")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnusableError("the timestamp is neither text nor a number")
    try:
        return str(value)
    except ValueError as error:  # an integer of thousands of digits
        raise _UnusableError("the timestamp is too large for a number") from error


def _number(name: str, value: Any) -> float:
    """A value as a number; NaN when it is missing."""
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnusableError(f"{shown(name)} is {shown(str(value))}, which is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise _UnusableError(f"{shown(name)} is infinite or too large for a number")
    return number
