"""From settings to detectors: which sensors share one, and how it judges.

A profile is what sensors have in common: channels, model, stride, budget, threshold. It comes into being with its
first sensor. Knows settings and artifacts; not where readings come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.detect.fleet import Fleet, Part
from stream_detector.detect.incidents import IncidentRules
from stream_detector.detect.quality import QualityRules
from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.models.artifact import Artifact
from stream_detector.records import Bools, Floats, Ints, Readings
from stream_detector.settings import Budget, DetectorSettings, Overrides, Settings, parse_duration

Channels = tuple[str, ...]
MOST_SPARSE = 8
"""Numbers up to so many times as many as there are values are counted in a table; beyond, they are sorted."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings (N,) of sensors with the same channels. sensor counts in sensor_ids; the rest is as in `Readings`.

    partition: (N,) where each was read. position: (N,) its place in the whole batch, rising.
    """

    channels: Channels
    sensor_ids: Sequence[str]
    sensor: Ints
    time_ms: Ints
    values: Floats
    partition: Ints
    position: Ints
    received_ms: Ints | None = None

    def some(self, at: Bools) -> Columns:
        """The readings marked in (N,)."""
        received = None if self.received_ms is None else self.received_ms[at]
        return Columns(
            self.channels,
            self.sensor_ids,
            self.sensor[at],
            self.time_ms[at],
            self.values[at],
            self.partition[at],
            self.position[at],
            received,
        )


@dataclass
class Profiles:
    """The fleet of detectors that the settings call for. `artifact_for` is asked by model and channels.

    pulse: called now and then while windows are scored. former: weights by digest, for sensors that were judged by
    other ones before. models: by profile, the setting `detector.model` that holds for it.
    """

    settings: Settings
    artifact_for: Callable[[str, Channels], Artifact]
    pulse: Callable[[], None] = lambda: None
    former: Callable[[str, Channels], Artifact | None] = lambda digest, channels: None
    overrides: Overrides = field(init=False)
    fleet: Fleet = field(init=False)

    def __post_init__(self) -> None:
        self.overrides = Overrides(self.settings.sensors)
        self.fleet = Fleet(self.overrides, parse_duration(self.settings.incidents.group_within))
        self.models: dict[str, str] = {}
        self._shapes: dict[str, str] = {}
        self._name_of: dict[tuple[str, Channels], str] = {}

    def judged_by(self, sensor_id: str) -> DetectorSettings:
        """The detector's settings as they hold for a sensor."""
        base, own = self.settings.detector, self.overrides.of(sensor_id if self.overrides else "")
        changed = {key: value for key in ("model", "stride", "threshold") if (value := getattr(own, key)) is not None}
        budget = DetectorSettings(sensitivity=own.sensitivity).chosen_budget if own.sensitivity else own.budget
        # The one-word form was resolved above; what is left speaks of a budget only.
        return base.model_copy(update={**changed, "sensitivity": None, "budget": budget or base.chosen_budget})

    def channels_of(self, sensor_id: str, offered: Channels) -> Channels:
        """The channels of a sensor: those that settings name, else those it is known with, else those it came with.

        The order of those it came with is that of the weights.
        """
        named = self.overrides.of(sensor_id).channels if self.overrides else None
        known = (d.artifact.channels for d in self.fleet.detectors.values() if d.table.find(sensor_id))
        if found := named or next(known, None):
            return found
        try:
            return self.artifact_for(self.judged_by(sensor_id).model, tuple(sorted(offered))).channels
        except (ArtifactError, ConfigError):
            return offered

    def names(self, sensor_ids: Sequence[str], channels: Channels) -> list[str | None]:
        """The profiles of sensors with these channels; None for one that has, by now, other channels."""
        usual: list[str | None] = []
        found = []
        for sensor_id in sensor_ids:
            alike = not self.overrides and not any(d.table.find(sensor_id) for d in self.fleet.detectors.values())
            if alike and usual:
                found += usual
                continue
            fits = bool(channels) and self.channels_of(sensor_id, channels) == channels
            found.append(self.name(sensor_id, channels) if fits else None)
            usual = found[-1:] if alike else usual
        return found

    def swap(self, name: str, artifact: Artifact) -> None:
        """Go on with other weights in a profile; raises ArtifactError where they do not fit it."""
        detector = self.fleet.detectors[name]
        detector.swap(artifact)
        self.fleet.touch_all(name)

    def count(self, partition: int) -> int:
        """Sensors that are known of a partition."""
        return sum(detector.table.count(partition) for detector in self.fleet.detectors.values())

    def knows(self, sensor_id: str, partition: int) -> bool:
        """Whether a sensor of a partition is known."""
        tables = (detector.table for detector in self.fleet.detectors.values())
        return any(partition in table.partition[table.find(sensor_id)] for table in tables)

    def name(self, sensor_id: str, channels: Channels) -> str:
        """The profile of a sensor, made where it is new; raises ConfigError or ArtifactError where it cannot be."""
        key = (sensor_id if self.overrides else "", channels)
        found = self._name_of.get(key)
        if found is None:
            found = self._name_of[key] = self._make(self.judged_by(sensor_id), channels)
        return found

    def shape(self, name: str) -> str:
        """The shape of a profile's rows: profiles that differ in judgement alone share one."""
        return self._shapes[name]

    def parts(self, columns: Columns) -> list[Part]:
        """The readings by profile, with the rows of their sensors; new sensors appear by themselves."""
        pair = columns.partition * len(columns.sensor_ids) + columns.sensor
        pairs, of_reading = _numbered(pair)
        partition, sensor = np.divmod(pairs, len(columns.sensor_ids))
        names = [self.name(columns.sensor_ids[i], columns.channels) for i in sensor.tolist()]
        rows = np.empty(len(pairs), np.int64)
        profile = np.empty(len(pairs), np.int64)
        distinct = list(dict.fromkeys(names))
        number = {name: i for i, name in enumerate(distinct)}
        profile[:] = [number[name] for name in names]
        for i, name in enumerate(distinct):
            detector = self.fleet.detectors[name]
            for p in np.unique(partition[profile == i]).tolist():
                mine = np.flatnonzero((profile == i) & (partition == p))
                rows[mine] = detector.sensors([columns.sensor_ids[s] for s in sensor[mine].tolist()], p)
        parts = []
        for i, name in enumerate(distinct):
            at = slice(None) if len(distinct) == 1 else np.flatnonzero(profile[of_reading] == i)
            received = None if columns.received_ms is None else columns.received_ms[at]
            readings = Readings(rows[of_reading[at]], columns.time_ms[at], columns.values[at], received)
            parts.append(Part(name, readings, columns.position[at]))
        return parts

    def _make(self, judged_by: DetectorSettings, channels: Channels) -> str:
        name = profile_name(judged_by, channels)
        if name not in self.fleet.detectors:
            artifact = self.artifact_for(judged_by.model, channels)
            self.fleet.detectors[name] = Detector(
                artifact, options(judged_by, self.settings, self.overrides), lambda: self.pulse()
            )
            self._shapes[name] = shape_name(channels, artifact.model.config.window, judged_by.threshold)
            self.models[name] = judged_by.model
        return name


