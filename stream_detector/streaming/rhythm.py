"""When the trainer's next round comes: at an interval, and sooner while there is nothing learned yet.

Lines whose weights know nothing of their sensors are not kept waiting for an interval of hours: the next round comes
when such a line has been known for twice as long as at the last, again and again, until that is an interval. Knows
nothing of readings and of training.
"""

from __future__ import annotations

from collections.abc import Callable

from stream_detector.streaming.registry import Line

RETRY_S = 60.0
"""The soonest that a round follows another, and after an error outside, or the interval if that is shorter."""
LOOKS = 12
"""Looks for drift in an interval; a topic without readings is looked at as often."""


class Rhythm:
    """Counts the time of the lines that are new. clock: seconds."""

    def __init__(self, interval_s: float, clock: Callable[[], float]) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._begun = clock()
        self._met: dict[Line, float | None] = {}

    def meet(self, line: Line, learned: bool) -> None:
        """A line has readings. learned: whether its weights were trained on such sensors before."""
        self._met.setdefault(line, None if learned else self._clock())

    @property
    def pause_s(self) -> float:
        """Seconds until the next round."""
        if not self._met:
            return min(self.look_every_s, self._age_s(self._begun))
        new = [self._age_s(since) for since in self._met.values() if since is not None]
        return min(self._interval_s, *new) if new else self._interval_s

    @property
    def retry_s(self) -> float:
        """Seconds until the next attempt after an error outside."""
        return min(self._interval_s, RETRY_S)

    @property
    def look_every_s(self) -> float:
        """Seconds between two looks at the latest readings."""
        return max(self._interval_s / LOOKS, 1.0)

    def _age_s(self, since: float) -> float:
        return max(self._clock() - since, RETRY_S)
