"""Scores of a series held against its labels, from the file that keeps them.

What counts. Rows that were trained on, the named normal part and NAB's probation are left out. Any other row without a
score (a window was not full yet, or the row could not be used) counts as the least anomalous: what a detector does not
judge it has missed. Rows are taken in time order, one sensor after another.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stream_detector.errors import DataError
from stream_detector.evaluation.metrics.affiliation import affiliation
from stream_detector.evaluation.metrics.buffer import buffer_of
from stream_detector.evaluation.metrics.deployed import Deployed, deployed
from stream_detector.evaluation.metrics.nab import NabSeries
from stream_detector.evaluation.metrics.ranking import auc_pr, roc_auc, vus_pr
from stream_detector.evaluation.sets import Labelled
from stream_detector.records import Bools, Floats
from stream_detector.streaming.files import make_directory, write_lines

COLUMNS = ("timestamp", "score", "is_anomaly")
TSB_THRESHOLDS = 250


@dataclass(frozen=True, slots=True)
class Facts:
    """What the scores do not tell of a run: rows trained on, readings scored, seconds of processor time for it."""

    trained: int
    scored: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's results are kept below a directory."""

    directory: Path
    detector: str
    series: str

    @property
    def scores(self) -> Path:
        """One row an input row; written last, so that a run with this file is complete."""
        return self._file("scores", "csv")

    @property
    def alerts(self) -> Path:
        """Alert records, one a line."""
        return self._file("alerts", "jsonl")

    @property
    def facts(self) -> Path:
        """The run's `Facts`."""
        return self._file("facts", "json")

    def _file(self, kind: str, suffix: str) -> Path:
        return self.directory / kind / self.detector / f"{self.series}.{suffix}"


@dataclass(frozen=True, slots=True)
class Result:
    """How good one detector is on one sensor of one series.

    vus: VUS-PR with every threshold. vus_tsb: with 250 thresholds, as TSB-AD has it. nab: the file for the corpus's
    score, where it is one of NAB's.
    """

    detector: str
    series: str
    buffer: int
    vus: float
    vus_tsb: float
    auc_pr: float
    roc_auc: float
    deployed: Deployed
    affiliation: tuple[float, float, float]
    facts: Facts
    nab: NabSeries | None = None


def write(place: Place, timestamps: list[str], score: Floats, flags: Bools, facts: Facts, alerts: list[bytes]) -> None:
    """Keep what a run gave, the scores last. score: (N,) NaN is written as nothing."""
    for path in (place.alerts, place.facts, place.scores):
        make_directory(path.parent)
    write_lines(place.alerts, alerts)
    write_lines(place.facts, [json.dumps(asdict(facts)).encode()])
    text = io.StringIO()
    shown = ["" if value != value else f"{value:.9g}" for value in score.tolist()]
    rows = zip(timestamps, shown, flags.astype(int).tolist(), strict=True)
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_lines(place.scores, [text.getvalue()[:-1].encode()])


def read_scores(path: Path, rows: int) -> tuple[Floats, Bools]:
    """Scores (N,), NaN where there is none, and flags; raises DataError when the file is not of these rows."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            columns = list(zip(*reader, strict=True))
        if header != list(COLUMNS) or len(columns) != len(COLUMNS) or len(columns[0]) != rows:
            raise ValueError(f"it does not hold {rows} rows of {', '.join(COLUMNS)}")
        score = np.array([float(text) if text else np.nan for text in columns[1]])
        return score, np.array([text == "1" for text in columns[2]], np.bool_)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be used ({error}): remove it to have it made again") from error


def read_facts(path: Path) -> Facts:
    """Facts of a run; raises DataError when they cannot be read."""
    try:
        return Facts(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be used ({error}): remove its scores to have both made again") from error


def judge(labelled: Labelled, place: Place) -> list[Result]:
    """Hold the kept scores of a series against its labels, one result a sensor."""
    table, facts = labelled.table, read_facts(place.facts)
    score, flags = read_scores(place.scores, len(table))
    left_out = max(facts.trained, labelled.probation)
    counting = table.order[left_out:]
    found = []
    for index, sensor_id in enumerate(table.sensor_ids):
        rows = counting[table.sensor[counting] == index]
        labels = labelled.labels[rows]
        mine = table.order[table.sensor[table.order] == index]
        buffer = buffer_of(table.values[mine, 0])
        ranked = lowest_where_missing(score[rows])
        single = len(table.sensor_ids) == 1
        found.append(
            Result(
                detector=place.detector,
                series=place.series if single else f"{place.series}/{sensor_id}",
                buffer=buffer,
                vus=vus_pr(labels, ranked, buffer),
                vus_tsb=vus_pr(labels, ranked, buffer, TSB_THRESHOLDS),
                auc_pr=auc_pr(labels, ranked),
                roc_auc=roc_auc(labels, ranked),
                deployed=deployed(labels, flags[rows], table.time_ms[rows]),
                affiliation=affiliation(labels, flags[rows]),
                facts=facts,
                nab=None if labelled.spans is None else NabSeries(score, flags, labelled.spans),
            )
        )
    return found


def lowest_where_missing(score: Floats) -> Floats:
    """Scores (N,) with NaN below all others."""
    known = score[~np.isnan(score)]
    least = float(known.min()) - 1 if len(known) else 0.0
    return np.where(np.isnan(score), least, score)
