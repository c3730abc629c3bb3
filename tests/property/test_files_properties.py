"""Files, whatever is in them: a table or a DataError, no row lost, and what is written is read back."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_detector.errors import DataError
from stream_detector.records import format_time
from stream_detector.streaming.files import Table, read_tables, write_scores
from stream_detector.streaming.files.times import LAST_MS

CELLS = st.one_of(
    st.sampled_from(["", "1", "-2.5", "x", "nan", "NA", "inf", "1e999", "2024-01-01", "1600000000", '"', 'a"b', "1_0"]),
    st.floats().map(str),
    st.text(max_size=6),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "a", "b"]), inner),
    max_leaves=6,
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "sensor_id": st.sampled_from(["p", "q", "", 7, None]),
        "timestamp": st.sampled_from([1, 2.5, "2024-01-01", "soon", None, 10**30]),
        "timestamps": st.lists(st.integers(-5, 5), max_size=3) | JSON_VALUES,
        "value": JSON_VALUES,
        "values": JSON_VALUES,
        "channels": st.lists(st.sampled_from(["value", "a", "b"]), max_size=3) | JSON_VALUES,
    },
)


def read(content: bytes, name: str = "pump-7.csv") -> Table:
    """Read the content as a file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, name)
        path.write_bytes(content)
        return read_tables([path])


def check(table: Table) -> None:
    """Every row is usable or rejected, and what a detector is given is sound."""
    N = len(table.timestamps)
    assert N == len(table) == len(table.time_ms) == len(table.usable) == len(table.ids())
    assert table.values.shape == (N, len(table.channels)) and table.channels
    assert [rejected.row for rejected in table.rejected] == np.flatnonzero(~table.usable).tolist()
    assert sorted(table.order.tolist()) == np.flatnonzero(table.usable).tolist() != []
    assert np.array_equal(table.sensor >= 0, table.usable)
    assert sorted(set(table.sensor[table.usable].tolist())) == list(range(len(table.sensor_ids)))
    assert not np.isinf(table.values).any() and np.isnan(table.values[~table.usable]).all()
    assert (np.diff(table.time_ms[table.order]) >= 0).all()
    assert table.time_ms.min() >= 0 and table.time_ms.max() <= LAST_MS


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"timestamp,a\n1,2\n", b'{"timestamp":1,"value":2}\n', b"\x1f\x8b"])
)
@example(gzip.compress(b"timestamp,a\n1,2\n"), b"")
def test_any_bytes_are_a_table_or_a_data_error(content: bytes, before: bytes) -> None:
    """Whatever the bytes, behind a good beginning or not, nothing else is raised."""
    try:
        check(read(before + content))
    except DataError as error:
        assert "pump-7.csv" in str(error)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=12), st.sampled_from([",", ";", "\t"]))
def test_every_csv_row_is_usable_or_rejected(rows: list[list[str]], delimiter: str) -> None:
    """As many rows as lines that are not blank, each with its own line's number."""
    written = [delimiter.join(row) for row in rows]
    content = "\n".join([delimiter.join(["timestamp", "sensor_id", "a", "b"]), delimiter.join("1p23"), *written])
    decoded = io.TextIOWrapper(io.BytesIO(content.encode("utf-8", "replace")), encoding="utf-8")
    numbers = [number for number, line in enumerate(decoded, 1) if number > 1 and not line.isspace()]
    try:
        table = read(content.encode("utf-8", "replace"))
    except DataError as error:  # the counting of times by size can leave none usable
        assert "no usable row" in str(error)
        return
    check(table)
    assert len(table) == len(numbers)
    assert {rejected.line for rejected in table.rejected} <= set(numbers)
    assert all(numbers[rejected.row] == rejected.line for rejected in table.rejected)


@given(st.lists(RECORDS, max_size=8))
def test_every_json_record_is_usable_or_rejected(records: list[dict[str, object]]) -> None:
    """A record gives at least one row, and every line is told of or used."""
    good = {"sensor_id": "p", "timestamp": 1, "value": 1.0}
    content = "\n".join(json.dumps(record) for record in [good, *records])
    table = read(content.encode(), "pump-7.jsonl")
    check(table)
    assert table.channels == ("value",)
    assert len(table) >= len(records) + 1


@given(
    st.lists(
        st.tuples(
            st.integers(0, int(LAST_MS)),
            st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=5),
            st.floats(allow_nan=True, allow_infinity=False),
        ),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_what_is_written_is_read(rows: list[tuple[int, str, float]], packed: bool) -> None:
    """Times, ids and values come back exactly as they were written."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["timestamp", "sensor_id", "value", "other"])
    writer.writerows([format_time(time), sensor, repr(value), 0] for time, sensor, value in rows)
    content = text.getvalue().encode()
    table = read(gzip.compress(content) if packed else content)
    check(table)
    assert not table.rejected
    assert table.time_ms.tolist() == [time for time, _, _ in rows]
    assert table.ids() == [sensor for _, sensor, _ in rows]
    np.testing.assert_array_equal(table.values[:, 0], [value for _, _, value in rows])


@given(
    st.lists(
        st.tuples(st.sampled_from(["2024-01-01T00:00:00Z", "5", "soon", ""]), st.text(max_size=4), st.floats()),
        min_size=1,
        max_size=20,
    )
)
def test_scores_can_be_read_again(rows: list[tuple[str, str, float]]) -> None:
    """The scores of any input have a row an input row, with its own time and id, and are a table themselves."""
    records = [{"timestamp": time, "sensor_id": sensor, "value": 1} for time, sensor, _ in rows]
    good = {"timestamp": "2024-01-01", "sensor_id": "good", "value": 0}
    table = read("\n".join(json.dumps(record) for record in [good, *records]).encode())
    score = np.array([0.5] + [score for _, _, score in rows])
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "scores.csv")
        write_scores(target, table, score, score, np.isnan(score))
        with target.open(newline="", encoding="utf-8") as file:
            written = list(csv.DictReader(file))
    assert [row["timestamp"] for row in written] == table.timestamps
    assert [row["sensor_id"] for row in written] == table.ids()
    read_back = [float(row["score"] or "nan") for row in written]
    assert read_back == pytest.approx(score, rel=1e-5, nan_ok=True)
    assert [row["is_anomaly"] for row in written] == [str(int(flag)) for flag in np.isnan(score)]
