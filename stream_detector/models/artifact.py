"""Weights on disk: a directory of `weights.safetensors` and `manifest.json`, checked when it is read.

The digest covers the weights and everything in the manifest that can change a score; when and where the artifact
was made is left out, so the same training gives the same digest. Pickle is never loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
from safetensors import SafetensorError

from stream_detector import __version__
from stream_detector.directories import written_whole
from stream_detector.errors import ArtifactError
from stream_detector.models import MODELS
from stream_detector.models.interface import Model
from stream_detector.records import ModelInfo

FORMAT = 1
WEIGHTS = "weights.safetensors"
MANIFEST = "manifest.json"


class SensorSeed(msgspec.Struct, frozen=True):
    """What training learned of one sensor: its scale per channel, and the level of its log scores."""

    center: list[float]
    spread: list[float]
    score_median: float | None = None
    score_mad: float | None = None


class TrainedOn(msgspec.Struct, frozen=True):
    """The span of readings that the weights come from."""

    start: str
    end: str
    readings: int
    sensors: int


@dataclass(frozen=True)
class Artifact:
    """A fitted model with all that a worker needs to use it.

    scaler: by sensor id. calibration: what `detect.thresholds` measured on held-out windows of the fleet.
    """

    model: Model
    channels: tuple[str, ...]
    scaler: Mapping[str, SensorSeed]
    calibration: Mapping[str, Any] | None
    trained_on: TrainedOn
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the weights and of everything in the manifest that can change a score."""
        return _digest(self._weights(), self._core())

    @property
    def info(self) -> ModelInfo:
        """What alerts say of the model; the version is the digest's first 12 digits."""
        digest = self.digest
        return ModelInfo(self.model.name, digest[:12], f"sha256:{digest}")

    def _weights(self) -> bytes:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        return safetensors.torch.save(tensors)

    def _core(self) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "config": asdict(self.model.config),
            "channels": list(self.channels),
            "scaler": {name: msgspec.to_builtins(seed) for name, seed in self.scaler.items()},
            "calibration": self.calibration,
        }

    def save(self, directory: Path) -> None:
        """Write the directory whole or not at all; an artifact that is already there is replaced."""
        weights, core = self._weights(), self._core()
        manifest = {
            "format": FORMAT,
            **core,
            "trained_on": msgspec.to_builtins(self.trained_on),
            "metrics": dict(self.metrics),
            "digest": _digest(weights, core),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "program": __version__,
        }
        with written_whole(directory, MANIFEST) as part:
            (part / WEIGHTS).write_bytes(weights)
            (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def load(directory: Path) -> Artifact:
    """Read an artifact; raises ArtifactError when it is missing, corrupt, newer, or of an unknown model."""
    manifest = _read_manifest(directory)
    try:
        weights = (directory / WEIGHTS).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{directory / WEIGHTS} cannot be read ({error.strerror}): train again") from error
    try:
        core = {name: manifest[name] for name in ("model", "config", "channels", "scaler", "calibration")}
        if _digest(weights, core) != manifest["digest"]:
            raise ArtifactError(f"{directory} was changed or is damaged (its digest differs): train again")
        model = build(core["model"], core["config"])
        model.load_state_dict(safetensors.torch.load(weights))
        return Artifact(
            model=model,
            channels=tuple(core["channels"]),
            scaler=msgspec.convert(core["scaler"], dict[str, SensorSeed]),
            calibration=core["calibration"],
            trained_on=msgspec.convert(manifest["trained_on"], TrainedOn),
            metrics=manifest["metrics"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{directory} does not hold what its manifest promises ({error}): train again") from error


def build(name: str, config: Mapping[str, Any]) -> Model:
    """A model with fresh weights, by its name and the plain values of its configuration."""
    if name not in MODELS:
        raise ArtifactError(f"there is no model {name!r}: choose one of {', '.join(sorted(MODELS))}")
    model_class, config_class = MODELS[name]
    model: Model = model_class(config_class(**config))
    return model


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{directory} is not an artifact (no {MANIFEST} in it): name a directory that `train` wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}): train again") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise ArtifactError(f"{path} is not an artifact's manifest: train again")
    if manifest["format"] > FORMAT:
        raise ArtifactError(
            f"{directory} has format {manifest['format']}, this program knows {FORMAT}: upgrade it or train again"
        )
    return manifest


def _digest(weights: bytes, core: Mapping[str, Any]) -> str:
    text = json.dumps(core, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(hashlib.sha256(weights).digest() + text.encode()).hexdigest()
