"""A message that is not plain, looked at field by field: it holds a bare NaN, or it says here what is wrong with it.

The rules for a value and a time are those of JSON lines in files, but that text is never a value.
"""

from __future__ import annotations

import math
from typing import Any

from stream_detector.streaming import lenient_json
from stream_detector.streaming.decode.limits import Limits, UnusableError
from stream_detector.streaming.decode.shapes import Number, Record, Row
from stream_detector.streaming.decode.times import Time
from stream_detector.streaming.files.times import shown

NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def is_channel(name: str) -> bool:
    """Whether a name may be that of a channel: a label says what was found out later, and is never read."""
    return name.strip().casefold() != "label"


def read(value: bytes | None, limits: Limits) -> Record:
    """The record of a message; raises UnusableError that says why there is none."""
    if not value:
        raise UnusableError("empty-message: the message has no value; send a reading as JSON")
    if len(value) > limits.message_bytes:
        raise UnusableError(
            f"too-large: the message has {len(value):,} bytes, more than {limits.message_bytes:,}; send fewer readings "
            f"in one"
        )
    found = _loaded(value)
    if not isinstance(found, dict):
        raise UnusableError(f"wrong-type: the message is {_kind(found)}, not a JSON object with a reading")
    record = Record()
    if "sensor_id" in found:
        record.sensor_id = _text(found["sensor_id"], "sensor_id")
    if "timestamps" in found:
        record.timestamps = [_time(time, "an entry of timestamps") for time in _list(found["timestamps"], "timestamps")]
        if "channels" in found:
            record.channels = [_text(name, "an entry of channels") for name in _list(found["channels"], "channels")]
        if "values" in found:
            record.values = [_row(row) for row in _list(found["values"], "values")]
        return record
    if "timestamp" in found:
        record.timestamp = _time(found["timestamp"], "the timestamp")
    if found.get("values") is not None:
        record.values = _mapping(found["values"])
    elif "value" in found:
        record.value = _number(found["value"], "value")
    return record


def _loaded(value: bytes) -> Any:
    try:
        return lenient_json.decode(value)
    except ValueError as error:
        raise UnusableError(f"invalid-json: {error}") from error


def _kind(value: Any) -> str:
    return NAMES.get(type(value), "a number")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UnusableError(f"wrong-type: {what} is {_kind(value)}, not text")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise UnusableError(f"wrong-type: {what} is {_kind(value)}, not a list")
    return value


def _mapping(values: Any) -> dict[str, Number]:
    if not isinstance(values, dict):
        raise UnusableError(
            f"wrong-type: values is {_kind(values)}, not an object of channels and numbers; a list needs timestamps"
        )
    return {name: _number(value, shown(name)) for name, value in values.items() if is_channel(name)}


def _row(row: Any) -> Row:
    if isinstance(row, list):
        return [_number(value, "a value") for value in row]
    return _number(row, "a value")


def _time(value: Any, what: str) -> Time:
    """A time as it stands; whether it is a possible one is seen later, with all others."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnusableError(f"wrong-type: {what} is {_kind(value)}, neither ISO 8601 text nor milliseconds since 1970")
    try:
        return value if isinstance(value, str) else float(value)
    except OverflowError:
        return math.inf


def _number(value: Any, what: str) -> Number:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnusableError(f"wrong-type: {what} is {_kind(value)}, not a number; null is a missing value")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise UnusableError(f"not-finite: {what} is infinite or too large for a number; null is a missing value")
    return number
