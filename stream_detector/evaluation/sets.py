"""Labelled series on disk: which there are, and what is known of each.

csv   files with a column `label` (1 is an anomaly); a name that ends in `_trainN` says that its first N rows are a
      normal part to learn from.
nab   a copy of the Numenta Anomaly Benchmark: data/<folder>/<file>.csv and labels/combined_windows.json; the first
      15 % of a file, at most 750 rows, are its probation.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_detector.errors import DataError
from stream_detector.evaluation.metrics import nab
from stream_detector.records import Bools, Ints
from stream_detector.streaming.files import Table, read_tables
from stream_detector.streaming.files.delimited import DELIMITERS
from stream_detector.streaming.files.source import Source, numbered_lines

FORMATS = ("csv", "nab")
SUFFIXES = (".csv", ".csv.gz")
TRAINING_PART = re.compile(r"_train(\d+)$")
NAB_WINDOWS = Path("labels", "combined_windows.json")


@dataclass(frozen=True, slots=True)
class Series:
    """A file. windows: of NAB, texts of first and last time; None where the labels are a column."""

    name: str
    path: Path
    windows: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A series that has been read; rows in input order. spans: (E, 2) first and last row of NAB's windows."""

    table: Table
    labels: Bools
    spans: Ints | None
    learned: int | None

    @property
    def probation(self) -> int:
        """Rows, from the first on, that no measure counts, whatever was trained on."""
        return self.learned or 0


def find(path: Path, form: str) -> list[Series]:
    """All series of a set in the order of their names; raises DataError when there are none."""
    if not path.exists():
        raise DataError(f"{path} does not exist: name a directory of labelled series, or one file")
    found = _find_nab(path) if form == "nab" else _find_csv(path)
    if not found:
        raise DataError(f"{path} holds no {' or '.join(SUFFIXES)} file: name a directory of labelled series, or a file")
    return found


def read(series: Series) -> Labelled:
    """Readings and labels of a series; raises DataError when there are no labels or no readings."""
    table = read_tables([series.path])
    if series.windows is None:
        labels = _label_column(series.path)
        part = TRAINING_PART.search(series.name)
        return Labelled(table, labels, None, int(part[1]) if part else None)
    spans = _rows_of_windows(table.timestamps, series)
    labels = np.zeros(len(table), np.bool_)
    for first, last in spans.tolist():
        labels[first : last + 1] = True
    return Labelled(table, labels, spans, nab.probation(len(table)))


def _find_csv(path: Path) -> list[Series]:
    if path.is_file():
        return [Series(_stem(path.name), path)]
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(SUFFIXES))
    series = [Series(_stem(file.relative_to(path).as_posix()), file) for file in files]
    names = [one.name for one in series]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path} holds {twice[0]} both plain and compressed: leave one of them")
    return series


def _stem(name: str) -> str:
    return next(name[: -len(suffix)] for suffix in (*SUFFIXES[::-1], "") if name.lower().endswith(suffix))


def _find_nab(path: Path) -> list[Series]:
    place = path / NAB_WINDOWS
    try:
        windows = json.loads(place.read_text(encoding="utf-8"))
        return [
            Series(name.removesuffix(".csv"), path / "data" / name, tuple((str(a), str(b)) for a, b in windows[name]))
            for name in sorted(windows)
        ]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{place} cannot be read as NAB's windows ({error}): name the directory that holds data and labels, or "
            f"give --format csv"
        ) from error


def _label_column(path: Path) -> Bools:
    """The column `label`, one entry a row."""
    source = Source.of(path)
    with numbered_lines(source) as lines:
        _, first = next(lines, (0, ""))
        delimiter = max(DELIMITERS, key=first.count)
        rows = csv.reader((text for _, text in lines), delimiter=delimiter, skipinitialspace=True)
        header = [name.strip().casefold() for name in next(csv.reader([first], delimiter=delimiter), [])]
        if "label" not in header:
            raise DataError(f"{source.name} has no column label: add one with 1 for an anomaly and 0 otherwise")
        column = header.index("label")
        texts = [row[column].strip() if column < len(row) else "" for row in rows]
    known = {"0": False, "0.0": False, "1": True, "1.0": True, "": False}
    for number, text in enumerate(texts, 2):
        if text not in known:
            raise DataError(f"{source.name}, row {number}: the label is {text!r}; it must be 0 or 1")
    return np.array([known[text] for text in texts], np.bool_)


def _rows_of_windows(timestamps: list[str], series: Series) -> Ints:
    """First and last row of each window: the first rows with these times, as the benchmark's own scorer takes them."""
    first_row: dict[str, int] = {}
    for row, text in enumerate(timestamps):
        first_row.setdefault(text, row)
    found = []
    for begin, end in series.windows or ():
        rows = [first_row.get(moment.removesuffix(".000000")) for moment in (begin, end)]
        if None in rows:
            raise DataError(f"{series.path} has no row at {begin} or {end}, where a window of its labels ends")
        found.append(rows)
    return np.array(sorted(found), np.int64).reshape(-1, 2)
