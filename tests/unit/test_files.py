"""Files: what is read is what was written, bad rows are kept with their reasons, and bad files are refused in words."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream_detector.errors import ConfigError, DataError, OutputError
from stream_detector.records import parse_time
from stream_detector.streaming import files
from stream_detector.streaming.files import Table, read_tables
from stream_detector.streaming.files.delimited import CHUNK


def read(directory: Path, content: str | bytes, name: str = "pump-7.csv", **options: object) -> Table:
    """Write the content as a file and read it."""
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_tables([path], **options)  # type: ignore[arg-type]


def refusal(directory: Path, content: str | bytes, name: str = "pump-7.csv", **options: object) -> str:
    """The message with which the content is refused."""
    with pytest.raises(DataError) as caught:
        read(directory, content, name, **options)
    assert name in str(caught.value)
    return str(caught.value)


def lines(*records: object) -> str:
    """Records as JSON lines; text is taken as it is."""
    return "".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records)


def test_plain_csv(tmp_path: Path) -> None:
    """Channels, times and values are read; the label is not, and the file's name is the sensor."""
    table = read(tmp_path, "timestamp,temp,vib,label\n2024-01-01T00:00:00Z,1.5,-2e3,0\n2024-01-01 00:00:01,,NA,1\n")
    assert table.channels == ("temp", "vib")
    assert table.sensor_ids == ["pump-7"]
    assert table.time_ms.tolist() == [1_704_067_200_000, 1_704_067_201_000]
    np.testing.assert_array_equal(table.values, [[1.5, -2000.0], [np.nan, np.nan]])
    assert table.timestamps == ["2024-01-01T00:00:00Z", "2024-01-01 00:00:01"]
    assert table.usable.all() and not table.rejected


@pytest.mark.parametrize("name", ["pump-7.csv", "pump-7.csv.gz", "pump-7.TXT", "pump-7.jsonl.gz", "pump-7"])
def test_sensor_is_the_name_without_suffixes(tmp_path: Path, name: str) -> None:
    """Suffixes are no part of the sensor's id."""
    assert read(tmp_path, "timestamp,a\n1,2\n", name).sensor_ids == ["pump-7"]


