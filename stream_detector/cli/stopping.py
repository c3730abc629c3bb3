"""How a service ends: at the first signal when its work is at a good place, at the second one at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130


@contextmanager
def stoppable(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when the process is asked to end; after the block, end with 130 if that was Ctrl-C.

    SIGTERM ends it like any other end: with what the block ends with.
    """
    signals: list[int] = []

    def asked(number: int, frame: FrameType | None) -> None:
        """The second signal waits for nothing."""
        if signals:
            raise KeyboardInterrupt
        signals.append(number)
        stop()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
    yield
    if signal.SIGINT in signals:
        sys.exit(INTERRUPTED)
