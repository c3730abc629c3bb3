"""Directories that are written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_detector.errors import OutputError


@contextmanager
def written_whole(directory: Path, marker: str) -> Iterator[Path]:
    """Give a fresh directory to write into, and put it in the place of `directory` when the block ends well.

    Only an empty directory, or one that holds the file `marker` and so was written like this before, is replaced.
    Raises OutputError.
    """
    replaceable = not directory.exists() or (directory / marker).is_file()
    if not replaceable and not (directory.is_dir() and not any(directory.iterdir())):
        raise OutputError(f"{directory} holds something else: choose another place, or empty it first")
    directory = directory.absolute()
    part = directory.with_name(f".{directory.name}.part")
    old = directory.with_name(f".{directory.name}.old")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(old, ignore_errors=True)
        if directory.exists():
            directory.rename(old)
        part.rename(directory)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written ({error.strerror}): choose a place that can be written and has room"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
