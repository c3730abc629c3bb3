"""What a run over files found of each input row, gathered from the batches that detectors judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_detector.detect.alerts import Evidence
from stream_detector.detect.detector import Detector
from stream_detector.records import Bools, Floats, Ints
from stream_detector.streaming.files import Table


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Results by input row (N,): NaN where a row was not scored. `trained` marks what the model learned from."""

    score: Floats
    p_value: Floats
    threshold: Floats
    anomalous: Bools
    trained: Bools


class Gathered:
    """Judged steps of a run, to be laid beside the input rows that they belong to."""

    def __init__(self, sensor_ids: Sequence[str]) -> None:
        self._number = {sensor_id: i for i, sensor_id in enumerate(sensor_ids)}.__getitem__
        self._parts: list[list[npt.NDArray[Any]]] = []

    def add(self, detector: Detector) -> None:
        """What a detector has decided in its latest batch."""
        evidence: Evidence | None = detector.evidence
        if evidence is None or not len(evidence.due):
            return
        due, decided = evidence.due, evidence.decisions
        ids = detector.table.ids
        sensor = np.array([self._number(ids[row]) for row in due.sensor.tolist()]).repeat(due.time_ms.shape[1])
        columns = (evidence.scored.score, decided.p_value, decided.threshold, decided.anomalous)
        self._parts.append([sensor, due.time_ms.ravel(), *(column.ravel() for column in columns)])

    def by_row(self, table: Table, trained: Ints) -> ScoredRows:
        """A row gets the score of its sensor and time, so that repeated rows share one."""
        N = len(table.sensor)
        score, p_value, threshold = (np.full(N, np.nan) for _ in range(3))
        out = ScoredRows(score, p_value, threshold, np.zeros(N, np.bool_), np.zeros(N, np.bool_))
        out.trained[trained] = True
        if not self._parts:
            return out
        sensor, time_ms, *columns = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        rows = table.order[len(trained) :]
        moments, moment = np.unique(np.concatenate([time_ms, table.time_ms[rows]]), return_inverse=True)
        key = sensor * len(moments) + moment[: len(sensor)]
        wanted = table.sensor[rows] * len(moments) + moment[len(sensor) :]
        order = np.argsort(key)
        at = order[np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)]
        found = key[at] == wanted
        for target, column in zip((out.score, out.p_value, out.threshold, out.anomalous), columns, strict=True):
            target[rows[found]] = column[at[found]]
        return out
