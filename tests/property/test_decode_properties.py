"""Messages, whatever is in them: nothing is raised or lost, and a reading does not depend on how it came."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_detector.errors import DataError
from stream_detector.schemas import schema
from stream_detector.streaming.decode import Decoded, Decoder
from stream_detector.streaming.files import Table, read_tables
from stream_detector.streaming.files.times import LAST_MS

CHECK = jsonschema.Draft202012Validator(schema("reading"))
NOT_IN_THE_SCHEMA = {"wrong-length", "bad-time", "unknown-channel"}
"""What a schema cannot say: lengths that depend on each other, what is a time, what a sensor had before."""

NAMES = st.sampled_from(["value", "a", "b", "label", " LABEL", "", " ", "\n", 'a"b', "ä", "x" * 513]) | st.text(
    max_size=3
)
IDS = st.sampled_from(["p", "q", " p", "", "a\tb", "x" * 512, "x" * 513, 7, None])
TIMES = st.sampled_from(
    [0, 1, 2.5, -1, -0.25, LAST_MS, LAST_MS + 1, 10**400, "2024-01-01", "5", "soon", "", None, True]
)
NUMBERS = st.one_of(
    st.floats(), st.integers(), st.none(), st.sampled_from([10**400, -(10**400), 10**300, "1", "NaN", True, [], {}])
)
GOOD_NUMBERS = st.none() | st.floats(allow_infinity=False)
ODD = st.recursive(
    NUMBERS | TIMES | IDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "sensor_id": IDS | ODD,
        "timestamp": TIMES | ODD,
        "value": NUMBERS | ODD,
        "values": st.dictionaries(NAMES, NUMBERS | GOOD_NUMBERS, max_size=3)
        | st.lists(GOOD_NUMBERS, max_size=3)
        | st.lists(st.lists(GOOD_NUMBERS, max_size=2), max_size=3)
        | ODD,
        "timestamps": st.lists(TIMES, max_size=3) | st.lists(st.integers(0, 9), max_size=3) | ODD,
        "channels": st.lists(NAMES, max_size=2) | ODD,
        "more": ODD,
    },
)
NEARLY_GOOD = st.one_of(
    MESSAGES,
    st.fixed_dictionaries(
        {"sensor_id": IDS, "timestamp": TIMES, "value": NUMBERS}, optional={"values": st.none() | ODD}
    ),
    st.fixed_dictionaries(
        {"sensor_id": st.just("p"), "timestamp": TIMES, "values": st.dictionaries(NAMES, NUMBERS, max_size=3)}
    ),
    st.integers(0, 3).flatmap(
        lambda n: st.fixed_dictionaries(
            {
                "sensor_id": st.just("q"),
                "timestamps": st.lists(TIMES | st.integers(0, 9), min_size=n, max_size=n),
                "values": st.lists(NUMBERS, min_size=n, max_size=n)
                | st.lists(st.lists(GOOD_NUMBERS, min_size=2, max_size=2), min_size=n, max_size=n),
            },
            optional={"channels": st.lists(NAMES, min_size=2, max_size=2)},
        )
    ),
)
GOOD = st.one_of(
    st.fixed_dictionaries(
        {"sensor_id": st.sampled_from(["p", "q"]), "timestamp": st.integers(0, int(LAST_MS)), "value": GOOD_NUMBERS}
    ),
    st.fixed_dictionaries(
        {
            "sensor_id": st.sampled_from(["r", "s"]),
            "timestamp": st.sampled_from(["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.5", 7]),
            "values": st.fixed_dictionaries({"a": GOOD_NUMBERS, "b": GOOD_NUMBERS}),
        }
    ),
)


def decoder() -> Decoder:
    """A decoder for which a sensor has the channels that it came with first."""
    return Decoder(lambda _, offered: offered)


def encoded(message: object) -> bytes:
    """A message as bytes, with bare NaN and Infinity where these are."""
    return json.dumps(message).encode()


def readings(decoded: Decoded) -> list[tuple[int, str, int, dict[str, str]]]:
    """Message, sensor, time and values of each reading, in order of arrival; the text of a value is exact."""
    return sorted(
        (
            (message, columns.sensor_ids[sensor], time, dict(zip(columns.channels, map(repr, row), strict=True)))
            for columns in decoded.columns
            for message, sensor, time, row in zip(
                columns.message.tolist(),
                columns.sensor.tolist(),
                columns.time_ms.tolist(),
                columns.values.tolist(),
                strict=True,
            )
        ),
        key=lambda reading: reading[0],
    )


def check(decoded: Decoded, count: int) -> None:
    """Every message is used or rejected, once, and what a detector is given is sound."""
    used = [message for columns in decoded.columns for message in set(columns.message.tolist())]
    assert sorted(used + [rejected.message for rejected in decoded.rejected]) == list(range(count))
    assert len({columns.channels for columns in decoded.columns}) == len(decoded.columns)
    for columns in decoded.columns:
        N = len(columns)
        assert columns.values.shape == (N, len(columns.channels)) and len(columns.time_ms) == len(columns.message) == N
        assert not np.isinf(columns.values).any()
        assert columns.time_ms.min() >= 0 and columns.time_ms.max() <= LAST_MS
        assert (np.diff(columns.message) >= 0).all()
        assert sorted(set(columns.sensor.tolist())) == list(range(len(columns.sensor_ids)))
        assert len(set(columns.sensor_ids)) == len(columns.sensor_ids)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200) | st.none() | NEARLY_GOOD.map(encoded), max_size=8))
@example([b'{"sensor_id":"p","timestamp":1,"value":NaN}'])
@example([b'{"sensor_id":"p","timestamp":1,"value":1} {"sensor_id":"p","timestamp":2,"value":1}'])
def test_any_bytes_are_readings_or_rejected(values: list[bytes | None]) -> None:
    """Nothing is raised, no message is lost or counted twice, and the second time gives the same."""
    running = decoder()
    first = running.decode(values)
    check(first, len(values))
    again = running.decode(values)
    assert (readings(again), again.rejected) == (readings(first), first.rejected)


@settings(deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=60), st.lists(st.binary(max_size=30) | st.none(), max_size=9), st.randoms())
def test_good_messages_are_the_same_among_bad_ones(good: list[Any], bad: list[bytes | None], order: Any) -> None:
    """Whatever stands between them, and whether the decoder was warm, the good ones give the same readings."""
    alone = decoder().decode([encoded(message) for message in good])
    assert not alone.rejected
    running = decoder()
    mixed: list[tuple[bool, bytes | None]] = [(True, encoded(message)) for message in good]
    for value in bad:
        mixed.insert(order.randrange(len(mixed) + 1), (False, value))
    values = [value for _, value in mixed]
    places = [i for i, (is_good, _) in enumerate(mixed) if is_good]
    for _ in range(2):
        among = running.decode(values)
        check(among, len(values))
        moved = [(places.index(message), *rest) for message, *rest in readings(among)]
        assert moved == readings(alone)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, int(LAST_MS)), st.tuples(GOOD_NUMBERS, GOOD_NUMBERS)), min_size=1, max_size=40),
    st.sampled_from([("a", "b"), ("b", "label"), ("value",)]),
    st.booleans(),
)
def test_many_readings_in_one_message_are_the_single_ones(
    rows: list[tuple[int, tuple[float | None, ...]]], names: tuple[str, ...], flat: bool
) -> None:
    """One message of many readings gives what as many messages of one reading give."""
    values = [list(row[: len(names)]) for _, row in rows]
    whole: dict[str, Any] = {"sensor_id": "p", "timestamps": [time for time, _ in rows], "values": values}
    if flat and len(names) == 1:
        whole["values"] = [row[0] for row in values]
    else:
        whole["channels"] = names
    single = [
        {"sensor_id": "p", "timestamp": time, "values": dict(zip(names, row, strict=True))}
        for (time, _), row in zip(rows, values, strict=True)
    ]
    together = decoder().decode([encoded(whole)])
    apart = decoder().decode([encoded(message) for message in single])
    assert not together.rejected and not apart.rejected
    assert [reading[1:] for reading in readings(together)] == [reading[1:] for reading in readings(apart)]
    assert {reading[0] for reading in readings(together)} == {0}


@settings(deadline=None)
@given(NEARLY_GOOD)
@example({"sensor_id": "p", "timestamp": 1, "value": 1, "values": None})
@example({"sensor_id": "p", "timestamp": 1, "value": "x", "values": {"a": 1}})
@example({"sensor_id": "p", "timestamps": [1], "values": [[1, 2]], "channels": ["a", "a"]})
@example({"sensor_id": "p", "timestamp": True, "timestamps": [1], "values": [1]})
@example({"sensor_id": "p", "timestamp": 1, "values": {"label": "x"}})
@example({"sensor_id": "p", "timestamp": 1, "values": {"label": "x", "a": 1}})
def test_the_schema_is_what_the_decoder_takes(message: dict[str, Any]) -> None:
    """What is decoded is valid, and what is not valid is rejected; the other way round where a schema can say it."""
    value = encoded(message)
    rejected = decoder().decode([value]).rejected
    valid = CHECK.is_valid(json.loads(value))
    if not rejected:
        assert valid
    elif rejected[0].slug not in NOT_IN_THE_SCHEMA:
        assert not valid, rejected


@settings(deadline=None)
@given(st.lists(NEARLY_GOOD.filter(lambda message: "sensor_id" in message), min_size=1, max_size=4))
@example([{"sensor_id": "p", "timestamps": [1, 2], "values": [1, None]}])
def test_a_file_of_the_messages_reads_the_same(messages: list[dict[str, Any]]) -> None:
    """What the topic takes, JSON lines take, with the same sensors, times and values."""
    usable = [message for message in messages if not decoder().decode([encoded(message)]).rejected]
    for message in usable:
        found = readings(decoder().decode([encoded(message)]))
        table = read(encoded(message))
        assert not table.rejected
        assert table.ids() == [sensor for _, sensor, _, _ in found]
        assert table.time_ms.tolist() == [time for _, _, time, _ in found]
        values = [dict(zip(table.channels, map(repr, row), strict=True)) for row in table.values.tolist()]
        assert values == [row for _, _, _, row in found]


def read(content: bytes) -> Table:
    """Read the content as a file whose numbers are milliseconds."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "readings.jsonl")
        path.write_bytes(content)
        try:
            return read_tables([path], time_unit="ms")
        except DataError as error:
            raise AssertionError(f"{content!r} is refused: {error}") from error
