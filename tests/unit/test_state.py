"""The table of sensors: rows, growth, and state as bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stream_detector.detect.state import LAYOUT, SensorTable
from stream_detector.errors import DataError

FIELDS = [("a", "<f8", (3,)), ("b", "<i4")]


def table_of(ids: list[str], fields: list[tuple[object, ...]] = FIELDS) -> SensorTable:
    """A table whose rows differ."""
    table = SensorTable(fields)
    rows, _ = table.rows(ids)
    table.state["a"][rows] = rows[:, None] + [0.0, 0.5, np.nan]
    table.state["b"][rows] = rows
    return table


def test_rows_are_kept_while_the_table_grows() -> None:
    """A sensor keeps its row and its state however many come after it; only new ones are reported as new."""
    table = table_of(["x", "y"])
    rows, new = table.rows([f"s{i}" for i in range(10_000)] + ["y", "x"])
    assert rows[-2:].tolist() == [1, 0]
    assert new.tolist() == list(range(2, 10_002))
    assert table.state["b"][:3].tolist() == [0, 1, 0]
    assert len(table.state) == len(table) == 10_002


def test_packed_rows_come_back() -> None:
    """A table restored from bytes equals the one that was packed, whatever was in it before."""
    table = table_of(["x", "y", "z"])
    other = table_of(["z"])
    other.restore(["x", "z"], b"".join(table.pack(np.array([0, 2]))), table.layout())
    rows, _ = other.rows(["x", "z"])
    assert other.pack(rows) == table.pack(np.array([0, 2]))


def test_a_new_field_starts_at_zero_and_an_old_one_is_dropped() -> None:
    """Rows of an older layout are matched by the names of their fields."""
    old = table_of(["x", "y"])
    new = SensorTable([("b", "<i8"), ("c", "<f4")])
    new.restore(["x", "y"], old.state.tobytes(), old.layout())
    assert new.state["b"].tolist() == [0, 1]
    assert new.state["c"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("layout", "packed", "said"),
    [
        (b"{}", None, "layout"),
        (b"\xff", None, "layout"),
        (None, b"short", "cut off"),
        (json.dumps({"version": LAYOUT + 1, "fields": []}).encode(), None, "upgrade"),
        (json.dumps({"version": LAYOUT, "fields": [["a", "<f8", [3]], ["b", "O", []]]}).encode(), None, "layout"),
        (
            json.dumps({"version": LAYOUT, "fields": [["a", "<f8", [2]], ["b", "<i4", []]]}).encode(),
            b"\0" * 20,
            "shape",
        ),
    ],
)
def test_foreign_bytes_are_refused(layout: bytes | None, packed: bytes | None, said: str) -> None:
    """What does not fit is refused in words; nothing is half restored."""
    table = table_of(["x"])
    before = table.pack(np.array([0]))[0]
    with pytest.raises(DataError, match=said):
        table.restore(["x"], packed or table.pack(np.array([0]))[0], layout or table.layout())
    assert table.pack(np.array([0]))[0] == before
