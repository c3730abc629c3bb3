"""The shadows of a worker: challengers that run beside its champions, and what is counted of them.

The thread that watches for champions also looks which challengers are to be tried, loads and checks them, and writes
now and then into the registry what was counted. The worker calls `step` after each batch. Nothing that a shadow does
is saved or told, and one that cannot be run puts nobody out: that is said once, and counts as its fault.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

import msgspec

from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Budget, Settings
from stream_detector.streaming.hot_swap import Use, checked
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import Registry, Shadow, Tally
from stream_detector.streaming.shadow_pair import Counted, Pair
from stream_detector.streaming.worker_numbers import Numbers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A challenger that a profile is to run beside its champion; None where it cannot be run."""

    shadow: Shadow
    artifact: Artifact | None


class Shadows:
    """`step` and `renew` are for the worker's thread, `look` for the one that watches the registry."""

    def __init__(self, settings: Settings, profiles: Profiles, numbers: Numbers) -> None:
        self._profiles, self._numbers, self._share = profiles, numbers, settings.trainer.shadow_share
        slot = settings.worker.slot or f"{socket.gethostname()}-{os.getpid()}"
        self._name = f"{slot}:{uuid4().hex[:12]}"
        self._wanted: Mapping[str, Wanted] = {}
        self._pairs: dict[str, tuple[Shadow, Pair]] = {}
        self._lock = threading.Lock()
        self._tallies: dict[Shadow, Tally] = {}
        self._told: dict[Shadow, Tally] = {}

    def step(self) -> None:
        """Go through the windows of the champions' latest batch."""
        wanted = self._wanted
        if not wanted and not self._pairs:
            return
        for name in list(self._pairs):
            one = wanted.get(name)
            if one is None or one.shadow != self._pairs[name][0]:
                del self._pairs[name]
        for name, one in wanted.items():
            if one.artifact is None or self._faulty(one.shadow):
                continue
            try:
                self._run(name, one.shadow, one.artifact)
            except (ArtifactError, RuntimeError) as error:  # torch's errors, a full memory for one, are RuntimeErrors
                self._pairs.pop(name, None)
                self._fail(one.shadow, error)

    def renew(self) -> None:
        """The champions' rows were changed by something else than readings: begin with fresh copies of them."""
        for _, pair in self._pairs.values():
            pair.renew()

    def look(self, registry: Registry, uses: Mapping[str, Use]) -> None:
        """See which shadows there are, load those that are new, and write down what was counted."""
        shadows = registry.shadows()
        wanted = {}
        for name, use in uses.items():
            shadow = shadows.get(use.line.key)
            if shadow is not None and shadow.digest != use.digest.removeprefix("sha256:"):
                known = self._wanted.get(name)
                wanted[name] = known if known and known.shadow == shadow else self._load(registry, shadow, use)
        self._wanted = wanted
        self._tell(registry)

    # -- the worker's thread ----------------------------------------------------------------------------------------

    def _run(self, name: str, shadow: Shadow, artifact: Artifact) -> None:
        champion = self._profiles.fleet.detectors[name]
        found = self._pairs.get(name)
        if found is None:
            self._pairs[name] = shadow, Pair(champion, artifact, self._share)
            logger.info("profile %s tries the weights %s beside its own", name, artifact.info.version)
        elif found[1].artifact is champion.artifact:
            self._count(shadow, found[1].step(), champion.options.budget)

    def _count(self, shadow: Shadow, new: Counted, budget: Budget) -> None:
        if not new.windows:
            return
        before = self._tallies.get(shadow) or Tally(trial=shadow.trial)
        tally = Tally(
            trial=shadow.trial,
            windows=before.windows + new.windows,
            readings=before.readings + new.readings,
            challenger=before.challenger + new.challenger,
            champion=before.champion + new.champion,
            allowed=before.allowed + _allowed(new, budget),
            span_ms=before.span_ms + new.span_ms,
            sensors=max(before.sensors, sum(pair.sensors for of, pair in self._pairs.values() if of == shadow)),
        )
        with self._lock:
            self._tallies[shadow] = tally
        self._numbers.shadow_windows.inc(new.windows)
        for weights, opened in (("challenger", new.challenger), ("champion", new.champion)):
            self._numbers.shadow_alerts.labels(weights).inc(opened)

    # -- either thread ----------------------------------------------------------------------------------------------

    def _faulty(self, shadow: Shadow) -> bool:
        tally = self._tallies.get(shadow)
        return tally is not None and tally.fault is not None

    def _fail(self, shadow: Shadow, error: Exception) -> None:
        fault = str(error).partition("\n")[0]
        logger.error("the weights %s cannot be tried beside those in use: %s", shadow.digest[:12], fault)
        with self._lock:
            before = self._tallies.get(shadow) or Tally(trial=shadow.trial)
            self._tallies[shadow] = msgspec.structs.replace(before, fault=fault)

    # -- the thread that watches ------------------------------------------------------------------------------------

    def _load(self, registry: Registry, shadow: Shadow, use: Use) -> Wanted:
        if self._faulty(shadow):
            return Wanted(shadow, None)
        try:
            return Wanted(shadow, checked(registry, shadow.digest, use))
        except (ArtifactError, ConfigError, RuntimeError) as error:
            self._fail(shadow, error)
            return Wanted(shadow, None)

    def _tell(self, registry: Registry) -> None:
        with self._lock:
            tallies = dict(self._tallies)
        for shadow, tally in tallies.items():
            if self._told.get(shadow) == tally:
                continue
            if registry.tally(shadow, self._name, tally):
                self._told[shadow] = tally
                continue
            logger.info("the trial of the weights %s is over", shadow.digest[:12])
            self._told.pop(shadow, None)
            with self._lock:
                self._tallies.pop(shadow, None)


def _allowed(new: Counted, budget: Budget) -> float:
    """Alerts that the budget grants for what was gone through."""
    if budget.readings is not None:
        return budget.alerts * new.readings / budget.readings
    return budget.alerts * new.span_ms / budget.period_ms if budget.period_ms else 0.0