def _numbered(values: Ints) -> tuple[Ints, Ints]:
    """The distinct values of (N,), at least 0, rising, and for each of the N which of them it is."""
    most = int(values.max(initial=-1)) + 1
    if most >= MOST_SPARSE * len(values):
        found, which = np.unique(values, return_inverse=True)
        return found, which
    number = np.zeros(most, np.int64)
    number[values] = 1
    found = np.flatnonzero(number)
    number[found] = np.arange(len(found))
    return found, number[values]


def profile_name(judged_by: DetectorSettings, channels: Channels) -> str:
    """A short name that is the same in every process with the same settings."""
    parts = [str(Path(judged_by.model)), str(judged_by.stride), judged_by.chosen_budget, judged_by.threshold, *channels]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def shape_name(channels: Channels, window: int, threshold: str) -> str:
    """A short name for what a row of the state looks like."""
    parts = [str(window), threshold.partition(":")[0], *channels]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def options(judged_by: DetectorSettings, settings: Settings, overrides: Overrides) -> DetectorOptions:
    """The detector's options from settings."""
    rules = settings.incidents.model_dump(exclude={"group_within"})
    quality = settings.quality
    return DetectorOptions(
        budget=Budget.parse(judged_by.chosen_budget),
        stride=judged_by.stride,
        threshold=judged_by.threshold,
        device=device(judged_by.device),
        precision=judged_by.precision,
        incidents=IncidentRules(**rules),
        quality=QualityRules(quality.silent_after, quality.stuck_after, parse_duration(quality.clock_ahead)),
        overrides=overrides,
    )


def device(name: str) -> str:
    """A device that torch can use; raises ConfigError where it cannot."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"the device {name!r} cannot be used here ({reason}): try --device cpu") from error
    return name
