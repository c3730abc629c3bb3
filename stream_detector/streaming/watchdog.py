"""Ends the process when its stop takes longer than it may.

What it waits for, a broker or a store that does not answer, cannot be interrupted otherwise. Nothing is lost: what is
not saved is read again by the next owner. Knows nothing of what the process does.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 0.1


def watch(stopping: Callable[[], bool], closed: threading.Event, limit_ms: int) -> None:
    """From when `stopping` says so, allow `limit_ms` for `closed` to be set; only in the main thread of a process."""
    if threading.current_thread() is threading.main_thread():
        threading.Thread(target=_watch, args=(stopping, closed, limit_ms), name="watchdog", daemon=True).start()


def _watch(stopping: Callable[[], bool], closed: threading.Event, limit_ms: int) -> None:
    while not stopping():
        time.sleep(LOOK_EVERY_S)
    if not closed.wait(limit_ms / 1000):
        logger.error(
            "the stop took longer than worker.shutdown_timeout_ms (%d ms): the process ends as it is, which loses "
            "nothing; see why Kafka or Redis do not answer",
            limit_ms,
        )
        os._exit(1)
