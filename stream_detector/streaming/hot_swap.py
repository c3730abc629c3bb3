"""New champions for detectors at work: found and checked beside the hot path, taken over between two batches.

A thread asks the registry every other second which weights are in use. What is new it loads, checks, and tries on
windows of noise; only then may the worker have it. Weights that cannot be used are told of once, and the old ones
go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from stream_detector.errors import ArtifactError, ConfigError, StreamDetectorError
from stream_detector.models.artifact import Artifact
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import Line, Registry
from stream_detector.streaming.weights import Weights, for_channels

logger = logging.getLogger(__name__)
EVERY_S = 2.0
TRIED = 8
"""Windows of noise that new weights must score with numbers before they are let in."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a profile uses: its line of weights, and the digest and the window of those at work."""

    line: Line
    digest: str
    window: int


Look = Callable[[Registry, Mapping[str, Use]], None]
"""Looks at the registry, for what profiles use."""


class HotSwap:
    """Watches the registry for a worker; `ready` hands over what it found. also: who looks at it on the same thread."""

    def __init__(self, registry: Registry, weights: Weights, every_s: float = EVERY_S) -> None:
        self._registry, self._weights, self._every_s = registry, weights, every_s
        self._lock = threading.Lock()
        self._uses: Mapping[str, Use] = {}
        self._found: dict[str, Artifact] = {}
        self.also: list[Look] = []
        self._refused: set[tuple[str, str]] = set()
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="champions", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._every_s + 1)

    def ready(self, profiles: Profiles) -> dict[str, Artifact]:
        """New weights by profile, loaded and checked; each is given once. To be called between batches."""
        uses = {
            name: Use(
                Line(profiles.models[name], detector.artifact.channels),
                detector.writer.model.digest,
                detector.artifact.model.config.window,
            )
            for name, detector in profiles.fleet.detectors.items()
        }
        with self._lock:
            self._uses = uses
            found, self._found = self._found, {}
        return {name: artifact for name, artifact in found.items() if name in uses}

    def look(self) -> None:
        """Ask once, and load what is new."""
        champions = self._registry.champions()
        with self._lock:
            uses, waiting = dict(self._uses), set(self._found)
        for name, use in uses.items():
            champion = champions.get(use.line.key)
            if champion is None or name in waiting or champion.digest == use.digest.removeprefix("sha256:"):
                continue
            if (name, champion.digest) in self._refused:
                continue
            try:
                artifact = checked(self._registry, champion.digest, use)
            except (ArtifactError, ConfigError) as error:
                self._refused.add((name, champion.digest))
                logger.error("the weights %s are refused, the old ones go on: %s", champion.digest[:12], error)
                continue
            self._weights.adopt(use.line.model, artifact)
            with self._lock:
                self._found[name] = artifact
        for look in self.also:
            look(self._registry, uses)

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.look()
                self._away = False
            except StreamDetectorError as error:
                if not self._away:
                    logger.warning("the registry of weights cannot be read, those at work go on: %s", error)
                self._away = True


def checked(registry: Registry, digest: str, use: Use) -> Artifact:
    """Weights for a profile, tried on windows of noise; raises ArtifactError or ConfigError for those it cannot use."""
    artifact = for_channels(registry.get(digest), use.line.channels)
    model = artifact.model
    if model.config.window != use.window:
        raise ArtifactError(f"they are for windows of {model.config.window}, in use are windows of {use.window}")
    noise = torch.randn((TRIED, use.window, len(artifact.channels)), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = model.score(noise, 1)
    if not all(torch.isfinite(part).all() for part in (scores.score, scores.expected, scores.lower, scores.upper)):
        raise ArtifactError("they score windows of noise with values that are no numbers")
    return artifact