def test_name_of_nothing_but_a_suffix(tmp_path: Path) -> None:
    """A file named like a suffix still names a sensor."""
    assert read(tmp_path, "timestamp,a\n1,2\n", ".csv").sensor_ids == [".csv"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("packed", [False, True])
def test_dialects(tmp_path: Path, delimiter: str, end: str, packed: bool) -> None:
    """Delimiters, line ends, a BOM, gzip under any name, spaces, capitals, quotes and blank lines are no obstacle."""
    rows = ["\ufeff TimeStamp ,SENSOR_ID,a,Label", "", '1,"p ""q""",2,0', "  ", "2, r ,3,0"]
    content = end.join(rows).replace(",", delimiter).encode()
    table = read(tmp_path, gzip.compress(content) if packed else content)
    assert table.channels == ("a",)
    assert table.ids() == ['p "q"', "r"]
    assert table.values.ravel().tolist() == [2.0, 3.0]


def test_order_counts_late_and_repeated_rows(tmp_path: Path) -> None:
    """Rows are ordered by time, ties by input; a row is late only against its own sensor."""
    table = read(tmp_path, "timestamp,sensor_id,a\n5,x,0\n1,y,1\n3,x,2\n5,x,3\n2,y,4\n3,z,5\n")
    assert table.order.tolist() == [1, 4, 2, 5, 0, 3]
    assert (table.out_of_order, table.repeated) == (1, 1)
    assert table.sensor_ids == ["x", "y", "z"]


def test_readings_are_the_rows_asked_for(tmp_path: Path) -> None:
    """Readings of the time order hold every usable row once, with its own sensor, time and value."""
    table = read(tmp_path, "timestamp,sensor_id,a\n" + "".join(f"{i * 7 % 10},s{i % 3},{i}\n" for i in range(10)))
    readings = table.readings(table.order)
    assert readings.values[:, 0].tolist() == table.order.tolist()
    assert readings.time_ms.tolist() == list(range(10))
    assert [table.sensor_ids[s] for s in readings.sensor] == [f"s{i % 3}" for i in table.order.tolist()]


@pytest.mark.parametrize(
    ("row", "reason", "sensor"),
    [
        ("1,p,x", "not a number", "p"),
        ("1,p,1_000", "not a number", "p"),
        ("1,p,inf", "infinite", "p"),
        ("1,p,-1e999", "infinite", "p"),
        ("1,p", "2 columns where the header has 3", "p"),
        ("1,p,2,3", "4 columns where the header has 3", "p"),
        ("1,,2", "sensor_id is empty", ""),
        (",p,2", "time is missing", "p"),
        ("soon,p,2", "'soon' is neither ISO 8601 nor a number", "p"),
        ("nan,p,2", "neither ISO 8601 nor a number", "p"),
        ("-1,p,2", "not in the years", "p"),
        ("1e300,p,2", "not in the years", "p"),
        ("2201-01-01,p,2", "not in the years", "p"),
        ("1969-12-31,p,2", "not in the years", "p"),
        ('1,"p,2', "quotes", ""),
        ("1," + "p" * 200_000 + ",2", "too long", ""),
    ],
)
def test_bad_rows_are_kept_with_their_reasons(tmp_path: Path, row: str, reason: str, sensor: str) -> None:
    """A row that cannot be used is told by file, line and reason, and its neighbours are not harmed."""
    table = read(tmp_path, f"timestamp,sensor_id,a\n\n1,p,1\n{row}\n2,p,3\n")
    [rejected] = table.rejected
    assert (rejected.source, rejected.line, rejected.row) == (str(tmp_path / "pump-7.csv"), 4, 1)
    assert reason in rejected.reason and len(rejected.reason) < 120
    assert table.ids() == ["p", sensor, "p"]
    assert table.sensor.tolist() == [0, -1, 0]
    assert table.usable.tolist() == [True, False, True]
    assert table.order.tolist() == [0, 2]
    np.testing.assert_array_equal(table.values.ravel(), [1.0, np.nan, 3.0])


def test_bad_rows_in_a_later_chunk(tmp_path: Path) -> None:
    """Line numbers and rows hold across chunks, and only the bad rows are lost."""
    rows = [f"{i},{i}" for i in range(2 * CHUNK)]
    rows[CHUNK + 5] = "x,1"
    rows[CHUNK - 1] = "1,2,3"
    table = read(tmp_path, "timestamp,a\n" + "\n".join(rows))
    assert [(r.line, r.row) for r in table.rejected] == [(CHUNK + 1, CHUNK - 1), (CHUNK + 7, CHUNK + 5)]
    good = np.delete(np.arange(2 * CHUNK), [CHUNK - 1, CHUNK + 5])
    assert table.values[good, 0].tolist() == good.tolist()


@pytest.mark.parametrize(
    ("texts", "unit", "expected"),
    [
        (["1600000000", "1600000060.5"], "auto", [1_600_000_000_000, 1_600_000_060_500]),
        (["1600000000123", "1600000000124.6"], "auto", [1_600_000_000_123, 1_600_000_000_125]),
        (["1600000000123456"], "auto", [1_600_000_000_123]),
        (["1600000000123456789"], "auto", [1_600_000_000_123]),
        (["0", "1", "1600000000"], "auto", [0, 1_000, 1_600_000_000_000]),
        (["0", "1", "2"], "auto", [0, 1, 2]),
        (["0", "1", "2"], "s", [0, 1_000, 2_000]),
        (["1600000000"], "ms", [1_600_000_000]),
        (["2500000"], "us", [2_500]),
        (["2500000"], "ns", [2]),
        (["1", "1970-01-01T00:00:02Z"], "s", [1_000, 2_000]),
        (["20240131", "2024-01-31"], "auto", [20_240_131, 1_706_659_200_000]),
        (["1970-01-01 00:00:00.002777777"], "auto", [3]),
        (["2024-01-01T02:00:00+02:00"], "auto", [1_704_067_200_000]),
    ],
)
def test_times(tmp_path: Path, texts: list[str], unit: str, expected: list[int]) -> None:
    """Numbers are read in the unit that their size or the user says; ISO text says its own."""
    table = read(tmp_path, "timestamp,a\n" + "".join(f"{text},1\n" for text in texts), time_unit=unit)
    assert table.time_ms.tolist() == expected
    assert table.timestamps == texts


def test_a_broken_time_does_not_decide_the_unit(tmp_path: Path) -> None:
    """One time of thirteen digits among hundreds in seconds is a broken row, not the unit."""
    times = [str(1_600_000_000 + i) for i in range(300)] + ["1600000000000"]
    table = read(tmp_path, "timestamp,a\n" + "".join(f"{time},1\n" for time in times))
    assert table.time_ms[0] == 1_600_000_000_000
    assert [r.row for r in table.rejected] == [300]


def test_the_unit_is_judged_per_file(tmp_path: Path) -> None:
    """A file in seconds and one in milliseconds stand side by side."""
    (tmp_path / "a.csv").write_text("timestamp,v\n1600000000,1\n")
    (tmp_path / "b.csv").write_text("timestamp,v\n1600000000000,2\n")
    assert read_tables([tmp_path / "a.csv", tmp_path / "b.csv"]).time_ms.tolist() == [1_600_000_000_000] * 2


def test_several_files(tmp_path: Path) -> None:
    """Rows stand in the order of the files, channels in that of the first."""
    (tmp_path / "a.csv").write_text("timestamp,x,y\n2,1,2\n")
    (tmp_path / "b.csv").write_text("y,timestamp,x,sensor_id\n20,1,10,s\noops,3,10,s\n")
    (tmp_path / "c.jsonl").write_text(lines({"timestamp": 0, "values": {"y": 5}}))
    table = read_tables([tmp_path / name for name in ("a.csv", "b.csv", "c.jsonl")])
    assert table.channels == ("x", "y")
    np.testing.assert_array_equal(table.values, [[1, 2], [10, 20], [np.nan] * 2, [np.nan, 5]])
    assert table.ids() == ["a", "s", "s", "c"]
    assert table.order.tolist() == [3, 1, 0]
    [rejected] = table.rejected
    assert (Path(rejected.source).name, rejected.line, rejected.row) == ("b.csv", 3, 2)


def test_json_lines(tmp_path: Path) -> None:
    """All three shapes of a message are read; missing channels, null and bare NaN are missing values."""
    table = read(
        tmp_path,
        lines(
            {"sensor_id": "p", "timestamp": 1, "values": {"a": 1, "b": 2.5, "label": 1}},
            '{"sensor_id": "q", "timestamp": "1970-01-01T00:00:00.002Z", "values": {"b": NaN}}',
            {"sensor_id": "p", "timestamps": [3, 4], "values": [[5, None], [6, "NA"]], "channels": ["b", "a"]},
        ),
    )
    assert table.channels == ("a", "b")
    assert table.ids() == ["p", "q", "p", "p"]
    assert table.time_ms.tolist() == [1, 2, 3, 4]
    assert table.timestamps == ["1", "1970-01-01T00:00:00.002Z", "3", "4"]
    np.testing.assert_array_equal(table.values, [[1, 2.5], [np.nan, np.nan], [np.nan, 5], [np.nan, 6]])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"sensor_id": "p"', "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"a":' * 100_000, "not valid JSON"),
        ('{"sensor_id": "\\ud800", "timestamp": 1, "value": 1}', "not valid JSON"),
        ({"timestamp": 1, "value": 1}, "sensor_id is missing"),
        ({"sensor_id": 7, "timestamp": 1, "value": 1}, "sensor_id is not text"),
        ({"sensor_id": " ", "timestamp": 1, "value": 1}, "sensor_id is empty"),
        ({"sensor_id": "p", "value": 1}, "timestamp is missing"),
        ({"sensor_id": "p", "timestamp": True, "value": 1}, "neither text nor a number"),
        ({"sensor_id": "p", "timestamp": "soon", "value": 1}, "neither ISO 8601 nor a number"),
        ({"sensor_id": "p", "timestamp": 1}, "neither value nor values"),
        ({"sensor_id": "p", "timestamp": 1, "value": "1"}, "not a number"),
        ({"sensor_id": "p", "timestamp": 1, "value": False}, "not a number"),
        ({"sensor_id": "p", "timestamp": 1, "value": 10**400}, "infinite"),
        ({"sensor_id": "p", "timestamp": 1, "value": float("inf")}, "infinite"),
        ({"sensor_id": "p", "timestamp": 1, "values": [1]}, "not a mapping"),
        ({"sensor_id": "p", "timestamp": 1, "values": {}}, "no value of any channel"),
        ({"sensor_id": "p", "timestamp": 1, "values": {"value": 1, "b": 2}}, "'b' is not among the channels"),
        ({"sensor_id": "p", "timestamps": [1], "values": [[1], [2]]}, "the same length"),
        ({"sensor_id": "p", "timestamps": [1], "values": [[1, 2]]}, "not a list of 1 numbers"),
        ({"sensor_id": "p", "timestamps": [1], "values": [[1, 2]], "channels": ["value", "value"]}, "one twice"),
        ({"sensor_id": "p", "timestamps": [1], "values": [[1]], "channels": "value"}, "not a list of names"),
    ],
)
def test_bad_records_are_kept_with_their_reasons(tmp_path: Path, record: object, reason: str) -> None:
    """A record that cannot be used is a rejected row, before and after good ones."""
    good = {"sensor_id": "p", "timestamp": 1, "value": 1}
    table = read(tmp_path, lines(good, record, good), "pump-7.jsonl")
    assert table.channels == ("value",)
    [rejected] = table.rejected
    assert (rejected.line, rejected.row) == (2, 1)
    assert reason in rejected.reason
    assert table.usable.tolist() == [True, False, True]


