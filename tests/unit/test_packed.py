"""Packed columns: what is packed is decoded, what cannot be used says why, and the layout is the documented one."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stream_detector.errors import DataError
from stream_detector.packed import HEADER, MAGIC, pack
from stream_detector.schemas import REASONS, schema
from stream_detector.streaming.decode import Columns, Decoder, Limits
from stream_detector.streaming.decode.gathering import LEAST

NAN = float("nan")
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
WHOLE = ("magic", "version", "width", "channels", "sensors", "readings", "names", "ids", "bytes")


def decoder(limits: Limits | None = None) -> Decoder:
    """A decoder for which a sensor has the channels that its first message has."""
    return Decoder(lambda _, offered: offered, limits)


def only(values: Sequence[bytes], by: Decoder | None = None) -> Columns:
    """The one entry of columns of messages that are all usable."""
    decoded = (by or decoder()).decode(values)
    assert decoded.rejected == []
    [columns] = decoded.columns
    return columns


def changed(value: bytes, **fields: object) -> bytes:
    """The message with other fields in its header; `more` is put behind it, and counted."""
    more = fields.pop("more", b"")
    assert isinstance(more, bytes)
    header = dict(zip(WHOLE, HEADER.unpack_from(value), strict=True))
    header["bytes"] += len(more)
    return HEADER.pack(*(header | fields).values()) + value[HEADER.size :] + more


ONE = pack(["p"], [1, 2], [1.5, 2.5])
SEVERAL = pack(["p", "q"], [1, 2, 3], [[1, 2], [3, 4], [5, 6]], ["a", "b"], [0, 1, 0])


def test_one_sensor() -> None:
    """Times and values come as they were; NaN is a missing value."""
    columns = only([pack(["p"], [5, 7], [[1.5, NAN], [0.1, -0.0]], ["a", "b"])])
    assert (columns.channels, columns.sensor_ids) == (("a", "b"), ["p"])
    assert columns.time_ms.tolist() == [5, 7] and columns.message.tolist() == [0, 0]
    np.testing.assert_array_equal(columns.values, [[1.5, NAN], [0.1, -0.0]])
    assert columns.values.dtype == np.float64 and columns.time_ms.dtype == columns.sensor.dtype == np.int64


def test_several_sensors_keep_the_order_of_their_readings() -> None:
    """One message of two sensors, beside one of one sensor, in order of arrival."""
    columns = only([ONE, pack(["q", "ä"], [9, 8, 7], [1, 2, 3], sensor=[1, 0, 1])])
    assert [columns.sensor_ids[index] for index in columns.sensor] == ["p", "p", "ä", "q", "ä"]
    assert columns.time_ms.tolist() == [1, 2, 9, 8, 7]
    assert columns.message.tolist() == [0, 0, 1, 1, 1]


def test_single_precision() -> None:
    """The values are those of seven digits; it is half as long."""
    values = np.random.default_rng(0).normal(size=(100, 4))
    exact, short = (pack(["p"], range(100), values, list("abcd"), single_precision=half) for half in (False, True))
    assert len(short) == len(exact) - 1600
    np.testing.assert_array_equal(only([short]).values, values.astype(np.float32).astype(float))
    np.testing.assert_array_equal(only([exact]).values, values)


def test_all_nan_are_one() -> None:
    """What a NaN carries beside being none does not reach a sensor's row."""
    odd = struct.pack("<Q", 0x7FF8_DEAD_BEEF_0001)
    value = pack(["p"], [1], [7.0]).replace(struct.pack("<d", 7.0), odd)
    assert only([value]).values.tobytes() == np.array([[np.nan]]).tobytes()


def test_sensors_of_a_message_may_have_different_channels() -> None:
    """Each keeps its own; readings are told apart by their place in the message."""
    by = decoder()
    by.decode([pack(["q"], [1], [[1, 2, 3]], ["a", "b", "c"])])
    decoded = by.decode([SEVERAL])
    assert decoded.rejected == []
    p, q = sorted(decoded.columns, key=lambda columns: len(columns.channels))
    assert (p.sensor_ids, p.values.tolist()) == (["p"], [[1, 2], [5, 6]])
    assert q.sensor_ids == ["q"]
    np.testing.assert_array_equal(q.values, [[3, 4, NAN]])
    assert p.rank is not None and q.rank is not None
    assert (p.rank.tolist(), q.rank.tolist()) == ([0, 2], [1])


