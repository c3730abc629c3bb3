"""Output that goes to whoever reads it: a terminal, which nothing in it may steer, or a program, which may leave.

Knows nothing of what is printed.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import typer
from rich.console import Console

COLOURS = {"info": "cyan", "warning": "yellow", "error": "red", "critical": "bold red"}
"""By severity, the same wherever alerts are shown."""


def visible(text: str) -> str:
    """Text from outside in which characters that would steer the terminal are written out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class Pipe(Console):
    """A console on standard output that only says when the reader has left, instead of ending the process."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Leave it to `reader_may_leave`."""
        raise BrokenPipeError


def print_line(record: bytes) -> None:
    """A record of JSON as it is, on one line, at once."""
    if b"\n" in record or b"\r" in record:
        record = msgspec.json.format(record, indent=-1)
    sys.stdout.buffer.write(record + b"\n")
    sys.stdout.buffer.flush()


def hush_the_client() -> None:
    """Keep the log of Kafka's client from the terminal: what a person should know is said in a sentence of ours."""
    log = logging.getLogger("kafka")
    log.addHandler(logging.NullHandler())
    log.propagate = False


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End quietly with exit code 0 when whoever reads standard output has seen enough, even while nothing comes."""
    if hasattr(select, "poll") and stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        threading.Thread(target=_end_with_reader, name="reader", daemon=True).start()
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def _end_with_reader() -> None:
    """Nothing is half-done in a command that only reads, so there is nothing to clean up."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # The end of the other side is told unasked.
    poll.poll()
    os._exit(0)
