"""The detector: readings of many sensors in, alerts out.

The one that runs everywhere: on files, in the demo, in the worker. It knows no clock, no file and no broker; all
its memory is one structured array, a row a sensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from stream_detector.detect import buffers, incidents, scale, thresholds
from stream_detector.detect.alerts import AlertWriter, Judged
from stream_detector.detect.buffers import Buffers
from stream_detector.detect.incidents import IncidentRules, Incidents
from stream_detector.detect.scoring import Scorer
from stream_detector.detect.state import SensorTable
from stream_detector.detect.thresholds import Calibration
from stream_detector.errors import ConfigError
from stream_detector.models.artifact import Artifact, SensorSeed
from stream_detector.records import Alert, Ints, Readings
from stream_detector.settings import Budget


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How a profile is judged; what the model is lies in its artifact."""

    budget: Budget
    stride: int = 1
    threshold: str = thresholds.DEFAULT
    device: str = "cpu"
    source: str = "stream-detector"
    incidents: IncidentRules = field(default_factory=IncidentRules)


class Detector:
    """Rolling windows, scores, thresholds and incidents of one profile's sensors."""

    def __init__(self, artifact: Artifact, options: DetectorOptions) -> None:
        self.artifact = artifact
        self.options = options
        window, channels = artifact.model.config.window, len(artifact.channels)
        if options.stride > window // 4:
            raise ConfigError(
                f"the stride {options.stride} is too long for windows of {window}: at most a quarter, {window // 4}"
            )
        self.table = SensorTable(
            buffers.fields(window, channels) + thresholds.fields(options.threshold) + incidents.FIELDS
        )
        self.buffers = Buffers(self.table, window, options.stride)
        self.scorer = Scorer(artifact.model, torch.device(options.device))
        calibration = Calibration.from_json(artifact.calibration) if artifact.calibration else None
        self.thresholds = thresholds.build(options.threshold, options.budget, calibration)
        self.incidents = Incidents(self.table, options.incidents)
        self.writer = AlertWriter(
            options.source, artifact.channels, options.threshold, options.budget.text, artifact.info
        )
        self.judged: Judged | None = None

    def sensors(self, sensor_ids: Sequence[str]) -> Ints:
        """Rows of these sensors, made ready where they are new; what `Readings.sensor` refers to."""
        rows, new = self.table.rows(sensor_ids)
        if len(new):
            self._start(new)
        return rows

    def warm(self, readings: Readings) -> None:
        """Take history in without judging it, so that the next reading already has a full window."""
        self.buffers.append(readings)

    def step(self, readings: Readings) -> list[Alert]:
        """Append readings, score the windows that fell due, decide, and tell what changed."""
        due = self.buffers.append(readings)
        scored = self.scorer.score(due)
        decisions = self.thresholds.decide(self.table.state, due, scored.score)
        changes = self.incidents.advance(due, scored.score, decisions)
        self.judged = Judged(due, scored, decisions)
        return self.writer.write(changes, self.table.ids, self.judged)

    def _start(self, rows: Ints) -> None:
        """Give new sensors what training knows of them."""
        seeds = self.artifact.scaler
        seed_scale(self.table, rows, seeds)
        known = [seeds.get(self.table.ids[row]) for row in rows]
        median = np.array([seed.score_median if seed and seed.score_median is not None else np.nan for seed in known])
        mad = np.array([seed.score_mad if seed and seed.score_mad is not None else np.nan for seed in known])
        self.thresholds.start(self.table.state, rows, median, mad)


def seed_scale(table: SensorTable, rows: Ints, seeds: Mapping[str, SensorSeed]) -> None:
    """Start sensors that training has seen on the scale it found; the others find their own."""
    for row in rows.tolist():
        if seed := seeds.get(table.ids[row]):
            state = table.state[row]
            state["center"], state["spread"], state["folds"] = (
                seed.center,
                seed.spread,
                np.float32(scale.MEMORY),
            )
