"""Packed columns: they are the readings that JSON says, and no bytes that are none raise or pass."""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_detector.packed import HEADER, MAGIC, VERSION, pack
from stream_detector.streaming.decode.gathering import LEAST
from stream_detector.streaming.files.times import LAST_MS
from tests.property.test_decode_properties import check, decoder, encoded, readings

VALUES = st.floats(allow_infinity=False)
NAMES = st.sampled_from([("value",), ("a", "b"), ("b", "label", "ä")])


class Sent(NamedTuple):
    """What a message is to hold."""

    ids: list[str]
    names: tuple[str, ...]
    time_ms: list[int]
    values: list[list[float]]
    sensor: list[int]

    def packed(self) -> bytes:
        """As packed columns."""
        return pack(self.ids, self.time_ms, self.values, self.names, self.sensor)

    def singles(self) -> list[bytes]:
        """As messages of JSON, one a reading."""
        rows = zip(self.time_ms, self.values, self.sensor, strict=True)
        return [
            encoded({"sensor_id": self.ids[i], "timestamp": t, "values": dict(zip(self.names, row, strict=True))})
            for t, row, i in rows
        ]


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    """Readings of one or several sensors with the same channels."""
    ids = draw(st.sampled_from([["p"], ["p", "q"], ["ö", " p", "r"]]))
    names = draw(NAMES)
    sensor = [*range(len(ids)), *draw(st.lists(st.integers(0, len(ids) - 1), max_size=9))]
    N = len(sensor)
    times = draw(st.lists(st.integers(0, int(LAST_MS)), min_size=N, max_size=N))
    row = st.lists(VALUES, min_size=len(names), max_size=len(names))
    return Sent(ids, names, times, draw(st.lists(row, min_size=N, max_size=N)), sensor)


@settings(deadline=None)
@given(st.lists(sent(), min_size=1, max_size=4), st.booleans())
def test_packed_readings_are_those_of_json(messages: list[Sent], warm: bool) -> None:
    """The same columns, bit by bit, come of a packed message and of a message of JSON for each of its readings."""
    for one in messages:  # each alone, for a sensor's channels are those of its first message
        text, binary = decoder(), decoder()
        for by in (text, binary) if warm else ():
            by.decode([encoded({"sensor_id": "warm", "timestamp": 1, "value": 1})] * LEAST)
        apart, together = text.decode(one.singles()), binary.decode([one.packed()])
        check(together, 1)
        assert apart.rejected == together.rejected == []
        [left], [right] = apart.columns, together.columns
        assert (left.channels, left.sensor_ids) == (right.channels, right.sensor_ids)
        for name in ("sensor", "time_ms", "values"):
            assert getattr(left, name).tobytes() == getattr(right, name).tobytes()


@settings(deadline=None)
@given(sent(), st.data())
def test_no_part_of_a_message_passes_for_one(one: Sent, data: st.DataObject) -> None:
    """Every beginning of a message, and one with something behind it, is rejected and harms nothing."""
    value = one.packed()
    parts = [value[:end] for end in range(len(MAGIC), len(value))]
    parts.append(value + data.draw(st.binary(min_size=1, max_size=9)))
    decoded = decoder().decode([*parts, value])
    check(decoded, len(parts) + 1)
    assert [rejected.message for rejected in decoded.rejected] == [*range(len(parts))]
    assert {message for message, *_ in readings(decoded)} == {len(parts)}


HEADERS = st.tuples(
    st.sampled_from([VERSION, VERSION, 0, 2]),
    st.sampled_from([8, 8, 4, 0, 255]),
    st.integers(0, 3) | st.integers(0, 2**16 - 1),
    *[st.integers(0, 9) | st.integers(0, 2**32 - 1)] * 4,
    st.integers(0, 99) | st.integers(0, 2**64 - 1),
)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=120).map(lambda rest: MAGIC + rest),
            st.builds(lambda fields, rest: HEADER.pack(MAGIC, *fields) + rest, HEADERS, st.binary(max_size=99)),
            st.builds(
                lambda one, at, byte: _with(one.packed(), at, byte), sent(), st.integers(0, 999), st.integers(0, 255)
            ),
            sent().map(lambda one: one.singles()[0]),
        ),
        max_size=6,
    )
)
@example([HEADER.pack(MAGIC, VERSION, 8, 1, 1, 1, 0, 0, 48) + bytes(16)])
@example([HEADER.pack(MAGIC, VERSION, 8, 1, 2, 2, 1, 3, 80) + b"ap\nq" + bytes(44)])
@example([HEADER.pack(MAGIC, VERSION, 4, 1, 1, 1, 1, 1, 52) + b"ap" + bytes(14) + struct.pack("<I", 0x7FA00000)])
def test_any_bytes_are_readings_or_rejected(values: list[bytes]) -> None:
    """Whatever a header says: nothing is raised, no message is lost or counted twice, and it is so again."""
    running = decoder()
    first = running.decode(values)
    check_whole(first, len(values))
    again = running.decode(values)
    assert (readings(again), again.rejected) == (readings(first), first.rejected)


def _with(value: bytes, at: int, byte: int) -> bytes:
    place = at % len(value)
    return value[:place] + bytes([byte]) + value[place + 1 :]


def check_whole(decoded: Any, count: int) -> None:
    """As `check`, but that the readings of one message may be of several columns, each reading once."""
    used = {message for columns in decoded.columns for message in columns.message.tolist()}
    assert sorted([*used, *(rejected.message for rejected in decoded.rejected)]) == list(range(count))
    places = [
        place
        for columns in decoded.columns
        if columns.rank is not None
        for place in zip(columns.message.tolist(), columns.rank.tolist(), strict=True)
    ]
    assert len(set(places)) == len(places)
    for columns in decoded.columns:
        assert not np.isinf(columns.values).any()
        assert columns.time_ms.min() >= 0 and columns.time_ms.max() <= LAST_MS


def test_no_json_begins_like_a_packed_message() -> None:
    """The first byte is none that UTF-8 text can begin with."""
    for text in ("{}", " {}", "[1]", '"x"', "\ufeff{}", "1", "null", "ä"):
        assert not text.encode().startswith(MAGIC[:1])
    try:
        json.loads(MAGIC)
    except ValueError:
        return
    raise AssertionError("the magic bytes are JSON")
