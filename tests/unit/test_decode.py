"""The decoder: messages of every form become the columns they say, and a bad one says what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from stream_detector.errors import DataError
from stream_detector.records import parse_time
from stream_detector.schemas import REASONS
from stream_detector.streaming.decode import Columns, Decoded, Decoder, Limits, sensors
from stream_detector.streaming.decode.gathering import LEAST, MOST_SHAPES
from stream_detector.streaming.decode.times import FORMS, Clock, in_usual_forms
from stream_detector.streaming.files.times import LAST_MS

NAN = float("nan")


def as_offered(_: str, offered: tuple[str, ...]) -> tuple[str, ...]:
    """A sensor has the channels that its first message has."""
    return offered


def encoded(message: object) -> bytes | None:
    """A message as bytes; bytes and None are taken as they are."""
    return message if message is None or isinstance(message, bytes) else json.dumps(message).encode()


def decode(*messages: object, decoder: Decoder | None = None) -> Decoded:
    """Decode messages with a fresh decoder, or the given one."""
    return (decoder or Decoder(as_offered)).decode([encoded(message) for message in messages])


def only(decoded: Decoded) -> Columns:
    """The one entry of columns of messages that are all usable."""
    assert decoded.rejected == []
    [columns] = decoded.columns
    return columns


def ids(columns: Columns) -> list[str]:
    """The sensor id of each reading."""
    return [columns.sensor_ids[index] for index in columns.sensor.tolist()]


def single(time: object = 1, value: object = 1.5, sensor_id: object = "p", **more: object) -> dict[str, object]:
    """A message of one reading of one channel."""
    return {"sensor_id": sensor_id, "timestamp": time, "value": value, **more}


def test_forms_of_a_message() -> None:
    """One channel, several channels and many readings, times as numbers and text, missing values in all their forms."""
    decoded = decode(
        single(1.6, 2, "p", note="ignored"),
        {"sensor_id": "q", "timestamp": "1970-01-01T00:00:00.005Z", "values": {"a": 1, "b": None}},
        {"sensor_id": "p", "timestamps": [3, "4"], "values": [1e3, None]},
        b'{"sensor_id": "q", "timestamp": 9, "values": {"b": NaN, "a": -0.5}}',
        {"sensor_id": "p", "timestamps": [6], "values": [[7]]},
        {"sensor_id": "q", "timestamps": [7, 8], "values": [[1, 2], [None, 4]], "channels": ["b", "a"]},
        {"sensor_id": "p", "timestamp": 9, "value": None, "values": None},
    )
    assert decoded.rejected == []
    one, two = decoded.columns
    assert (one.channels, one.sensor_ids, one.sensor.tolist()) == (("value",), ["p"], [0] * 5)
    assert one.time_ms.tolist() == [2, 3, 4, 6, 9] and one.message.tolist() == [0, 2, 2, 4, 6]
    np.testing.assert_array_equal(one.values, [[2], [1e3], [NAN], [7], [NAN]])
    assert (two.channels, ids(two)) == (("a", "b"), ["q"] * 4)
    assert two.time_ms.tolist() == [5, 9, 7, 8] and two.message.tolist() == [1, 3, 5, 5]
    np.testing.assert_array_equal(two.values, [[1, NAN], [-0.5, NAN], [2, 1], [4, NAN]])
    assert [column.dtype for column in (one.sensor, one.time_ms, one.message)] == [np.int64] * 3
    assert one.values.dtype == np.float64


def test_nothing_gives_nothing() -> None:
    """No messages, no columns."""
    assert decode() == Decoded([], [])


BAD: list[tuple[object, str]] = [
    (None, "empty-message: the message has no value"),
    (b"", "empty-message"),
    (b"   ", "invalid-json: "),
    (b'{"sensor_id": "p"', "invalid-json: .* at character 17"),
    (b'{"sensor_id": "\xff", "timestamp": 1, "value": 1}', "invalid-json: it is not UTF-8"),
    (b'{"sensor_id": "\\ud800", "timestamp": 1, "value": 1}', "invalid-json: it is not UTF-8"),
    (b"[" * 1_000_000, "invalid-json: it is nested too deeply"),
    (b'{"a":' * 200_000, "invalid-json: it is nested too deeply"),
    (b'{"sensor_id": "p", "timestamp": 1, "value": 1, "x": ' + b"[" * 500_000, "invalid-json: it is nested too deeply"),
    (
        b'{"sensor_id": "p", "timestamp": 1, "value": ' + b"9" * 9_999 + b"}",
        "invalid-json: a number .* too many digits",
    ),
    (b"x" * 2_000_000, "too-large: the message has 2,000,000 bytes, more than 1,048,576"),
    ([1], "wrong-type: the message is a list"),
    (7, "wrong-type: the message is a number"),
    ({"timestamp": 1, "value": 1}, "missing-field: the sensor_id"),
    (single(sensor_id=7), "wrong-type: sensor_id is a number"),
    (single(sensor_id=None), "wrong-type: sensor_id is null"),
    (single(sensor_id=" "), "bad-sensor-id: the sensor_id is empty"),
    (single(sensor_id="x" * 513), "bad-sensor-id: the sensor_id has 513 characters"),
    (single(sensor_id="a\nb"), "bad-sensor-id: the sensor_id 'a.nb' holds control characters"),
    ({"sensor_id": "p", "value": 1}, "missing-field: the timestamp"),
    (single(None), "wrong-type: the timestamp is null"),
    (single(True), "wrong-type: the timestamp is true or false"),
    (single("soon"), "bad-time: the timestamp 'soon'"),
    (single(""), "bad-time: the timestamp ''"),
    (single(-1), "bad-time: the timestamp -1 is not within the years 1970 to 2200"),
    (single("1969-12-31T23:59:59Z"), "bad-time: .* of the years 1970 to 2200"),
    (single("2026-02-30T00:00:00Z"), "bad-time: "),
    (single("2201-01-01"), "bad-time: "),
    (single("2026-13-01T00:00:00Z"), "bad-time: "),
    (single(-0.25), "bad-time: "),
    (single(timestamps=[3]), "missing-field: beside timestamps"),
    (single(1767571200000000000), "bad-time: .*send milliseconds, not micro- or nanoseconds"),
    (single(10**400), "bad-time: "),
    (b'{"sensor_id": "p", "timestamp": NaN, "value": 1}', "bad-time: the timestamp nan"),
    ({"sensor_id": "p", "timestamp": 1}, "missing-field: it has neither value nor values"),
    (single(value="1"), "wrong-type: value is text, not a number"),
    (single(value="NaN"), "wrong-type: value is text"),
    (single(value=True), "wrong-type: value is true or false"),
    (single(value=10**400), "not-finite: value is infinite or too large"),
    (b'{"sensor_id": "p", "timestamp": 1, "value": 1e999}', "not-finite: value"),
    (b'{"sensor_id": "p", "timestamp": 1, "value": -Infinity}', "not-finite: value"),
    ({"sensor_id": "p", "timestamp": 1, "values": {"a": {}}}, "wrong-type: 'a' is an object"),
    ({"sensor_id": "p", "timestamp": 1, "values": {}}, "missing-field: it has no value of any channel"),
    ({"sensor_id": "p", "timestamp": 1, "values": {" Label": 1}}, "missing-field: it has no value of any channel"),
    ({"sensor_id": "p", "timestamp": 1, "values": [1]}, "missing-field: .*needs timestamps"),
    ({"sensor_id": "p", "timestamp": 1, "values": "x"}, "wrong-type: values is text"),
    ({"sensor_id": "p", "timestamp": 1, "values": {"": 1}}, "bad-channel: the name of a channel is empty"),
    ({"sensor_id": "p", "timestamp": 1, "values": {"a\0": 1}}, "bad-channel: .* control characters"),
    (
        {"sensor_id": "p", "timestamp": 1, "values": dict.fromkeys(map(str, range(65)), 1)},
        "too-many-channels: it has 65 channels, more than 64",
    ),
    ({"sensor_id": "p", "timestamps": [1]}, "missing-field: .*needs values"),
    ({"sensor_id": "p", "timestamps": None, "values": [1]}, "wrong-type: timestamps is null"),
    ({"sensor_id": "p", "timestamps": [], "values": []}, "wrong-length: there are 0 timestamps"),
    ({"sensor_id": "p", "timestamps": [1], "values": [1, 2]}, "wrong-length: there are 1 timestamps and 2 values"),
    ({"sensor_id": "p", "timestamps": [1, 2], "values": [1, [2]]}, "wrong-length: .*a list of number"),
    ({"sensor_id": "p", "timestamps": [1], "values": [1], "channels": ["value"]}, "wrong-length"),
    ({"sensor_id": "p", "timestamps": [1], "values": [[1, 2]]}, "wrong-length: .*a list of number, one for"),
    ({"sensor_id": "p", "timestamps": [1], "values": [[1]], "channels": ["a", "b"]}, "wrong-length: .*2 numbers"),
    ({"sensor_id": "p", "timestamps": [1], "values": [[1, 2]], "channels": ["a", "a"]}, "bad-channel: 'a' is .* twice"),
    ({"sensor_id": "p", "timestamps": [1], "values": [[1]], "channels": "a"}, "wrong-type: channels is text"),
    ({"sensor_id": "p", "timestamps": [1], "values": [[1]], "channels": [1]}, "wrong-type: an entry of channels"),
    ({"sensor_id": "p", "timestamps": [1, "soon"], "values": [1, 2]}, "bad-time: the timestamp 'soon'"),
    ({"sensor_id": "p", "timestamps": [1, None], "values": [1, 2]}, "wrong-type: an entry of timestamps is null"),
    ({"sensor_id": "p", "timestamps": [1, 2], "values": [1, False]}, "wrong-type: a value is true or false"),
    ({"sensor_id": "p", "timestamps": [1, 2], "values": [1, 10**400]}, "not-finite: a value"),
]


@pytest.mark.parametrize(
    ("message", "reason"), BAD, ids=[f"{i}-{reason.split(':')[0]}" for i, (_, reason) in enumerate(BAD)]
)
def test_bad_messages_are_rejected_whole(message: object, reason: str) -> None:
    """Each is rejected with words for its producer, in whatever way it is read, and harms no other message."""
    for warm in (False, True):
        decoder = Decoder(as_offered)
        if warm:
            decode(*[single(sensor_id="g")] * LEAST, decoder=decoder)
        decoded = decode(single(1, 1, "g"), message, single(2, 2, "g"), decoder=decoder)
        [columns] = decoded.columns
        assert (columns.sensor_ids, columns.message.tolist()) == (["g"], [0, 2])
        [rejected] = decoded.rejected
        assert rejected.message == 1
        assert re.match(reason, rejected.reason), rejected.reason
        assert rejected.slug in REASONS and len(rejected.reason) < 250


def test_all_reasons_are_tried() -> None:
    """Every word that a reason may begin with is among the bad messages above, or is tried elsewhere."""
    assert {reason.partition(":")[0] for _, reason in BAD} | {"unknown-channel", "invalid-packed"} == set(REASONS)


def test_limits() -> None:
    """The limits are the given ones; what is just within them passes."""
    decoder = Decoder(as_offered, Limits(message_bytes=120, channels=2, readings=3))
    within: dict[str, Any] = {"sensor_id": "p", "timestamps": [1, 2, 3], "values": [1, 2, 3]}
    beyond: dict[str, Any] = {"sensor_id": "p", "timestamps": [1] * 4, "values": [1] * 4}
    pair = {"sensor_id": "q", "timestamp": 1, "values": {"a": 1, "b": 1}}
    triple = {"sensor_id": "q", "timestamp": 1, "values": {"a": 1, "b": 1, "c": 1}}
    long = single(note="x" * 120)
    decoded = decode(within, beyond, pair, triple, long, decoder=decoder)
    assert [(one.message, one.slug) for one in decoded.rejected] == [
        (1, "too-large"),
        (3, "too-many-channels"),
        (4, "too-large"),
    ]
    assert [columns.message.tolist() for columns in decoded.columns] == [[0, 0, 0], [2]]


def test_channels_of_a_sensor() -> None:
    """A missing channel is NaN, an unknown one is told; the label is no channel, whatever it holds."""
    decoded = decode(
        {"sensor_id": "p", "timestamp": 1, "values": {"b": 1, "label": "bad", "a": 2}},
        {"sensor_id": "p", "timestamp": 2, "values": {"a": 3}},
        {"sensor_id": "p", "timestamp": 3, "values": {"a": 3, "c": 4}},
        single(4),
        {"sensor_id": "q", "timestamp": 5, "values": {"a": 6, "label": 1}},
        {"sensor_id": "p", "timestamps": [6], "values": [[0, 7]], "channels": ["Label", "a"]},
    )
    several, one = decoded.columns
    assert several.channels == ("b", "a") and several.message.tolist() == [0, 1, 5]
    np.testing.assert_array_equal(several.values, [[1, 2], [NAN, 3], [NAN, 7]])
    assert (one.channels, one.sensor_ids, one.values.tolist()) == (("a",), ["q"], [[6]])
    assert [(rejected.message, rejected.reason) for rejected in decoded.rejected] == [
        (2, "unknown-channel: 'c' is not among the sensor's channels 'b', 'a'"),
        (3, "unknown-channel: 'value' is not among the sensor's channels 'b', 'a'"),
    ]


def test_a_label_is_not_read_even_where_it_is_named_a_channel() -> None:
    """What was found out later stays out of the detector, whatever the settings say."""
    decoder = Decoder(lambda _, offered: ("a", "label"))
    for names in (["a", "label"], ["label", "a"]):
        message = {"sensor_id": "p", "timestamps": [1], "values": [[5, 5]], "channels": names}
        np.testing.assert_array_equal(only(decode(message, decoder=decoder)).values, [[5, NAN]])


def test_a_sensor_is_asked_for_once_and_by_its_first_usable_message() -> None:
    """In order of arrival across all forms; what is not usable decides nothing; forgetting asks anew."""
    asked: list[tuple[str, tuple[str, ...]]] = []

    def channels_of(sensor_id: str, offered: tuple[str, ...]) -> tuple[str, ...]:
        asked.append((sensor_id, offered))
        return ("a", "b", "value")

    decoder = Decoder(channels_of)
    first = [
        {"sensor_id": "p", "timestamp": "soon", "values": {"x": 1}},
        {"sensor_id": "q", "timestamps": [1], "values": [1]},
        {"sensor_id": "p", "timestamp": 1, "values": {"b": 1}},
        single(1, 1, "r"),
        single(1, 1, " p "),
    ]
    assert [columns.channels for columns in decode(*first, decoder=decoder).columns] == [("a", "b", "value")]
    assert asked == [("q", ("value",)), ("p", ("b",)), ("r", ("value",))]
    decode(*first, decoder=decoder)
    assert len(asked) == 3
    decoder.forget(["p"])
    decode(*first, decoder=decoder)
    assert asked[3:] == [("p", ("b",))]
    decoder.forget()
    decode(*first, decoder=decoder)
    assert len(asked) == 7


def test_a_sensor_may_be_refused() -> None:
    """What the caller raises is the reason; the sensor is asked for again with each message."""
    refused = True

    def channels_of(sensor_id: str, offered: tuple[str, ...]) -> tuple[str, ...]:
        if refused and sensor_id == "p":
            raise DataError("too-many-sensors: the partition has as many sensors as it may have")
        return offered

    decoder = Decoder(channels_of)
    decoded = decode(single(), single(2), single(sensor_id="q"), decoder=decoder)
    assert [(one.message, one.slug) for one in decoded.rejected] == [(0, "too-many-sensors"), (1, "too-many-sensors")]
    assert only(Decoded(decoded.columns, [])).sensor_ids == ["q"]
    refused = False
    assert only(decode(single(), decoder=decoder)).sensor_ids == ["p"]


def test_spaces_around_an_id_do_not_count() -> None:
    """As in files: the same sensor with and without them."""
    columns = only(decode(single(1, 1, "p"), single(2, 2, " p"), single(3, 3, "q")))
    assert ids(columns) == ["p", "p", "q"]


@pytest.mark.parametrize(
    "form",
    [
        lambda i: single(i, float(i), f"s{i % 3}"),
        lambda i: {"sensor_id": f"s{i % 3}", "timestamp": i, "values": {"a": i, "b": None, 'c"': -i}},
        lambda i: {"sensor_id": f"s{i % 3}", "timestamp": i, "values": {"a": i, "b": None, "c\\": -i}},
        lambda i: {"sensor_id": f"s{i % 3}", "timestamp": i, "values": {"ä": i, "class": None, "c0": -i}},
        lambda i: {"sensor_id": "s", "timestamps": [i, i + 1], "values": [[i], [None]], "channels": ["a"]},
    ],
)
def test_the_usual_way_is_the_general_way(form: Callable[[int], dict[str, object]]) -> None:
    """What a message becomes does not depend on the messages before it, nor on those beside it."""
    odd = {"sensor_id": "odd", "timestamp": 5, "value": 1, "values": {"z": 1}}
    later = {"sensor_id": "later", "timestamp": 5, "value": 2, "timestamps": [3], "values": [4]}
    wide = {
        "sensor_id": "wide",
        "timestamp": 1,
        "values": {"a": 1, "b": 1, 'c"': 1, "c\\": 1, "ä": 1, "class": 1, "c0": 1},
    }
    bad = {**form(1), "timestamps": [1]}
    messages = [*map(form, range(1, 200)), odd, later, bad, wide, *map(form, range(200, 300))]
    decoder = Decoder(as_offered)
    found = [decode(*messages, decoder=decoder) for _ in range(3)]
    for decoded in found:
        assert [rejected.message for rejected in decoded.rejected] == [201]
        assert sorted(m for columns in decoded.columns for m in set(columns.message.tolist())) == [
            i for i in range(303) if i != 201
        ]
    for message, value in enumerate(messages):
        alone = decode(value).columns
        for decoded in found:
            rows = [(c, np.flatnonzero(c.message == message)) for c in decoded.columns if message in c.message]
            for (together, row), own in zip(rows, alone, strict=True):
                assert (together.channels, together.time_ms[row].tolist()) == (own.channels, own.time_ms.tolist())
                np.testing.assert_array_equal(together.values[row], own.values)
                assert [ids(together)[i] for i in row] == ids(own)


def test_made_up_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ever new channels nor ever new sensors are kept for ever."""
    monkeypatch.setattr(sensors, "REMEMBERED", 1_000)
    decoder = Decoder(as_offered)
    for batch in range(MOST_SHAPES + 10):
        names = {f"{batch}-{i}": 1 for i in range(2)}
        messages = [{"sensor_id": f"{batch}/{i}", "timestamp": 1, "values": names} for i in range(LEAST)]
        assert len(only(decode(*messages, decoder=decoder))) == LEAST
    assert len(decoder._gatherer._shapes) <= MOST_SHAPES
    assert len(decoder._sensors.ids) <= 1_000 + LEAST


