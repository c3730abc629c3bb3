"""The detectors' whole memory in a directory, so that a later run goes on where an earlier one stopped.

DIR/state.json            by profile: sensor ids, the layout of a row, the settings that shaped it; the watermarks
DIR/PROFILE/artifact/     the weights that its state belongs to
DIR/PROFILE/sensors.bin   the rows' bytes, one after another
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_detector.detect.detector import Detector
from stream_detector.directories import written_whole
from stream_detector.errors import ConfigError, DataError
from stream_detector.models import MODELS
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings, override
from stream_detector.streaming.profiles import Profiles

INDEX = "state.json"
ROWS = "sensors.bin"
WEIGHTS = "artifact"


@dataclass(frozen=True, slots=True)
class SavedState:
    """What a directory held."""

    directory: Path
    profiles: Mapping[str, Mapping[str, Any]]
    watermarks: Mapping[int, int]

    @property
    def sensor_ids(self) -> list[str]:
        """All sensors whose memory it holds."""
        return [sensor_id for profile in self.profiles.values() for sensor_id in profile["sensor_ids"]]

    def model_of(self, settings: Settings) -> Settings:
        """The settings, with the model that the state was saved with where they name none but a kind to train."""
        models = {str(profile["model"]) for profile in self.profiles.values()}
        if settings.detector.model in models or settings.detector.model not in MODELS or len(models) != 1:
            return settings
        return override(settings, {"model": models.pop()})

    def artifact(self, model: str) -> Artifact | None:
        """The weights that a setting `detector.model` stood for."""
        for name, profile in self.profiles.items():
            if profile["model"] == model:
                return artifacts.load(self.directory / name / WEIGHTS)
        return None

    def restore(self, profiles: Profiles) -> None:
        """Bring fresh detectors to where the saved ones stopped; refuses other settings than they ran with."""
        for name, saved in self.profiles.items():
            detector = profiles.fleet.detectors.get(name)
            if detector is None:
                raise ConfigError(
                    f"the state in {self.directory} was saved with {saved['settings']}, which no sensor has in this "
                    f"run: use the same settings, or another directory"
                )
            try:
                packed = (self.directory / name / ROWS).read_bytes()
            except OSError as error:
                raise _unreadable(self.directory, error) from error
            detector.table.restore(saved["sensor_ids"], packed, json.dumps(saved["layout"]).encode())
        profiles.fleet.watermarks.of.update(self.watermarks)
        profiles.fleet.recall()


def load(directory: Path) -> SavedState | None:
    """Read a saved state; None where there is none yet. Raises DataError when it cannot be used."""
    if not (directory / INDEX).exists():
        return None
    try:
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        profiles = {_checked(name): _profile(saved) for name, saved in index["profiles"].items()}
        watermarks = {int(partition): int(mark) for partition, mark in index["watermarks"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(directory, error) from error
    return SavedState(directory, profiles, watermarks)


def save(directory: Path, profiles: Profiles, names: Sequence[str]) -> None:
    """Write the memory of these profiles, whole or not at all."""
    detectors = {name: profiles.fleet.detectors[name] for name in names}
    index = {
        "profiles": {name: _described(profiles, name, detector) for name, detector in detectors.items()},
        "watermarks": profiles.fleet.watermarks.of,
    }
    with written_whole(directory, INDEX) as part:
        for name, detector in detectors.items():
            (part / name).mkdir()
            detector.artifact.save(part / name / WEIGHTS)
            (part / name / ROWS).write_bytes(detector.table.state.tobytes())
        (part / INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")


def _described(profiles: Profiles, name: str, detector: Detector) -> dict[str, Any]:
    options = detector.options
    return {
        "model": profiles.models[name],
        "settings": f"budget '{options.budget.text}', stride {options.stride}, threshold {options.threshold}",
        "sensor_ids": detector.table.ids,
        "layout": json.loads(detector.table.layout()),
    }


def _checked(name: str) -> str:
    """The name of a profile, which is that of a directory."""
    if not name.isalnum():
        raise ValueError(f"{name!r} is not the name of a profile")
    return name


def _profile(saved: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": str(saved["model"]),
        "settings": str(saved["settings"]),
        "sensor_ids": [str(name) for name in saved["sensor_ids"]],
        "layout": dict(saved["layout"]),
    }


def _unreadable(directory: Path, error: Exception) -> DataError:
    return DataError(f"the state in {directory} cannot be read ({error}): delete it to start afresh")
