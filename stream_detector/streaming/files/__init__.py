"""Sensor readings from files and standard input, and results into files.

It knows CSV, JSON lines and gzip, and nothing of models or detection. Read with `read_tables`; rows that cannot be
used are kept in `Table.rejected` with file, line and reason, and a file that cannot be used at all is a DataError.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream_detector.errors import ConfigError, DataError
from stream_detector.streaming.files import delimited, json_lines
from stream_detector.streaming.files.rows import Part, Shared
from stream_detector.streaming.files.source import Source, numbered_lines
from stream_detector.streaming.files.table import Rejected, Table, assemble
from stream_detector.streaming.files.times import TIME_UNITS
from stream_detector.streaming.files.writing import make_directory, write_lines, write_scores

__all__ = ["Rejected", "Table", "make_directory", "read_tables", "write_lines", "write_scores"]


def read_tables(paths: Sequence[str | Path], time_unit: str = "auto", ignore: Sequence[str] = ()) -> Table:
    """All readings of the files, in input order; `-` is standard input.

    `time_unit` is that of numeric times: auto, s, ms, us or ns; `auto` judges each file by its largest times.
    `ignore` names columns to leave out. Files of one name and without sensor ids are parts of one sensor's data.
    Raises DataError for a file that cannot be used, ConfigError for an unknown unit.
    """
    if time_unit not in TIME_UNITS:
        raise ConfigError(f"the time unit {time_unit!r} is unknown: choose one of {', '.join(TIME_UNITS)}")
    sources = [Source.of(path) for path in paths]
    if not sources:
        raise DataError("no file to read was given: name at least one, or - for standard input")
    if sum(source.path is None for source in sources) > 1:
        raise DataError("standard input can be read only once: give - a single time")
    shared = Shared(ignore)
    parts = [_read(source, shared, time_unit) for source in sources]
    shared.check_ignored()
    return assemble(parts, shared)


def _read(source: Source, shared: Shared, time_unit: str) -> Part:
    """The rows of one file, whose first line says whether it is CSV or JSON lines."""
    part = Part(source, shared)
    with numbered_lines(source) as lines:
        first = next(lines, None)
        if first is None:
            raise DataError(f"{source.name} is empty: it needs readings, one a line")
        if first[1].lstrip().startswith("{"):
            json_lines.read(first, lines, part)
        else:
            delimited.read(first, lines, part)
    part.finish(time_unit)
    return part