FORMATS = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M", "%Y%m%dT%H%M%S", "%Y-%m-%d", "%Y-%j"]


def test_times_are_those_of_files() -> None:
    """Text of any form means what `parse_time` says, alone and among others, to the last digit."""
    moments = [0, 1, 68_169_599, 1_709_164_800, 4_107_542_399, 951_782_400, 1e9 + 5e-4, 1e9 + 15e-4, 1.7e9 + 0.9995]
    texts = [
        datetime.fromtimestamp(s, UTC).strftime(form) + zone
        for form in FORMATS
        for s in moments
        for zone in ("", "Z", "+00:00", "+02:30")
    ]
    texts += [text[:23] + text[26:] for text in texts if "." in text]
    expected = []
    for text in texts:
        try:
            expected.append(time if 0 <= (time := parse_time(text)) <= LAST_MS else -1)
        except ValueError:
            expected.append(-1)
    assert Clock().to_ms(list(texts)).tolist() == expected
    for length in set(map(len, texts)):
        alike = [text for text in texts if len(text) == length]
        wanted = [time for text, time in zip(texts, expected, strict=True) if len(text) == length]
        assert Clock().to_ms(list(alike)).tolist() == wanted
    assert sum(time >= 0 for time in expected) > 100


@pytest.mark.parametrize("length", sorted(FORMS))
def test_usual_times_need_no_parsing(length: int) -> None:
    """The forms that nearly everyone writes are read all together; one of another form is left out, not misread."""
    text = {0: "2024-02-29T23:59:59", 3: "2024-02-29T23:59:59.125", 6: "2024-02-29T23:59:59.125500"}[FORMS[length][0]]
    text += FORMS[length][1]
    bad = ["2023" + text[4:], text.replace("T", "x"), text[:17] + "60" + text[19:], text[:-1] + "x", ":" + text[1:]]
    found = in_usual_forms([text, *bad])
    assert len(text) == length and found[0] == pytest.approx(parse_time(text), abs=0.5)
    assert np.isnan(found[1:]).all()
