"""What becomes of a shadow: decided on what workers have counted of it, promoted or refused, and told.

A shadow has been seen enough when workers have scored 200 windows with it, and the sensors that they took for it have
gone through `trainer.shadow_for` of their own time, on average. It is promoted if it would have opened no more
anomalies than the champion did in the same windows, or than the budget allows there; the greater of the two may be
exceeded by `trainer.tolerance`, a share of it, and by what chance does once in a hundred times. `challenge` asks the
same of its alarms before the trial. Otherwise it is refused, and so it is, at once, where a worker cannot run it. How
many faults it finds is not asked again: a stream does not say which readings were faulty.

All that is known lies in the registry, so another trainer goes on where one has ended.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from stream_detector.errors import ArtifactError
from stream_detector.records import format_duration
from stream_detector.settings import TrainerSettings, parse_duration
from stream_detector.streaming.events import Events
from stream_detector.streaming.registry import Registry, Shadow, Tally
from stream_detector.training.challenge import most_by_chance

logger = logging.getLogger(__name__)
LEAST_WINDOWS = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a shadow may take over, why, and on which numbers."""

    passed: bool
    reason: str
    numbers: dict[str, Any]


def decide(tally: Tally, settings: TrainerSettings) -> Verdict | None:
    """The verdict on a shadow, None while too little was seen; the module's docstring has the rule."""
    most = most_by_chance(max(tally.allowed, tally.champion) * (1 + settings.tolerance))
    watched_ms = tally.span_ms // tally.sensors if tally.sensors else 0
    numbers = {
        "windows": tally.windows,
        "readings": tally.readings,
        "sensors": tally.sensors,
        "watched_ms": watched_ms,
        "alarms": tally.challenger,
        "champion_alarms": tally.champion,
        "budget_alarms": round(tally.allowed, 6),
        "most_alarms": most,
    }
    if tally.fault is not None:
        return Verdict(False, f"a worker cannot run it: {tally.fault}", numbers)
    if tally.windows < LEAST_WINDOWS or watched_ms < parse_duration(settings.shadow_for):
        return None
    passed = tally.challenger <= most
    reason = (
        f"beside the champion it would have raised {tally.challenger} alarms in {tally.windows:,} windows of "
        f"{tally.sensors} sensors over {format_duration(watched_ms)}, the champion {tally.champion}, the budget allows "
        f"{tally.allowed:.3g}: {'not more' if passed else 'more'} than chance explains (at most {most})"
    )
    return Verdict(passed, reason, numbers)


class Trials:
    """The shadows of all lines, as the trainer looks after them."""

    def __init__(self, registry: Registry, settings: TrainerSettings, events: Events) -> None:
        self._registry, self._settings, self._events = registry, settings, events

    def settle(self, lease: str | None) -> None:
        """End the trials of which enough was seen; writes under the lease."""
        if self._settings.promotion != "shadow":
            return
        for shadow in self._registry.shadows().values():
            verdict = decide(self._registry.counted(shadow), self._settings)
            if verdict is not None:
                self._end(shadow, verdict, lease)

    def _end(self, shadow: Shadow, verdict: Verdict, lease: str | None) -> None:
        outcome = "promoted" if verdict.passed else "refused"
        try:
            self._registry.settle(shadow, verdict.passed, verdict.reason, verdict.numbers, lease=lease)
        except ArtifactError as error:  # somebody was faster
            logger.info("%s", error)
            return
        logger.info("%s: %s %s: %s", shadow.line, shadow.digest[:12], outcome, verdict.reason)
        more = {"status": outcome, "reasons": [verdict.reason], "numbers": verdict.numbers, "since": shadow.since}
        self._events.tell(f"model.{outcome}", shadow.line, shadow.digest, more)