def test_one_bad_reading_of_many(tmp_path: Path) -> None:
    """In a message of many readings only the bad one is lost."""
    table = read(tmp_path, lines({"sensor_id": "p", "timestamps": [1, None, 3], "values": [[1], [2], [3]]}))
    assert table.usable.tolist() == [True, False, True]
    assert table.ids() == ["p", "p", "p"]


def test_unusable_records_do_not_name_the_channels(tmp_path: Path) -> None:
    """The channels are those of the first record that can be used."""
    table = read(tmp_path, lines({"timestamp": "soon", "value": 1}, "{", {"timestamp": 1, "values": {"a": 1}}))
    assert table.channels == ("a",)
    assert table.usable.tolist() == [False, False, True]


@pytest.mark.parametrize("content", ["timestamp,a\n1,2\n", '\n {"timestamp": 1, "value": 2}\n'])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """`-` reads standard input in either format and leaves it open."""
    stdin = io.TextIOWrapper(io.BytesIO(content.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    table = read_tables(["-"])
    assert table.sensor_ids == ["stdin"]
    assert table.values.tolist() == [[2.0]]
    assert not stdin.closed
    with pytest.raises(DataError, match="only once"):
        read_tables(["-", Path("-")])


PACKED = gzip.compress(b"timestamp,a\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 1000) for i in range(3000)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n  \n", "is empty"),
        (b"timestamp,a\n", "no rows"),
        (b"time,value\n1,2\n", "no column timestamp; its columns are 'time', 'value'"),
        (b"1,2\n3,4\n", "no column timestamp"),
        (b"timestamp,sensor_id,label\n1,p,0\n", "no column with values"),
        (b"timestamp,a,a\n1,2,3\n", "more than one column 'a'"),
        (b"timestamp,a,Timestamp\n1,2,3\n", "more than one column 'timestamp'"),
        (b"timestamp,a,\n1,2,\n", "column 3 of"),
        (b"timestamp,a\nx,1\ny,2\n", "in line 2, the time 'x'"),
        (b"timestamp,a,status\n1,2,ok\n2,3,\n", "column 'status'"),
        (b"timestamp,a\n1,\xe9\n", "not UTF-8"),
        ("timestamp,a\n1,2\n".encode("utf-16"), "not UTF-8"),
        (PACKED[:-200], "gzip"),
        (PACKED[:100] + b"\0" * 50 + PACKED[150:], "gzip"),
        (PACKED[:-8] + b"\0" * 8, "gzip"),
        (b"\x1f\x8b", "gzip"),
        (b'{"timestamp": 1}\n', "in line 1, it has neither value nor values"),
        (b"{\n", "in line 1, it is not valid JSON"),
    ],
)
def test_bad_files_are_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    """A file that cannot be used is named, with what is wrong and a remedy, in one sentence."""
    message = refusal(tmp_path, content)
    assert words in message
    assert ": " in message and "\n" not in message


