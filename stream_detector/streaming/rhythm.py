"""When the trainer's next round comes, and for which lines: at an interval for all, sooner for those that know little.

Lines whose weights know nothing of their sensors, or only what these were before they changed, are not kept waiting for
an interval of hours: they have a round of their own when they have been known for twice as long as at the last, again
and again, until that is an interval. Knows nothing of readings and of training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream_detector.streaming.registry import Line

RETRY_S = 60.0
"""The soonest that a round follows another, and after an error outside, or the interval if that is shorter."""
LOOKS = 12
"""Looks for drift in an interval; a topic without readings is looked at as often."""


@dataclass(frozen=True, slots=True)
class Next:
    """Seconds until the next round, and the lines that it is for; None for all."""

    pause_s: float
    only: frozenset[Line] | None = None


class Rhythm:
    """Counts the time of the lines that are young. clock: seconds."""

    def __init__(self, interval_s: float, clock: Callable[[], float]) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._begun = self._last = clock()
        self._met: set[Line] = set()
        self._young: dict[Line, float] = {}

    def ended(self, only: frozenset[Line] | None) -> None:
        """A round has ended that was for some lines, or for all (None)."""
        if only is None:
            self._last = self._clock()

    def meet(self, line: Line, learned: bool) -> bool:
        """A line has readings; whether it is new, and young. learned: whether its weights know such sensors."""
        new = line not in self._met
        self._met.add(line)
        if new and not learned:
            self.renew(line)
        return new and not learned

    def renew(self, line: Line) -> None:
        """What a line's weights know is over."""
        self._young[line] = self._clock()

    @property
    def next(self) -> Next:
        """The next round, after one without an error outside."""
        if not self._met:
            return Next(min(self.look_every_s, self._age_s(self._begun)))
        self._young = {line: since for line, since in self._young.items() if self._age_s(since) < self._interval_s}
        whole = max(self._last + self._interval_s - self._clock(), 0.0)
        soonest = min(map(self._age_s, self._young.values()), default=whole)
        return Next(soonest, frozenset(self._young)) if soonest < whole else Next(whole)

    @property
    def retry(self) -> Next:
        """The next attempt after an error outside."""
        return Next(min(self._interval_s, RETRY_S))

    @property
    def look_every_s(self) -> float:
        """Seconds between two looks at the latest readings."""
        return max(self._interval_s / LOOKS, 1.0)

    def _age_s(self, since: float) -> float:
        return max(self._clock() - since, RETRY_S)