def test_a_message_is_used_whole_or_not_at_all() -> None:
    """A channel that one sensor does not have, or a sensor that is refused: the others of the message stay out too."""
    by = decoder()
    by.decode([pack(["q"], [1], [[1]], ["a"])])
    [rejected] = (decoded := by.decode([SEVERAL])).rejected
    assert (rejected.slug, decoded.columns) == ("unknown-channel", [])

    asked = []

    def channels_of(sensor_id: str, offered: tuple[str, ...]) -> tuple[str, ...]:
        asked.append(sensor_id)
        if sensor_id == "q":
            raise DataError("no-weights: none")
        return offered

    decoded = Decoder(channels_of).decode([SEVERAL, pack(["p"], [1], [1])])
    assert [one.slug for one in decoded.rejected] == ["no-weights"]
    assert [columns.channels for columns in decoded.columns] == [("value",)]
    assert asked == ["p", "q", "p"]


BAD = [
    (MAGIC, "invalid-packed: the message ends within the header"),
    (ONE[:31], "invalid-packed: the message ends within the header"),
    (changed(ONE, version=2), "invalid-packed: version 2"),
    (changed(ONE, width=2), "invalid-packed: a value has 2 bytes"),
    (changed(ONE, width=4), "wrong-length"),
    (changed(ONE, channels=0), "wrong-length: there are 0 channels"),
    (changed(ONE, channels=2), "wrong-length"),
    (changed(ONE, channels=65_535), "wrong-length"),
    (changed(ONE, sensors=0), "wrong-length: .* 0 sensors"),
    (changed(ONE, sensors=2), "wrong-length"),
    (changed(ONE, sensors=2**32 - 1), "wrong-length"),
    (changed(ONE, readings=0), "wrong-length: .* 0 readings"),
    (changed(ONE, readings=2**32 - 1), "too-large: the message has 4,294,967,295 readings"),
    (changed(ONE, names=2**32 - 1), "wrong-length"),
    (changed(ONE, ids=2), "wrong-length: there are 1 channels|wrong-length|bad-sensor-id"),
    (changed(ONE, bytes=2**64 - 1), "wrong-length: the message has [0-9]+ bytes"),
    (changed(ONE, more=b"\0"), "wrong-length: the message has [0-9]+ bytes"),
    (ONE + b"\0", "wrong-length"),
    (ONE[:-1], "wrong-length"),
    (ONE.replace(b"valuep", b"value\xff"), "invalid-packed: a name is not UTF-8"),
    (ONE.replace(b"valuep", b"valu\xffp"), "invalid-packed: a name is not UTF-8"),
    (ONE.replace(b"valuep", b"value\0"), "bad-sensor-id: .* control characters"),
    (ONE.replace(b"valuep", b"val\neq"), "wrong-length: there are 1 channels"),
    (pack([" "], [1], [1]), "bad-sensor-id: the sensor_id is empty"),
    (pack(["x" * 513], [1], [1]), "bad-sensor-id: .* 513 characters"),
    (pack(["p", ""], [1, 2], [1, 2], sensor=[0, 1]), "bad-sensor-id: the sensor_id is empty"),
    (SEVERAL.replace(b"abp\nq", b"abpnq").replace(b"a\nbp\nq", b"a\nbpxq"), "wrong-length: there are 2 sensors"),
    (SEVERAL[:-4] + struct.pack("<I", 2), "invalid-packed: a reading is of none"),
    (SEVERAL[:-12] + struct.pack("<III", 0, 0, 0), "invalid-packed: .* a sensor has no reading"),
    (pack(["p"], [1], [[1, 2]], ["a", "a"]), "bad-channel: 'a' is among the channels twice"),
    (pack(["p"], [1], [[1, 2]], ["a", ""]), "bad-channel: the name of a channel is empty"),
    (pack(["p"], [1], [1], [" Label"]), "missing-field: it has no value of any channel"),
    (pack(["p"], [1], [range(65)], list(map(str, range(65)))), "too-many-channels: it has 65 channels"),
    (pack(["p"], [1, -1], [1, 2]), "bad-time: the timestamp -1"),
    (pack(["p"], [2**63 - 1], [1]), "bad-time: .*send milliseconds"),
    (pack(["p"], [1, 2], [[1, 2], [3, 4]], ["a", "b"])[:-8] + struct.pack("<d", -np.inf), "not-finite: 'b' is inf"),
    (pack(["p"], [1], [1], single_precision=True)[:-4] + struct.pack("<f", np.inf), "not-finite: 'value' is inf"),
    (pack(["p"], range(100_001), range(100_001), single_precision=True), "too-large"),
    (b"\x89PNG\r\n\x1a\n" * 9, "invalid-json"),
]


