"""The weights that made an alert, wherever they still are.

What an alert names is the digest of the weights as they were fitted to its sensor's channels: weights that serve any
channels have another one for each number of them, so those that might be meant are fitted and compared. Knows nothing
of alerts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream_detector.errors import ArtifactError, StoreError
from stream_detector.models import PRETRAINED, UNTRAINED
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.records import ModelInfo
from stream_detector.settings import Settings
from stream_detector.streaming.registry import Registry
from stream_detector.streaming.weights import Weights, for_channels


@dataclass(frozen=True, slots=True)
class Found:
    """Weights, and where they were found, in words."""

    artifact: Artifact
    place: str


class FoundWeights:
    """Looks for weights in a directory, if one is given, in the registry, and among what settings may mean."""

    def __init__(self, settings: Settings, registry: Registry, given: Path | None) -> None:
        self._settings, self._registry, self._given = settings, registry, given
        self._loaded = artifacts.load(given) if given else None

    def of(self, wanted: ModelInfo, model: str, channels: tuple[str, ...]) -> Found:
        """The weights that an alert names; raises ArtifactError that says what is left to do.

        model: the setting `detector.model` that holds for the sensor now.
        """
        away = ""
        try:
            for place, artifact in self._candidates(wanted, model, channels):
                fitted = _fitted(artifact, channels)
                if fitted is not None and fitted.info.digest == wanted.digest:
                    return Found(fitted, place)
        except StoreError as error:
            away = f" in what can be reached ({error})"
        other = f"; {self._given} holds {self._loaded.info.version}" if self._loaded else ""
        raise ArtifactError(
            f"the weights {wanted.name} {wanted.version} are no longer kept{away}{other}: if you have a copy of them, "
            f"give its directory with --model"
        )

    def _candidates(
        self, wanted: ModelInfo, model: str, channels: tuple[str, ...]
    ) -> Iterator[tuple[str, Artifact | None]]:
        """Those that might be meant, the likeliest first; the registry's as they lie there."""
        if self._loaded is not None:
            yield str(self._given), self._loaded
        if wanted.name in UNTRAINED:
            yield "no training needed", Weights(self._settings.detector.window).artifact(wanted.name, channels)
        if Path(model).exists():
            yield model, _loaded(Path(model))
        elif (PRETRAINED / wanted.name).exists():
            yield "those that come with the program", _loaded(PRETRAINED / wanted.name)
        yield "the registry", self._registered(wanted.digest)
        for record in self._registry.records():
            for version in reversed(record.versions):
                yield "the registry", self._registered(version.digest)

    def _registered(self, digest: str) -> Artifact | None:
        try:
            return self._registry.get(digest)
        except ArtifactError:
            return None


def _loaded(directory: Path) -> Artifact | None:
    try:
        return artifacts.load(directory)
    except ArtifactError:
        return None


def _fitted(artifact: Artifact | None, channels: tuple[str, ...]) -> Artifact | None:
    try:
        return None if artifact is None else for_channels(artifact, channels)
    except ArtifactError:
        return None
