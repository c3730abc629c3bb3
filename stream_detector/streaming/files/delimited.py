"""CSV with a header -> rows, also with semicolons or tabs.

A line is a row: quoted line breaks are not read, so that a quote that is never closed costs one row and not the
rest of the file. Whole columns of a chunk are converted at once; cells are looked at one by one where that fails.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from stream_detector.errors import DataError
from stream_detector.records import Floats
from stream_detector.streaming.files.rows import Part, Shared
from stream_detector.streaming.files.source import Source
from stream_detector.streaming.files.times import number, numbers, shown

CHUNK = 16_384
DELIMITERS = (",", ";", "\t")
MISSING = frozenset({"", "nan", "na", "null"})


@dataclass(frozen=True, slots=True)
class Header:
    """Where things stand in a row. `channels` holds the columns in the order of the run's channels."""

    delimiter: str
    names: list[str]
    time: int
    sensor: int | None
    channels: list[int]


def read(first: tuple[int, str], lines: Iterator[tuple[int, str]], part: Part) -> None:
    """Add the rows of a file whose header is `first`; raises DataError when the columns cannot be used."""
    header = _header(first[1], part.source, part.shared)
    reader = _Reader(header, part)
    while chunk := list(islice(lines, CHUNK)):
        reader.add([line for line, _ in chunk], [text for _, text in chunk])
    reader.check_columns()


class _Reader:
    """Turns chunks of lines into rows, and remembers which columns held numbers and which words."""

    def __init__(self, header: Header, part: Part) -> None:
        self.header = header
        self.part = part
        self._has_numbers: set[int] = set()
        self._first_word: dict[int, tuple[int, str]] = {}

    def add(self, lines: list[int], texts: list[str]) -> None:
        """Add the rows of some lines."""
        reasons: dict[int, str] = {}
        rows = _split(texts, self.header.delimiter)
        width = len(self.header.names)
        for i, row in enumerate(rows):
            if len(row) != width:
                rows[i], reasons[i] = self._repaired(row)
        columns = list(zip(*rows, strict=True))
        timestamps = [text.strip() for text in columns[self.header.time]]
        if self.header.sensor is None:
            sensors = [self.part.source.sensor_id] * len(rows)
        else:
            sensors = [text.strip() for text in columns[self.header.sensor]]
        values = np.empty((len(rows), len(self.header.channels)))
        for c, column in enumerate(self.header.channels):
            values[:, c] = self._column(c, columns[column], lines, reasons)
        self.part.add(lines, timestamps, sensors, values, reasons)

    def _repaired(self, row: list[str]) -> tuple[list[str], str]:
        """What a row of the wrong width still tells, and the reason why it is not used."""
        known = {self.header.time, self.header.sensor}
        padded = [
            row[column] if column in known and column < len(row) else "" for column in range(len(self.header.names))
        ]
        if not row:
            return padded, "its quotes do not pair up, or a cell is too long"
        return padded, f"it has {len(row)} columns where the header has {len(self.header.names)}"

    def _column(self, c: int, cells: Sequence[str], lines: list[int], reasons: dict[int, str]) -> Floats:
        """One channel's numbers; NaN where a value is missing, or is none and so has a reason."""
        found = numbers(cells)
        if found is None:
            found = np.array([self._cell(c, i, cell, lines, reasons) for i, cell in enumerate(cells)])
        if c not in self._has_numbers and not np.all(np.isnan(found)):
            self._has_numbers.add(c)
        return found

    def _cell(self, c: int, i: int, cell: str, lines: list[int], reasons: dict[int, str]) -> float:
        if cell.strip().lower() in MISSING:
            return math.nan
        value = number(cell)
        if value is None:
            name = self.header.names[self.header.channels[c]]
            reasons.setdefault(i, f"{shown(name)} is {shown(cell.strip())}, which is not a number")
            self._first_word.setdefault(c, (lines[i], cell.strip()))
            return math.nan
        return value

    def check_columns(self) -> None:
        """Refuse a column without a single number but with words: nothing is lost by leaving it out."""
        for c, (line, word) in sorted(self._first_word.items()):
            if c not in self._has_numbers:
                name = self.header.names[self.header.channels[c]]
                raise DataError(
                    f"the column {shown(name)} of {self.part.source.name} holds no number (line {line}: "
                    f"{shown(word)}): a channel must be numeric; leave it out with --ignore {name}"
                )


def _split(texts: list[str], delimiter: str) -> list[list[str]]:
    """The cells of each line; none for a line that is not CSV."""
    try:
        rows = list(csv.reader(texts, delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error:
        rows = []
    # Fewer rows than lines: a quoted cell ran over the end of its line.
    return rows if len(rows) == len(texts) else [_split_one(text, delimiter) for text in texts]


def _split_one(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error:
        return []


def _header(text: str, source: Source, shared: Shared) -> Header:
    """Understand the first line; raises DataError that says what is wrong with the columns."""
    delimiter = max(DELIMITERS, key=text.count)
    names = [name.strip() for name in _split_one(text, delimiter)]
    place = {name.casefold(): column for column, name in reversed(list(enumerate(names)))}
    if "timestamp" not in place:
        raise DataError(
            f"{source.name} has no column timestamp; its columns are {shown(names)}: rename the one that holds the "
            f"time, and see that the first line is a header"
        )
    time = place["timestamp"]
    read_sensor = "sensor_id" in place and shared.is_channel("sensor_id")
    sensor = place["sensor_id"] if read_sensor else None
    special = {"timestamp", "sensor_id"}
    kept = [c for c, name in enumerate(names) if name.casefold() not in special and shared.is_channel(name)]
    _check_names(names, kept, source)
    channels = [names[c] for c in kept]
    if shared.channels is None:
        shared.channels = tuple(channels)
    elif set(channels) != set(shared.channels):
        raise DataError(
            f"{source.name} has the channels {shown(channels)}, the first file has {shown(shared.channels)}: name "
            f"the columns alike, or read the files one by one"
        )
    return Header(delimiter, names, time, sensor, [kept[channels.index(name)] for name in shared.channels])


def _check_names(names: list[str], kept: list[int], source: Source) -> None:
    if not kept:
        raise DataError(
            f"{source.name} has no column with values; its columns are {shown(names)}: it needs timestamp and at least "
            f"one channel"
        )
    special = [name.casefold() for name in names if name.casefold() in {"timestamp", "sensor_id"}]
    repeated = [name for name, count in Counter(special + [names[c] for c in kept]).items() if count > 1]
    if repeated and repeated != [""]:
        raise DataError(f"{source.name} has more than one column {shown(repeated)}: give each its own name")
    for c in kept:
        if not names[c]:
            raise DataError(
                f"column {c + 1} of {source.name} has no name: give it one in the first line, or leave it out with "
                f'--ignore ""'
            )
