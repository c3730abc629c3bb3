"""Results into files: whole, or not at all.

What is written goes to a file beside the target that takes its place at the end, so that an interrupted run leaves
what was there. A name that ends in .gz is compressed; `-` is standard output.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from stream_detector.errors import OutputError
from stream_detector.records import Bools, Floats
from stream_detector.streaming.files.table import Table

SCORE_COLUMNS = ("timestamp", "sensor_id", "score", "p_value", "is_anomaly")
CHUNK = 16_384


def write_scores(path: str | Path, table: Table, score: Floats, p_value: Floats, is_anomaly: Bools) -> None:
    """Write one CSV row an input row, in input order; score and p_value (N,) are empty where NaN.

    The time is the input's own text; is_anomaly (N,) is 0 or 1. Raises OutputError.
    """
    columns = (
        table.timestamps,
        table.ids(),
        map(_shown, score.tolist()),
        map(_shown, p_value.tolist()),
        is_anomaly.astype(int).tolist(),
    )
    rows = zip(*columns, strict=True)
    with _written(Path(path)) as out:
        out.write((",".join(SCORE_COLUMNS) + "\n").encode())
        while chunk := list(islice(rows, CHUNK)):
            out.write(_as_csv(chunk).encode())


def write_lines(path: str | Path, lines: Iterable[bytes]) -> None:
    """Write each of the lines, which come without their ends; raises OutputError."""
    with _written(Path(path)) as out:
        for line in lines:
            out.write(line + b"\n")


def make_directory(path: str | Path) -> None:
    """Make a directory, and those above it, unless it is there; raises OutputError."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(str(path), error) from error


def _as_csv(rows: Sequence[tuple[object, ...]]) -> str:
    """The rows as CSV with plain line ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    if "\r" in text.getvalue():
        # In an id from JSON: the writer leaves it bare, and readers would take it for the line's end.
        text = io.StringIO()
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def _shown(value: float) -> str:
    return "" if value != value else f"{value:.6g}"


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """Somewhere to write that becomes `path` when the block ends well."""
    try:
        if str(path) == "-":
            yield from _standard_output()
        elif path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as out:  # a pipe or a device: nothing may take its place
                yield out
        else:
            yield from _replacing(path.resolve())
    except OSError as error:
        raise _cannot_write("standard output" if str(path) == "-" else str(path), error) from error


def _standard_output() -> Iterator[BinaryIO]:
    try:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # What is still buffered goes nowhere, or the interpreter complains once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _replacing(path: Path) -> Iterator[BinaryIO]:
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            if path.suffix == ".gz":
                # No name and no time in the header: the same result is the same bytes.
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield out
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _cannot_write(name: str, error: OSError) -> OutputError:
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{name} cannot be written, because its folder does not exist: create it, or name another")
    if isinstance(error, IsADirectoryError):
        return OutputError(f"{name} is a directory: name a file in it")
    if isinstance(error, BrokenPipeError):
        return OutputError(f"{name} was closed by its reader before all was written: read it to the end")
    return OutputError(
        f"{name} cannot be written ({error.strerror or error}): name a place that you may write to and that has room"
    )
