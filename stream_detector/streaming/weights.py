"""The weights that a setting `detector.model` stands for: a directory, or the pretrained ones that come along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.models import MODELS, PRETRAINED, UNTRAINED
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact, TrainedOn
from stream_detector.streaming.registry import Registry


class Weights:
    """Each artifact is read once. `window` is what settings ask for.

    What a model's name stands for is the champion of its line, where a registry is given and has one.
    """

    def __init__(self, window: int, registry: Registry | None = None) -> None:
        self._window = window
        self._registry = registry
        self._read: dict[str, Artifact] = {}
        self._former: dict[tuple[str, tuple[str, ...]], Artifact | None] = {}
        self._fitted: dict[tuple[str, tuple[str, ...]], Artifact] = {}

    def artifact(self, model: str, channels: tuple[str, ...]) -> Artifact:
        """Weights for sensors with these channels, in the weights' own order where they have one.

        Raises ArtifactError or ConfigError where there are none.
        """
        found = self._fitted.get((model, channels))
        if found is None:
            found = self._fitted[model, channels] = self._fit(model, channels)
        return found

    def adopt(self, model: str, artifact: Artifact) -> None:
        """From now on these weights are meant by a model's name, for sensors with their channels."""
        self._fitted[model, artifact.channels] = artifact

    def by_digest(self, digest: str, channels: tuple[str, ...]) -> Artifact | None:
        """The weights with this digest, if the registry still has them and they fit these channels."""
        key = digest, channels
        if key not in self._former:
            try:
                self._former[key] = for_channels(self._registry.get(digest), channels) if self._registry else None
            except ArtifactError:
                self._former[key] = None
        return self._former[key]

    def _fit(self, model: str, channels: tuple[str, ...]) -> Artifact:
        champion = self._champion(model, channels)
        if champion is not None:
            return for_channels(champion, channels)
        if model in UNTRAINED:
            return _untrained(model, channels, self._window)
        read = self._read.get(model)
        if read is None:
            read = self._read[model] = artifacts.load(self._place(model))
        if model in MODELS and read.model.config.window != self._window:
            raise ConfigError(
                f"the pretrained {model} is for windows of {read.model.config.window}, detector.window is "
                f"{self._window}: leave it as it is, or train weights of your own and name them in detector.model"
            )
        return for_channels(read, channels)

    def _champion(self, model: str, channels: tuple[str, ...]) -> Artifact | None:
        """The registered weights of a name; a directory is what it is."""
        if self._registry is None or Path(model).exists():
            return None
        lines = self._registry.lines()
        of_name = [line for line in lines if line.model == model]
        exact = [line for line in of_name if sorted(line.channels) == sorted(channels)]
        for line in exact or of_name:
            digest = self._registry.champion(line)
            if digest is not None:
                artifact = self._registry.get(digest)
                if artifact.model.config.window == self._window:
                    return artifact
        return None

    @staticmethod
    def _place(model: str) -> Path:
        if model not in MODELS:
            if not Path(model).exists():
                raise ConfigError(
                    f"detector.model {model!r} is neither a model ({', '.join(sorted(MODELS))}) nor a directory with a "
                    f"trained artifact"
                )
            return Path(model)
        if not (PRETRAINED / model).exists():
            raise ConfigError(
                f"there are no pretrained weights of the model {model}: train some and name them in detector.model"
            )
        return PRETRAINED / model


def for_channels(artifact: Artifact, channels: Sequence[str]) -> Artifact:
    """The same weights for sensors with other channels, where they can be; raises ArtifactError where not."""
    if sorted(artifact.channels) == sorted(channels):
        return artifact
    config = asdict(artifact.model.config)
    if not config.get("shared"):
        raise ArtifactError(
            f"the weights are for the channels {', '.join(artifact.channels)}, the data have {', '.join(channels)}: "
            f"train on data like these, name the channels alike, or take weights that look at each channel alone "
            f"(the pretrained `encoder`, or one that was trained with `--set shared=true`)"
        )
    model = artifacts.build(artifact.model.name, {**config, "channels": len(channels)})
    model.load_state_dict(artifact.model.state_dict())
    model.train(False)
    return replace(artifact, model=model, channels=tuple(channels))


def _untrained(model: str, channels: tuple[str, ...], window: int) -> Artifact:
    nothing = TrainedOn("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", 0, 0)
    return Artifact(artifacts.build(model, {"window": window, "channels": len(channels)}), channels, {}, None, nothing)
