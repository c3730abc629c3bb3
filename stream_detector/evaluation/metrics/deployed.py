"""What a user gets at the deployed threshold: events found, how late, and false alarms.

An alarm is an episode: flagged rows at most `EPISODE_GAP` apart, as the rows of one incident are. It is false when it
touches no event. Recall alone says nothing: an alarm that is always on has recall 1; so the share of time in alarm
stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_detector.evaluation.metrics.events import spans
from stream_detector.records import Bools, Ints

EPISODE_GAP = 10
"""Calm rows that end an episode; incidents close after as many."""
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Deployed:
    """Counts over rows, so that they can be added up over series.

    delays, delays_ms: of the events that were found, from their first row to the first flagged one.
    """

    rows: int
    span_ms: int
    events: int
    delays: tuple[int, ...]
    delays_ms: tuple[int, ...]
    false_episodes: int
    flagged: int
    hits: int
    anomalous: int

    @property
    def recall(self) -> float:
        """Share of the events with a flagged row; NaN without events."""
        return len(self.delays) / self.events if self.events else float("nan")

    @property
    def delay(self) -> float:
        """Median delay in rows of the events that were found; NaN when none was."""
        return float(np.median(self.delays)) if self.delays else float("nan")

    @property
    def delay_s(self) -> float:
        """The same in seconds."""
        return float(np.median(self.delays_ms)) / 1000 if self.delays else float("nan")

    @property
    def false_per_10k(self) -> float:
        """False episodes per 10,000 rows."""
        return 1e4 * self.false_episodes / self.rows if self.rows else float("nan")

    @property
    def false_per_day(self) -> float:
        """False episodes a day of the readings' own time."""
        return DAY_MS * self.false_episodes / self.span_ms if self.span_ms else float("nan")

    @property
    def in_alarm(self) -> float:
        """Share of the rows that are flagged."""
        return self.flagged / self.rows if self.rows else float("nan")

    @property
    def f1(self) -> float:
        """F1 of the rows, never point-adjusted; NaN without events."""
        both = self.flagged + self.anomalous
        return 2 * self.hits / both if self.anomalous else float("nan")


def deployed(labels: Bools, flags: Bools, time_ms: Ints) -> Deployed:
    """Hold flags against labels. labels, flags, time_ms: (N,) in time order."""
    found = np.flatnonzero(flags)
    delays, delays_ms = [], []
    for start, stop in spans(labels).tolist():
        at = int(np.searchsorted(found, start))
        if at < len(found) and found[at] < stop:
            delays.append(int(found[at]) - start)
            delays_ms.append(int(time_ms[found[at]] - time_ms[start]))
    false = sum(not labels[start:stop].any() for start, stop in spans(flags, EPISODE_GAP).tolist())
    return Deployed(
        rows=len(labels),
        span_ms=int(time_ms[-1] - time_ms[0]) if len(time_ms) else 0,
        events=len(spans(labels)),
        delays=tuple(delays),
        delays_ms=tuple(delays_ms),
        false_episodes=false,
        flagged=len(found),
        hits=int((flags & labels).sum()),
        anomalous=int(labels.sum()),
    )
