"""The detector of one profile: readings of many sensors in, alerts out.

The one that runs everywhere: on files, in the demo, in the worker. It knows no clock, no file and no broker; all
its memory is one structured array, a row a sensor. `fleet` puts several of them side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from stream_detector.detect import answers, buffers, groups, incidents, quality, swap, thresholds
from stream_detector.detect.alerts import AlertWriter, Evidence
from stream_detector.detect.buffers import Buffers
from stream_detector.detect.changes import Change
from stream_detector.detect.incidents import IncidentRules, Incidents, Judged
from stream_detector.detect.quality import Batch, Quality, QualityRules
from stream_detector.detect.scoring import Scorer
from stream_detector.detect.seeds import seed_scale
from stream_detector.detect.state import SensorTable
from stream_detector.detect.thresholds import Calibration, Thresholds
from stream_detector.detect.watermark import Watermarks
from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.models.artifact import Artifact
from stream_detector.records import Alert, Bools, Ints, Readings
from stream_detector.settings import Budget, Overrides


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How a profile is judged; what the model is lies in its artifact."""

    budget: Budget
    stride: int = 1
    threshold: str = thresholds.DEFAULT
    device: str = "cpu"
    precision: str = "float32"
    source: str = "stream-detector"
    incidents: IncidentRules = field(default_factory=IncidentRules)
    quality: QualityRules = field(default_factory=QualityRules)
    overrides: Overrides = field(default_factory=Overrides)


class Detector:
    """Rolling windows, scores, thresholds and incidents of one profile's sensors.

    evidence: what the latest batch was decided on. set_aside: (N,) its readings whose time cannot be believed.
    """

    def __init__(self, artifact: Artifact, options: DetectorOptions, pulse: Callable[[], None] = lambda: None) -> None:
        self.artifact = artifact
        self.options = options
        window, channels = artifact.model.config.window, len(artifact.channels)
        if options.stride > window // 4:
            raise ConfigError(
                f"the stride {options.stride} is too long for windows of {window}: at most a quarter, {window // 4}"
            )
        self.table = SensorTable(
            buffers.fields(window, channels)
            + quality.fields(channels)
            + thresholds.fields(options.threshold)
            + incidents.FIELDS
            + groups.FIELDS
            + answers.FIELDS
        )
        self.quality = Quality(self.table, window, options.quality)
        self.buffers = Buffers(self.table, window, options.stride, self.quality)
        self.scorer = Scorer(artifact.model, torch.device(options.device), pulse, options.precision)
        self.thresholds = _thresholds(artifact, options)
        self.incidents = Incidents(self.table, options.incidents)
        self.writer = self._writer()
        self.watermarks = Watermarks()
        self.evidence: Evidence | None = None
        self.set_aside: Bools | None = None

    def sensors(self, sensor_ids: Sequence[str], partition: int = 0) -> Ints:
        """Rows of these sensors, made ready where they are new; what `Readings.sensor` refers to."""
        rows, new = self.table.rows(sensor_ids, partition)
        if len(new):
            self._start(new)
        return rows

    def warm(self, batch: Batch) -> None:
        """Take history in without judging it, so that the next reading already has a full window."""
        self.quality.begin(batch)
        self.buffers.append(batch.readings)
        self.quality.finish()

    def step(self, readings: Readings) -> list[Alert]:
        """Append readings, score the windows that fell due, decide, and tell what changed; for a profile alone."""
        partition = self.table.partition[readings.sensor]
        passage = self.watermarks.advance(partition, self.quality.clock.believed(readings))
        changes = self.judge(Batch(readings, np.arange(len(readings)), passage))
        return [self.write(change) for change in sorted(changes, key=lambda change: change.position)]

    def judge(self, batch: Batch) -> list[Change]:
        """The changes of the sensors' incidents that a batch brings; those of one sensor in order."""
        kept, clocks = self.quality.admit(batch)
        self.set_aside = None if kept is None else ~kept
        if kept is not None:
            batch = Batch(batch.readings[kept], batch.position[kept], batch.passage)
        self.quality.begin(batch)
        due = self.buffers.append(batch.readings)
        faults = self.quality.finish()
        scored = self.scorer.score(due)
        muted = answers.muted(self.table.state, due)
        due.settling[muted] = True
        decisions = self.thresholds.decide(self.table.state, due, scored.score)
        self.evidence = Evidence(due, scored, decisions)
        silences = [change for change in faults if change.kind == "sensor_silent"]
        changes = self.incidents.advance(Judged(due, scored.score, decisions, muted, batch.position), silences)
        return clocks + faults + changes

    def write(self, change: Change) -> Alert:
        """A change of the latest batch as a record."""
        return self.writer.write(change, self.table.ids[change.sensor], self.evidence)

    def swap(self, artifact: Artifact) -> None:
        """Go on with other weights: thresholds are re-seated by scoring the windows at hand with both.

        Raises ArtifactError, and stays as it is, when the artifact is for other channels or windows.
        """
        old, new = self.artifact, artifact
        if old.channels != new.channels or old.model.config.window != new.model.config.window:
            raise ArtifactError(
                f"the weights {new.info.version} are for {len(new.channels)} channels and windows of "
                f"{new.model.config.window}, in use are {len(old.channels)} and {old.model.config.window}: "
                f"they cannot be swapped"
            )
        scorer = self.scorer.like(new.model)
        judge = _thresholds(artifact, self.options)
        sides = swap.Side(self.scorer, old.scaler), swap.Side(scorer, new.scaler)
        swap.reseat(self.table, self.buffers, judge, *sides, np.arange(len(self.table)))
        self.artifact, self.scorer, self.thresholds = artifact, scorer, judge
        self.writer = self._writer()

    def take_over(self, rows: Ints, former: Artifact | None) -> None:
        """These sensors were judged by other weights: re-seat them, or let them find their level, if those are gone."""
        if (
            former is None
            or former.model.config.window != self.buffers.window
            or former.channels != self.artifact.channels
        ):
            swap.forget(self.table, self.thresholds, rows)
        else:
            old = swap.Side(self.scorer.like(former.model), former.scaler)
            new = swap.Side(self.scorer, self.artifact.scaler)
            swap.reseat(self.table, self.buffers, self.thresholds, old, new, rows)

    def _writer(self) -> AlertWriter:
        options, artifact = self.options, self.artifact
        return AlertWriter(
            options.source, artifact.channels, options.threshold, options.budget.text, artifact.info, options.overrides
        )

    def _start(self, rows: Ints) -> None:
        """Give new sensors what training knows of them."""
        seeds = self.artifact.scaler
        seed_scale(self.table, rows, seeds)
        known = [seeds.get(self.table.ids[row]) for row in rows]
        median = np.array([seed.score_median if seed and seed.score_median is not None else np.nan for seed in known])
        mad = np.array([seed.score_mad if seed and seed.score_mad is not None else np.nan for seed in known])
        self.thresholds.start(self.table.state, rows, median, mad)


def _thresholds(artifact: Artifact, options: DetectorOptions) -> Thresholds:
    calibration = Calibration.from_json(artifact.calibration) if artifact.calibration else None
    return thresholds.build(options.threshold, options.budget, calibration)
