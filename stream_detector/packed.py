"""Many readings in one message as packed columns: what JSON says in text, in less space and a fraction of the time.

    value = pack(["pump-7"], time_ms, values, channels=("temp", "vibration"))

A message holds readings of one sensor, or of several with the same channels, in the order in which they came. All
numbers are little-endian:

    offset  bytes   what
    0       4       89 53 44 52: what no JSON text can begin with (0x89, "SDR")
    4       1       version of this layout, 1
    5       1       bytes of a value: 8 (float64) or 4 (float32)
    6       2       C, how many channels
    8       4       S, how many sensors
    12      4       N, how many readings
    16      4       bytes of the channels' names
    20      4       bytes of the sensors' ids
    24      8       bytes of the whole message
    32              the channels' names, UTF-8, a line feed between two
                    the sensors' ids, likewise
                    zeros, up to a multiple of 8
            8 N     time of each reading, int64, milliseconds since 1970-01-01 UTC
            8/4 N C values, one reading's channels after the other; NaN is a missing value
            4 N     only if S > 1: which sensor each reading is of, uint32, from 0; each has one at least

Producers need this module and numpy alone. It knows nothing of what is done with the readings.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_detector.errors import DataError

MAGIC = b"\x89SDR"
VERSION = 1
HEADER = struct.Struct("<4sBBHIIIIQ")
"""Magic, version, bytes of a value, channels, sensors, readings, bytes of the names, bytes of the ids, of all."""
TIMES = np.dtype("<i8")
VALUES: dict[int, npt.DTypeLike] = {4: np.dtype("<f4"), 8: np.dtype("<f8")}
SENSORS = np.dtype("<u4")
BETWEEN = "\n"
"""Stands between two names, for none can hold it."""


def columns_at(names_bytes: int) -> int:
    """Where the columns begin, behind names of so many bytes."""
    return HEADER.size + (names_bytes + 7) // 8 * 8


def size(width: int, channels: int, sensors: int, readings: int, names_bytes: int) -> int:
    """Bytes of a whole message."""
    column = SENSORS.itemsize if sensors > 1 else 0
    return columns_at(names_bytes) + readings * (TIMES.itemsize + width * channels + column)


def pack(
    sensor_ids: Sequence[str],
    time_ms: npt.ArrayLike,
    values: npt.ArrayLike,
    channels: Sequence[str] = ("value",),
    sensor: npt.ArrayLike | None = None,
    *,
    single_precision: bool = False,
) -> bytes:
    """One message with N readings of these sensors, all of C channels; raises DataError where the sizes do not agree.

    time_ms: (N,) milliseconds since 1970-01-01 UTC. values: (N, C), or (N,) for one channel; NaN is a missing value.
    sensor: (N,) index into `sensor_ids`, which may be left out where there is one sensor. single_precision: half the
    bytes, for values that are known to no more than seven digits.

    Send it with a key that stays the same for each of its sensors: the id of a single one; of several, the name of
    what they have in common (their gateway, their group), so that a sensor's readings always come in one partition.
    """
    times, width = np.asarray(time_ms, TIMES), 4 if single_precision else 8
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(values, VALUES[width])
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    N, C, S = len(times), len(channels), len(sensor_ids)
    if not N or times.shape != (N,) or matrix.shape != (N, C):
        raise DataError(
            f"times of the shape {times.shape} and values of the shape {matrix.shape} are no readings of {C} channels: "
            f"give one time and one row of values for each reading, and one reading at least"
        )
    if np.isinf(matrix).any():
        raise DataError("a value is infinite or too large: NaN is a missing value")
    names, ids = (_joined(texts) for texts in (channels, sensor_ids))
    columns = [times, matrix] if S == 1 else [times, matrix, _indexes(sensor, N, S)]
    whole = size(width, C, S, N, len(names) + len(ids))
    head = HEADER.pack(MAGIC, VERSION, width, C, S, N, len(names), len(ids), whole) + names + ids
    return b"".join([head.ljust(columns_at(len(names) + len(ids)), b"\0"), *(column.tobytes() for column in columns)])


def _joined(texts: Sequence[str]) -> bytes:
    if isinstance(texts, str) or not texts or any(BETWEEN in text for text in texts):
        raise DataError("sensors and channels are given as lists of names, without line feeds in them")
    return BETWEEN.join(texts).encode()


def _indexes(sensor: npt.ArrayLike | None, readings: int, sensors: int) -> npt.NDArray[Any]:
    given = np.asarray(() if sensor is None else sensor)
    if given.shape != (readings,) or not np.array_equal(np.unique(given), np.arange(sensors)):
        raise DataError(
            f"of {sensors} sensors it has to be said which each of the {readings:,} readings is of, by index from 0; "
            f"each sensor needs a reading"
        )
    return given.astype(SENSORS)


def described() -> dict[str, Any]:
    """The layout as a JSON Schema of a message drawn as an object; `x-type` is how a field or an entry is written."""

    def whole(what: str, offset: int, kind: str, least: int = 0) -> dict[str, Any]:
        return {"description": what, "type": "integer", "minimum": least, "x-offset": offset, "x-type": kind}

    def column(what: str, kind: str, items: str) -> dict[str, Any]:
        return {"description": what, "type": "array", "minItems": 1, "items": {"type": items}, "x-type": kind}

    rows = column("Of each reading, one value a channel; NaN (here null) is a missing value.", "<f8", "array")
    rows["items"]["items"] = {"type": ["number", "null"]}
    return {
        "description": "Readings as packed columns, drawn as an object: a header of 32 bytes, whose fields have an "
        "x-offset; the channels' names and then the sensors' ids, UTF-8 with a line feed between two; zeros up to a "
        "multiple of 8 bytes; then the columns time_ms, values and sensor. All numbers are little-endian. The bounds "
        "of names, times and values are those of JSON.",
        "type": "object",
        "required": [field for field in _EXAMPLE if field != "sensor"],
        "properties": {
            "magic": {
                "description": "What no JSON text can begin with, here as hexadecimal digits.",
                "const": MAGIC.hex(),
                "x-offset": 0,
                "x-type": "4s",
            },
            "version": whole("Of the layout.", 4, "B") | {"const": VERSION},
            "width": whole("Bytes of a value: 8 (float64) or 4 (float32, x-type <f4).", 5, "B") | {"enum": [4, 8]},
            "channel_count": whole("How many channels the readings have.", 6, "H", 1),
            "sensor_count": whole("How many sensors the readings are of.", 8, "I", 1),
            "reading_count": whole("How many readings there are.", 12, "I", 1),
            "names_bytes": whole("Bytes of the channels' names, with the line feeds between.", 16, "I", 1),
            "ids_bytes": whole("Bytes of the sensors' ids, likewise.", 20, "I", 1),
            "bytes": whole("Bytes of the whole message.", 24, "Q", HEADER.size + 1),
            "channels": column("The channels' names.", "utf-8", "string"),
            "sensor_ids": column("The sensors' ids.", "utf-8", "string"),
            "time_ms": column("Of each reading, milliseconds since 1970-01-01 UTC.", TIMES.str, "integer"),
            "values": rows,
            "sensor": column(
                "Which sensor each reading is of, from 0; each has one. Left out where there is one sensor.",
                SENSORS.str,
                "integer",
            ),
        },
        "examples": [dict(_EXAMPLE)],
    }


_EXAMPLE: dict[str, Any] = {
    "magic": MAGIC.hex(),
    "version": VERSION,
    "width": 8,
    "channel_count": 2,
    "sensor_count": 2,
    "reading_count": 3,
    "names_bytes": 8,
    "ids_bytes": 13,
    "bytes": 56 + 3 * (8 + 2 * 8 + 4),
    "channels": ["temp", "vib"],
    "sensor_ids": ["pump-7", "pump-8"],
    "time_ms": [1767571200000, 1767571200000, 1767571201000],
    "values": [[61.2, 0.03], [58.4, 0.05], [61.3, 0.04]],
    "sensor": [0, 1, 0],
}
