"""Artifacts: what is written is read back, and anything else is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stream_detector.errors import ArtifactError, OutputError
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import MANIFEST, WEIGHTS, Artifact, SensorSeed, TrainedOn, build


def artifact_of(seed: int = 0) -> Artifact:
    """A small encoder with random weights."""
    torch.manual_seed(seed)
    return Artifact(
        model=build("encoder", {"window": 16, "channels": 2, "width": 8, "feedforward": 8}),
        channels=("temperature", "vibration"),
        scaler={"pump-7": SensorSeed([1.0, 2.0], [0.5, 0.25], -3.0, 0.5)},
        calibration=None,
        trained_on=TrainedOn("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 1000, 1),
        metrics={"fit_loss": 0.5},
    )


def test_round_trip(tmp_path: Path) -> None:
    """Configuration, weights, scaler, span and digest survive the disk; an artifact in place is replaced."""
    artifact_of(1).save(tmp_path / "artifact")
    artifact = artifact_of()
    artifact.save(tmp_path / "artifact")
    loaded = artifacts.load(tmp_path / "artifact")
    assert loaded.info == artifact.info
    assert (loaded.channels, loaded.scaler, loaded.trained_on) == (
        artifact.channels,
        artifact.scaler,
        artifact.trained_on,
    )
    windows = torch.randn(3, 16, 2)
    assert torch.equal(loaded.model.score(windows, 1).score, artifact.model.score(windows, 1).score)
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_the_digest_names_what_scores() -> None:
    """Other weights, another scale: another digest; when it was made does not count."""
    assert artifact_of().digest == artifact_of().digest
    assert artifact_of().digest != artifact_of(1).digest


def changed(directory: Path, **values: object) -> None:
    """Change top-level values of a manifest, without making its digest right again."""
    path = directory / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: (d / MANIFEST).unlink(), "not an artifact"),
        (lambda d: (d / MANIFEST).write_text("{"), "cannot be read"),
        (lambda d: (d / MANIFEST).write_text("[]"), "not an artifact's manifest"),
        (lambda d: (d / WEIGHTS).unlink(), "cannot be read"),
        (lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:-9]), "damaged"),
        (lambda d: changed(d, channels=["a", "b"]), "damaged"),
        (lambda d: changed(d, format=99), "upgrade"),
        (lambda d: changed(d, trained_on={}), "promises"),
        (lambda d: changed(d, digest=None), "damaged"),
    ],
)
def test_a_damaged_artifact_is_refused(tmp_path: Path, damage: object, said: str) -> None:
    """Every kind of damage is one clear error that names the artifact."""
    directory = tmp_path / "artifact"
    artifact_of().save(directory)
    damage(directory)
    with pytest.raises(ArtifactError, match=said) as caught:
        artifacts.load(directory)
    assert str(directory) in str(caught.value)


def test_another_directory_is_never_replaced(tmp_path: Path) -> None:
    """A directory with other things in it, or a file, is left alone."""
    (tmp_path / "thesis.txt").write_text("precious")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(OutputError, match="something else"):
            artifact_of().save(place)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_unknown_models_are_named() -> None:
    """A model that this program does not know is refused with those it knows."""
    with pytest.raises(ArtifactError, match="encoder"):
        build("oracle", {})
