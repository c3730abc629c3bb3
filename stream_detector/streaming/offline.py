"""Detection over files: the production detector, fed in time order, its results gathered by input row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from stream_detector.detect.alerts import Judged
from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.errors import ArtifactError, ConfigError, DataError
from stream_detector.models.artifact import Artifact
from stream_detector.records import Alert, Bools, Floats, Ints, Readings
from stream_detector.streaming import saved_state
from stream_detector.streaming.files import Table
from stream_detector.training import sample
from stream_detector.training.fit import Progress
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

BATCH = 4096
TRAIN_SHARE = 0.15
"""Part of the rows, from the first on, that is trained on when no artifact is given."""
LEAST_WINDOWS = 5
"""A default training part covers at least so many windows of each sensor, if the file is twice as long."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Results by input row (N,): NaN where a row was not scored. `trained` marks what the model learned from."""

    score: Floats
    p_value: Floats
    threshold: Floats
    anomalous: Bools
    trained: Bools


@dataclass(frozen=True, slots=True)
class Run:
    """What a run over files found."""

    table: Table
    detector: Detector
    alerts: list[Alert]
    rows: Rows


def history(table: Table, rows: Ints) -> History:
    """The given input rows as something to learn from."""
    return History(table.readings(rows), table.sensor_ids, table.channels)


def training_rows(table: Table, wanted: int | None, window: int) -> Ints:
    """The first rows in time, as many as asked for or 15 %; raises DataError when none would be left to judge."""
    usable = len(table.order)
    if wanted is None:
        least = LEAST_WINDOWS * window * len(table.sensor_ids)
        wanted = max(math.ceil(TRAIN_SHARE * usable), min(least, usable // 2))
    if wanted >= usable:
        raise DataError(
            f"{usable} usable rows leave none to judge after {wanted} to train on: give fewer with --train-rows, or "
            f"a trained artifact with --model"
        )
    return table.order[:wanted]


def detect(
    table: Table,
    options: DetectorOptions,
    artifact: Artifact | None,
    training: tuple[TrainOptions, int | None],
    state: Path | None,
    progress: Callable[[str], Progress],
) -> Run:
    """Judge all rows after the training part; all rows, when an artifact or a saved state is given.

    `progress` is asked for a bar by the name of the work.
    """
    trained = np.zeros(0, np.int64)
    carried = saved_state.load(state) if state else None
    if carried:
        if artifact and artifact.digest != carried.artifact.digest:
            raise ConfigError(
                f"the state in {state} belongs to the weights {carried.artifact.info.version}, not to the given "
                f"{artifact.info.version}: leave out --model, or use another directory"
            )
        artifact = carried.artifact
    if artifact and training[1] is not None:
        raise ConfigError("--train-rows has no use with a trained artifact or a saved state: leave it out")
    if artifact is None:
        trained = training_rows(table, training[1], training[0].window)
        artifact = train(history(table, trained), training[0], progress("training"))
    check_channels(artifact, table)
    detector = Detector(artifact, options)
    if carried:
        carried.restore(detector)
    rows_of = detector.sensors(table.sensor_ids)
    if len(trained):
        detector.warm(_context(table, trained, rows_of, artifact.model.config.window))
    run = _judge(table, detector, rows_of, trained, progress("detecting"))
    if state:
        saved_state.save(state, detector)
    return run


def check_channels(artifact: Artifact, table: Table) -> None:
    """Refuse weights that were made for other channels."""
    if artifact.channels != table.channels:
        raise ArtifactError(
            f"the weights are for the channels {', '.join(artifact.channels)}, the data have "
            f"{', '.join(table.channels)}: train on data like these, or name the columns alike"
        )


def _context(table: Table, trained: Ints, rows_of: Ints, window: int) -> Readings:
    """The last window of each sensor's training part: what the first judged reading is seen against."""
    known = table.readings(trained)
    return sample.tail(replace(known, sensor=rows_of[known.sensor]), window)


def _judge(table: Table, detector: Detector, rows_of: Ints, trained: Ints, progress: Progress) -> Run:
    """Step through the rows behind the training part in time order."""
    todo = table.order[len(trained) :]
    alerts: list[Alert] = []
    scored = _Gathered()
    for start in range(0, len(todo), BATCH):
        rows = todo[start : start + BATCH]
        readings = replace(table.readings(rows), sensor=rows_of[table.sensor[rows]])
        # A file has no other clock than its readings: an alert is detected when its window is complete.
        alerts += [msgspec.structs.replace(alert, detected_at=alert.window.end) for alert in detector.step(readings)]
        scored.add(detector.judged)
        progress(min(start + BATCH, len(todo)), len(todo), float(len(alerts)))
    return Run(table, detector, alerts, scored.by_row(table, rows_of, trained))


class _Gathered:
    """Judged steps of a run, to be laid beside the input rows that they belong to."""

    def __init__(self) -> None:
        self._parts: list[list[npt.NDArray[Any]]] = []

    def add(self, judged: Judged | None) -> None:
        if judged is None or not len(judged.due):
            return
        due, decided = judged.due, judged.decisions
        sensor = np.repeat(due.sensor, due.time_ms.shape[1])
        columns = (judged.scored.score, decided.p_value, decided.threshold, decided.anomalous)
        self._parts.append([sensor, due.time_ms.ravel(), *(column.ravel() for column in columns)])

    def by_row(self, table: Table, rows_of: Ints, trained: Ints) -> Rows:
        """A row gets the score of its sensor and time, so that repeated rows share one."""
        N = len(table.sensor)
        score, p_value, threshold = (np.full(N, np.nan) for _ in range(3))
        out = Rows(score, p_value, threshold, np.zeros(N, np.bool_), np.zeros(N, np.bool_))
        out.trained[trained] = True
        if not self._parts:
            return out
        sensor, time_ms, *columns = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        rows = table.order[len(trained) :]
        moments, moment = np.unique(np.concatenate([time_ms, table.time_ms[rows]]), return_inverse=True)
        key = sensor * len(moments) + moment[: len(sensor)]
        wanted = rows_of[table.sensor[rows]] * len(moments) + moment[len(sensor) :]
        order = np.argsort(key)
        at = order[np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)]
        found = key[at] == wanted
        for target, column in zip((out.score, out.p_value, out.threshold, out.anomalous), columns, strict=True):
            target[rows[found]] = column[at[found]]
        return out
