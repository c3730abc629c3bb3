"""A detector's whole memory in a directory, so that a later run goes on where an earlier one stopped.

DIR/artifact/       the weights that the state belongs to
DIR/state.json      sensor ids, the layout of a row, the settings that shaped it
DIR/sensors.bin     the rows' bytes, one after another
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_detector.detect.detector import Detector
from stream_detector.directories import written_whole
from stream_detector.errors import ConfigError, DataError
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact

INDEX = "state.json"
ROWS = "sensors.bin"
WEIGHTS = "artifact"


@dataclass(frozen=True, slots=True)
class SavedState:
    """What a directory held."""

    directory: Path
    artifact: Artifact
    sensor_ids: Sequence[str]
    layout: bytes
    packed: bytes
    profile: str

    def restore(self, detector: Detector) -> None:
        """Bring a fresh detector to where the saved one stopped; refuses other settings than it ran with."""
        if self.profile != _profile(detector):
            raise ConfigError(
                f"the state in {self.directory} was saved with {self.profile}, this run has {_profile(detector)}: "
                f"use the same settings, or another directory"
            )
        detector.table.restore(self.sensor_ids, self.packed, self.layout)


def load(directory: Path) -> SavedState | None:
    """Read a saved state; None where there is none yet. Raises DataError when it cannot be used."""
    if not (directory / INDEX).exists():
        return None
    try:
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        packed = (directory / ROWS).read_bytes()
        ids, profile = [str(name) for name in index["sensor_ids"]], str(index["profile"])
        layout = json.dumps(index["layout"]).encode()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the state in {directory} cannot be read ({error}): delete it to start afresh") from error
    return SavedState(directory, artifacts.load(directory / WEIGHTS), ids, layout, packed, profile)


def save(directory: Path, detector: Detector) -> None:
    """Write a detector's memory, whole or not at all."""
    index = {
        "sensor_ids": detector.table.ids,
        "profile": _profile(detector),
        "layout": json.loads(detector.table.layout()),
    }
    with written_whole(directory, INDEX) as part:
        detector.artifact.save(part / WEIGHTS)
        (part / ROWS).write_bytes(detector.table.state.tobytes())
        (part / INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")


def _profile(detector: Detector) -> str:
    options = detector.options
    return f"budget '{options.budget.text}', stride {options.stride}, threshold {options.threshold}"
