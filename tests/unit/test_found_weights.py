"""Weights are found by what an alert names, wherever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_detector.errors import ArtifactError
from stream_detector.models import PRETRAINED
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.settings import DetectorSettings, ModelsSettings, Settings
from stream_detector.streaming.found_weights import FoundWeights
from stream_detector.streaming.registry import Line, open_registry
from stream_detector.streaming.weights import Weights, for_channels


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a registry of their own."""
    return Settings(models=ModelsSettings(registry=str(tmp_path / "registry")), detector=DetectorSettings())


def trained() -> Artifact:
    """Weights that nothing holds by itself."""
    artifact = for_channels(artifacts.load(PRETRAINED / "encoder"), ("value", "other"))
    for parameter in artifact.model.parameters():
        parameter.requires_grad_(False).mul_(1.01)
    return artifact


@pytest.mark.parametrize("channels", [("value",), ("a", "b", "c")])
def test_the_pretrained_ones_for_any_channels(settings: Settings, channels: tuple[str, ...]) -> None:
    """They have another digest for each number of channels, and are found by it."""
    used = Weights(128).artifact("encoder", channels)
    with open_registry(settings) as registry:
        found = FoundWeights(settings, registry, None).of(used.info, "encoder", channels)
    assert found.artifact.digest == used.digest
    assert found.place == "those that come with the program"


def test_registered_ones_that_were_fitted_to_other_channels(settings: Settings) -> None:
    """A champion of one line may have judged sensors with other channels, for which it was fitted."""
    mine = trained()
    used = for_channels(mine, ("a", "b", "c"))
    with open_registry(settings) as registry:
        registry.put(mine, Line("encoder", mine.channels))
        found = FoundWeights(settings, registry, None).of(used.info, "encoder", used.channels)
        assert (found.artifact.digest, found.place) == (used.digest, "the registry")
        exact = FoundWeights(settings, registry, None).of(mine.info, "encoder", mine.channels)
        assert (exact.artifact.digest, exact.place) == (mine.digest, "the registry")


def test_models_that_need_no_training(settings: Settings) -> None:
    """They are kept nowhere, and made again."""
    used = Weights(128).artifact("moving-z", ("a", "b"))
    with open_registry(settings) as registry:
        assert FoundWeights(settings, registry, None).of(used.info, "encoder", ("a", "b")).place == "no training needed"


def test_those_that_are_gone(settings: Settings, tmp_path: Path) -> None:
    """It is said what can be done; a copy that is another one is named."""
    gone = trained()
    gone.save(tmp_path / "copy")
    Weights(128).artifact("moving-z", gone.channels).save(tmp_path / "another")
    with open_registry(settings) as registry:
        copy = FoundWeights(settings, registry, tmp_path / "copy").of(gone.info, "encoder", gone.channels)
        assert copy.place == str(tmp_path / "copy")
        with pytest.raises(ArtifactError, match=f"encoder {gone.info.version} are no longer kept: if you have a copy"):
            FoundWeights(settings, registry, None).of(gone.info, "encoder", gone.channels)
        with pytest.raises(ArtifactError, match=r"are no longer kept; .*another holds "):
            FoundWeights(settings, registry, tmp_path / "another").of(gone.info, "encoder", gone.channels)
