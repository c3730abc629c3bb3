"""Weights as bytes, and on disk: `weights.safetensors` and `manifest.json`, checked when they are read.

The digest covers the weights and everything in the manifest that can change a score; when, why and where the artifact
was made is left out, so the same training gives the same digest. The checksum covers the whole manifest. Pickle is
never loaded.
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


@dataclass(frozen=True, slots=True)
class Packed:
    """An artifact's two files."""

    manifest: bytes
    weights: bytes


@dataclass(frozen=True)
class Artifact:
    """A fitted model with all that a worker needs to use it.

    scaler: by sensor id. calibration: what `detect.thresholds` measured on held-out windows of the fleet.
    parent: digest of the artifact that training began from. decision: what was measured before this one was promoted
    or refused, and the outcome, as plain values. created: RFC 3339; empty until it is packed for the first time.
    """

    model: Model
    channels: tuple[str, ...]
    scaler: Mapping[str, SensorSeed]
    calibration: Mapping[str, Any] | None
    trained_on: TrainedOn
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str | None = None
    decision: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""

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

    def pack(self) -> Packed:
        """The artifact as bytes."""
        weights, core = self._weights(), self._core()
        manifest = {
            "format": FORMAT,
            **core,
            "trained_on": msgspec.to_builtins(self.trained_on),
            "metrics": dict(self.metrics),
            "parent": self.parent,
            "decision": dict(self.decision),
            "digest": _digest(weights, core),
            "created": self.created or datetime.now(UTC).isoformat(timespec="seconds"),
            "program": __version__,
        }
        manifest["checksum"] = _checksum(manifest)
        return Packed((json.dumps(manifest, indent=1) + "\n").encode(), weights)

    def save(self, directory: Path) -> None:
        """Write the directory whole or not at all; an artifact that is already there is replaced."""
        write(self.pack(), directory)


def write(packed: Packed, directory: Path) -> None:
    """Write an artifact's files as a directory, whole or not at all; raises OutputError."""
    with written_whole(directory, MANIFEST) as part:
        (part / WEIGHTS).write_bytes(packed.weights)
        (part / MANIFEST).write_bytes(packed.manifest)


def read(directory: Path) -> Packed:
    """The files of an artifact, unchecked; raises ArtifactError where they are missing."""
    found = []
    for name in (MANIFEST, WEIGHTS):
        try:
            found.append((directory / name).read_bytes())
        except OSError as error:
            if name == MANIFEST and isinstance(error, FileNotFoundError | NotADirectoryError):
                raise ArtifactError(
                    f"{directory} is not an artifact (no {MANIFEST} in it): name a directory that `train` wrote"
                ) from error
            raise ArtifactError(f"{directory / name} cannot be read ({error.strerror}): train again") from error
    return Packed(*found)


def load(directory: Path) -> Artifact:
    """Read an artifact; raises ArtifactError when it is missing, corrupt, newer, or of an unknown model."""
    return unpack(read(directory), str(directory))


def unpack(packed: Packed, called: str) -> Artifact:
    """The artifact that bytes hold; raises ArtifactError, as `load` does, in which the artifact is `called` so."""
    manifest = _read_manifest(packed.manifest, called)
    damaged = ArtifactError(f"{called} was changed or is damaged (its digest differs): train again")
    try:
        core = {name: manifest[name] for name in ("model", "config", "channels", "scaler", "calibration")}
        if _digest(packed.weights, core) != manifest["digest"]:
            raise damaged
        model = build(core["model"], core["config"])
        model.load_state_dict(safetensors.torch.load(packed.weights))
        artifact = Artifact(
            model=model,
            channels=tuple(core["channels"]),
            scaler=msgspec.convert(core["scaler"], dict[str, SensorSeed]),
            calibration=core["calibration"],
            trained_on=msgspec.convert(manifest["trained_on"], TrainedOn),
            metrics=manifest["metrics"],
            parent=manifest.get("parent"),
            decision=manifest.get("decision", {}),
            created=manifest["created"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{called} does not hold what its manifest promises ({error}): train again") from error
    # Artifacts of earlier versions of this program have none.
    if "checksum" in manifest and _checksum(manifest) != manifest["checksum"]:
        raise damaged
    return artifact


def build(name: str, config: Mapping[str, Any]) -> Model:
    """A model with fresh weights, by its name and the plain values of its configuration."""
    if name not in MODELS:
        raise ArtifactError(f"there is no model {name!r}: choose one of {', '.join(sorted(MODELS))}")
    model_class, config_class = MODELS[name]
    model: Model = model_class(config_class(**config))
    return model


def _read_manifest(data: bytes, called: str) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise ArtifactError(f"the manifest of {called} cannot be read ({error}): train again") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise ArtifactError(f"{called} has a {MANIFEST} that is not an artifact's manifest: train again")
    if manifest["format"] > FORMAT:
        raise ArtifactError(
            f"{called} has format {manifest['format']}, this program knows {FORMAT}: upgrade it or train again"
        )
    return manifest


def _digest(weights: bytes, core: Mapping[str, Any]) -> str:
    return hashlib.sha256(hashlib.sha256(weights).digest() + _plain(core)).hexdigest()


def _checksum(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "checksum"}
    return hashlib.sha256(_plain(rest)).hexdigest()


def _plain(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