@pytest.mark.parametrize(("value", "reason"), BAD, ids=range(len(BAD)))
def test_bad_messages_are_rejected_whole(value: bytes, reason: str) -> None:
    """Each is rejected with words for its producer, among JSON and among its like, and harms no other message."""
    good = pack(["g"], [1, 2], [1, 2]), b'{"sensor_id": "g", "timestamp": 3, "value": 3}'
    for warm in (0, LEAST):
        by = decoder()
        by.decode([good[1]] * warm)
        decoded = by.decode([*good, value, *good])
        [columns] = decoded.columns
        assert (columns.sensor_ids, columns.time_ms.tolist()) == (["g"], [1, 2, 3, 1, 2, 3])
        [rejected] = decoded.rejected
        assert rejected.message == 2
        assert re.match(reason, rejected.reason), rejected.reason
        assert rejected.slug in REASONS and len(rejected.reason) < 250


def test_too_large_a_message_is_not_looked_into() -> None:
    """The limit of bytes is that of JSON."""
    [rejected] = decoder(Limits(message_bytes=len(ONE) - 1)).decode([ONE]).rejected
    assert rejected.slug == "too-large"
    assert not decoder(Limits(message_bytes=len(ONE))).decode([ONE]).rejected


@pytest.mark.parametrize(
    "given",
    [
        {"sensor_ids": []},
        {"sensor_ids": "p"},
        {"sensor_ids": ["p\n"]},
        {"sensor_ids": ["p", "q"]},
        {"sensor_ids": ["p", "q"], "sensor": [0, 2]},
        {"sensor_ids": ["p", "q"], "sensor": [0, 0]},
        {"sensor_ids": ["p", "q"], "sensor": [0]},
        {"time_ms": []},
        {"time_ms": [1]},
        {"time_ms": [[1, 2]]},
        {"values": [[1, 2], [3, 4]]},
        {"channels": []},
        {"values": [1, np.inf]},
        {"values": [1, 1e300], "single_precision": True},
    ],
)
def test_what_does_not_agree_is_not_packed(given: dict[str, object]) -> None:
    """The producer hears of it, not the dead letters."""
    with pytest.raises(DataError):
        pack(**{"sensor_ids": ["p"], "time_ms": [1, 2], "values": [1, 2], **given})  # type: ignore[arg-type]
    assert not decoder().decode([pack(["p", "q"], [1, 2], [1, 2], sensor=np.array([1, 0]))]).rejected


def test_the_front_page_s_lines() -> None:
    """They make a message of two sensors."""
    code = README.partition("<!-- pack -->\n```python\n")[2].partition("```")[0]
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102
    value = names["value"]
    assert isinstance(value, bytes)
    columns = only([value])
    assert (columns.sensor_ids, columns.channels) == (["pump-7", "pump-8"], ("temp", "vibration"))
    np.testing.assert_array_equal(columns.values, [[61.2, 0.03], [58.4, 0.05], [61.3, NAN]])


def test_the_schema_says_how_it_is_laid_out() -> None:
    """Its example, packed with nothing but the offsets and types that it states, is what `pack` writes."""
    made = schema("packed-readings")
    [example] = made["examples"]
    header = b"".join(
        struct.pack("<" + field["x-type"], bytes.fromhex(example[name]) if name == "magic" else example[name])
        for name, field in sorted(made["properties"].items(), key=lambda one: one[1].get("x-offset", 99))
        if "x-offset" in field
    )
    names = "\n".join(example["channels"]).encode() + "\n".join(example["sensor_ids"]).encode()
    columns = [
        np.array(example[name], made["properties"][name]["x-type"]).tobytes()
        for name in ("time_ms", "values", "sensor")
    ]
    written = header + names + bytes(-len(names) % 8) + b"".join(columns)
    assert written == pack(
        example["sensor_ids"], example["time_ms"], example["values"], example["channels"], example["sensor"]
    )
