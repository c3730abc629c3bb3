"""The trainer's lease on the registry: one trainer at a time, and a way to stop that is looked at as often.

Knows when to renew; not what is done under the lease.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stream_detector.errors import FencedError, OutsideError
from stream_detector.streaming.registry import Registry

logger = logging.getLogger(__name__)
NAME = "trainer"
LEASE_S = 60.0
RENEW_S = 15.0
WAIT_S = 0.2


class Stopped(Exception):  # noqa: N818
    """The holder was told to end."""


class Lease:
    """Held from `take` on, as long as `pulse` is called often, which tells `beat` so.

    token: what every write has to name. well: whether the registry answered when it was asked last.
    """

    def __init__(self, registry: Registry, beat: Callable[[], None] = lambda: None) -> None:
        self._registry, self._beat = registry, beat
        self._renewed_s = 0.0
        self.token: str | None = None
        self.stopping = False
        self.well = False

    def take(self) -> None:
        """Hold the lease; waits, and says so, while another has it."""
        holder, told = f"{socket.gethostname()}:{os.getpid()}", False
        while self.token is None:
            self.pulse()
            with self._asking():
                self.token = self._registry.lease(NAME, holder, LEASE_S)
            self._renewed_s = time.monotonic()
            if self.token is None:
                if not told:
                    logger.info("another trainer (%s) is at work; waiting for it to end", self._registry.holder(NAME))
                told = True
                time.sleep(WAIT_S)

    def pulse(self) -> None:
        """Raise Stopped when it is time to end, FencedError when another has taken over; else renew when it is due."""
        self._beat()
        if self.stopping:
            raise Stopped
        if self.token is not None and time.monotonic() - self._renewed_s > RENEW_S:
            with self._asking():
                held = self._registry.renew(self.token, LEASE_S)
            if not held:
                self.token = None
                raise FencedError("another trainer has taken over: nothing was written; waiting for it to end")
            self._renewed_s = time.monotonic()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Note whether the registry answers."""
        try:
            yield
        except OutsideError:
            self.well = False
            raise
        self.well = True

    @contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Until Stopped is raised inside; then, and after every other end, another can take over at once."""
        try:
            yield
        except Stopped:
            logger.info("stopped")
        finally:
            if self.token is not None:
                try:
                    self._registry.release(self.token)
                except OutsideError as error:
                    logger.info("the lease runs out by itself in %.0f s (%s)", LEASE_S, error)
                self.token = None
