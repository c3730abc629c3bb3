"""Where lines come from: a file or standard input, plain or compressed with gzip.

It turns every failure to open, unpack or decode into a DataError, and knows nothing of what the lines say.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stream_detector.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True)
class Source:
    """One input. `name` is what messages call it, `sensor_id` the sensor of rows that name none."""

    path: Path | None
    name: str
    sensor_id: str

    @classmethod
    def of(cls, path: str | Path) -> Source:
        """The input that a command line's word stands for."""
        path = Path(path)
        if str(path) == "-":
            return cls(None, "standard input", "stdin")
        stem = path.name
        for suffix in (".gz", *SUFFIXES):
            if stem.lower().endswith(suffix):
                stem = stem[: -len(suffix)]
        return cls(path, str(path), stem.strip() or path.name)


@contextmanager
def numbered_lines(source: Source) -> Iterator[Iterator[tuple[int, str]]]:
    """The lines that are not blank, with their numbers from 1; raises DataError, also while they are read."""
    try:
        with _opened(source) as raw, io.BufferedReader(_unpacked(raw)) as data:  # type: ignore[type-var]
            text = io.TextIOWrapper(data, encoding="utf-8-sig")
            yield ((number, line) for number, line in enumerate(text, 1) if not line.isspace())
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source.name} is not UTF-8 text ({error.reason}): save or convert it as UTF-8, or name another file"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{source.name} is a damaged or incomplete gzip file ({error}): copy or download it again"
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"{source.name} does not exist: check the name and the folder") from error
    except IsADirectoryError as error:
        raise DataError(f"{source.name} is a directory: name the files in it") from error
    except OSError as error:
        raise DataError(
            f"{source.name} cannot be read ({error.strerror or error}): check that it is a file that you may read"
        ) from error


def _opened(source: Source) -> BinaryIO:
    if source.path is None:
        # Read whole, so that standard input is not closed with the wrappers around it.
        return io.BytesIO(sys.stdin.buffer.read())
    try:
        return source.path.open("rb")
    except ValueError as error:  # a NUL in the name
        raise DataError(f"{source.name!r} cannot be the name of a file ({error}): check it") from error


def _unpacked(raw: BinaryIO) -> BinaryIO:
    """The plain bytes; gzip is known by its first two bytes, since names lie. `raw` may be a pipe: no seeking."""
    data = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[type-var]
    return gzip.GzipFile(fileobj=data) if data.peek(2)[:2] == GZIP_MAGIC else data  # type: ignore[return-value]