def test_missing_files_and_directories(tmp_path: Path) -> None:
    """A wrong name is told as such, and no file at all too."""
    for path, words in ((tmp_path / "none.csv", "does not exist"), (tmp_path, "is a directory"), ("a\0b", "name")):
        with pytest.raises(DataError, match=words):
            read_tables([path])
    with pytest.raises(DataError, match="no file"):
        read_tables([])


def test_other_channels_than_the_first_file(tmp_path: Path) -> None:
    """Files of one run have the same channels."""
    (tmp_path / "a.csv").write_text("timestamp,x\n1,2\n")
    (tmp_path / "b.csv").write_text("timestamp,y\n1,2\n")
    with pytest.raises(DataError, match=r"b\.csv has the channels 'y', the first file has 'x'"):
        read_tables([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_ignored_columns(tmp_path: Path) -> None:
    """Columns can be left out by name, in CSV and JSON; a misspelt name is refused."""
    assert read(tmp_path, "timestamp,a,Status\n1,2,ok\n", ignore=["status"]).channels == ("a",)
    record = {"timestamp": 1, "values": {"status": "ok", "a": 1}}
    assert read(tmp_path, lines(record), ignore=["status"]).channels == ("a",)
    unnamed = read(tmp_path, ",timestamp,sensor_id,a\n0,1,p,2\n", ignore=["", "sensor_id"])
    assert (unnamed.channels, unnamed.sensor_ids) == (("a",), ["pump-7"])
    with pytest.raises(DataError, match="no column 'statsu' to ignore"):
        read(tmp_path, "timestamp,a\n1,2\n", ignore=["statsu"])


def test_unknown_unit(tmp_path: Path) -> None:
    """A time unit that there is not is refused."""
    with pytest.raises(ConfigError, match="auto, s, ms, us, ns"):
        read(tmp_path, "timestamp,a\n1,2\n", time_unit="h")


def test_scores_have_one_row_an_input_row(tmp_path: Path) -> None:
    """Rejected rows keep their place, the time's text and the id; NaN is an empty cell, numbers have six digits."""
    table = read(tmp_path, 'timestamp,sensor_id,a\n2024-01-01 00:00:00,p,1\nsoon,"q,r",1\n1e3,s,1\n')
    nan = float("nan")
    target = tmp_path / "scores.csv"
    files.write_scores(
        target, table, np.array([1.23456789, nan, 2e-9]), np.array([nan, nan, 0.5]), np.array([True, False, False])
    )
    assert target.read_text() == (
        'timestamp,sensor_id,score,p_value,is_anomaly\n2024-01-01 00:00:00,p,1.23457,,1\nsoon,"q,r",,,0\n'
        "1e3,s,2e-09,0.5,0\n"
    )


def test_line_ends_in_an_id_are_quoted(tmp_path: Path) -> None:
    """An id with any line end in it, as JSON allows, is still one row."""
    table = read(tmp_path, lines(*({"sensor_id": name, "timestamp": 1, "value": 1} for name in ("a\rb", "a\nb", "c"))))
    files.write_scores(tmp_path / "s.csv", table, np.zeros(3), np.zeros(3), np.zeros(3, np.bool_))
    with (tmp_path / "s.csv").open(newline="") as file:
        assert [row["sensor_id"] for row in csv.DictReader(file)] == ["a\rb", "a\nb", "c"]


def test_lines_and_compression(tmp_path: Path) -> None:
    """Lines are written as they come, compressed where the name says so, and through a link."""
    files.write_lines(tmp_path / "a.jsonl", [b"{}", b"[]"])
    files.write_lines(tmp_path / "a.jsonl.gz", iter([b"{}", b"[]"]))
    assert (tmp_path / "a.jsonl").read_bytes() == gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == b"{}\n[]\n"
    (tmp_path / "link").symlink_to(tmp_path / "a.jsonl")
    files.write_lines(tmp_path / "link", [b"1"])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a.jsonl").read_bytes() == b"1\n"


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`-` writes to standard output."""
    files.write_lines("-", [b"a", b"b"])
    assert capfdbinary.readouterr().out == b"a\nb\n"


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    """No half file and no leftovers, whatever ends the writing."""

    def interrupted() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    target = tmp_path / "alerts.jsonl"
    files.write_lines(target, [b"old"])
    with pytest.raises(KeyboardInterrupt):
        files.write_lines(target, interrupted())
    assert target.read_bytes() == b"old\n"
    assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A missing folder, a directory, and a file for a folder are each one clear sentence."""
    (tmp_path / "file").write_text("")
    places = [(tmp_path / "none" / "a", "folder does not exist"), (tmp_path, "is a directory")]
    places += [(tmp_path / "file" / "a", "cannot be written")]
    for path, words in places:
        with pytest.raises(OutputError, match=words) as caught:
            files.write_lines(path, [b"x"])
        assert str(path) in str(caught.value)
    with pytest.raises(OutputError, match="cannot be written"):
        files.make_directory(tmp_path / "file")
    files.make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """An error in the midst of writing is one sentence, and leaves nothing behind."""

    def filling() -> Iterator[bytes]:
        yield b"x"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"alerts\.jsonl cannot be written \(No space left on device\)"):
        files.write_lines(tmp_path / "alerts.jsonl", filling())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """What is no plain file gets the lines and stays what it is; a reader that left is told of."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def unread() -> Iterator[bytes]:
        os.close(reader)
        yield b"y"

    files.write_lines(pipe, [b"x"])
    assert pipe.is_fifo() and os.read(reader, 10) == b"x\n"
    with pytest.raises(OutputError, match="closed by its reader"):
        files.write_lines(pipe, unread())


def test_times_agree_with_the_topic_s(tmp_path: Path) -> None:
    """A time means in a file what `parse_time` says it means on the topic, to the last digit."""
    texts = [f"2024-01-01T00:00:00.{micros:06d}{zone}" for micros in (499, 500, 1500, 999_500) for zone in ("", "Z")]
    table = read(tmp_path, "timestamp,a\n" + "".join(f"{text},1\n" for text in texts))
    assert table.time_ms.tolist() == [parse_time(text) for text in texts]
