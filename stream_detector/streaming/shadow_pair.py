"""A challenger beside the champion of one profile: it scores windows that the champion has scored, for some sensors.

Both stand on copies of the sensors' rows, taken when the trial of a sensor begins; the challenger's are re-seated, as
when weights are swapped. From then on each window goes to both: the challenger scores it and decides by a threshold
of its own, the champion's scores and decisions are those that it has given. Which incidents would open is counted in
one way for both, without groups, silence and people's answers. The champion's own rows are read, never written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from stream_detector.detect import answers
from stream_detector.detect.changes import Change
from stream_detector.detect.detector import Detector
from stream_detector.detect.due import Due
from stream_detector.detect.incidents import Judged
from stream_detector.detect.scoring import BUCKET
from stream_detector.detect.thresholds import Decisions
from stream_detector.errors import ArtifactError
from stream_detector.models.artifact import Artifact
from stream_detector.records import Floats, Ints

LEAST_SENSORS = 8
"""So many sensors of a profile are taken in any case: a share of a small fleet may be none at all."""
MOST = 2
"""Windows that a step scores with the challenger, at most: so many times the share, or one call of the model."""
UNKNOWN = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Counted:
    """What one step brought: windows scored by both, scored steps in them, and incidents that either opened in them.

    span_ms: event time that the sensors went through, added up.
    """

    windows: int = 0
    readings: int = 0
    challenger: int = 0
    champion: int = 0
    span_ms: int = 0


class Pair:
    """See the module's docstring. share: of the sensors, by a hash of their ids that is another for each challenger."""

    def __init__(self, champion: Detector, challenger: Artifact, share: float) -> None:
        old = champion.artifact
        if old.channels != challenger.channels or old.model.config.window != challenger.model.config.window:
            raise ArtifactError("they are for other channels or windows than those in use")
        self.artifact = old
        self._champion, self._challenger, self._share = champion, challenger, share
        self._key = bytes.fromhex(challenger.digest)
        self._version: int | None = None
        self._begin()

    @property
    def sensors(self) -> int:
        """Sensors that had a window since the rows were copied."""
        return int((self._newest > UNKNOWN).sum())

    def renew(self) -> None:
        """Begin the next step with fresh copies of the rows."""
        self._version = None

    def _begin(self) -> None:
        champion = self._champion
        self._new = Detector(self._challenger, champion.options, champion.scorer.pulse)
        self._old = Detector(self.artifact, champion.options)
        self._version = champion.table.version
        self._row_of: Ints = np.zeros(0, np.int64)
        self._newest: Ints = np.zeros(0, np.int64)
        self._join()

    def step(self) -> Counted:
        """Go through the windows of the champion's latest batch; to be called once for each batch."""
        counted = Counted()
        if self._version != self._champion.table.version:
            self._begin()  # rows have other numbers, or another state
            return counted
        evidence = self._champion.evidence
        if evidence is not None and len(self._row_of):
            due = evidence.due
            at = self._mine(due)
            if len(at):
                theirs = _part(due, at)
                counted = self._judge(theirs, evidence.scored.score[at], _decided(evidence.decisions, at))
        self._join()
        return counted

    def _mine(self, due: Due) -> Ints:
        """Which of the due windows are scored, in their order."""
        known = due.sensor < len(self._row_of)
        at = np.flatnonzero(known)
        at = at[self._row_of[due.sensor[at]] >= 0]
        return at[: max(BUCKET, int(MOST * self._share * len(due)))]

    def _judge(self, theirs: Due, score: Floats, decided: Decisions) -> Counted:
        """Let both live through these windows. theirs: with the champion's rows. score, decided: the champion's."""
        due = replace(theirs, sensor=self._row_of[theirs.sensor])
        muted = answers.muted(self._champion.table.state, theirs)
        position = np.arange(int(due.reading.max()) + 1)
        scored = self._new.scorer.score(due)
        decisions = self._new.thresholds.decide(self._new.table.state, due, scored.score)
        new = self._new.incidents.advance(Judged(due, scored.score, decisions, muted, position))
        old = self._old.incidents.advance(Judged(due, score, decided, muted, position))
        return Counted(len(due), due.time_ms.size, _opened(new), _opened(old), self._pass(due))

    def _pass(self, due: Due) -> int:
        """Event time that these windows bring the sensors further; a sensor's first one brings its own steps."""
        rows = np.unique(due.sensor)
        first = np.full(len(self._newest), np.iinfo(np.int64).max)
        np.minimum.at(first, due.sensor, due.time_ms[:, 0])
        before = np.where(self._newest == UNKNOWN, first, self._newest)[rows]
        np.maximum.at(self._newest, due.sensor, due.time_ms[:, -1])
        return int((self._newest[rows] - before).sum())

    def _join(self) -> None:
        """Take sensors in that have appeared."""
        table = self._champion.table
        rows = np.arange(len(self._row_of), len(table))
        if not len(rows):
            return
        self._row_of = np.concatenate([self._row_of, np.full(len(rows), -1)])
        chosen = self._chosen(rows)
        for partition in np.unique(table.partition[chosen]).tolist():
            some = chosen[table.partition[chosen] == partition]
            ids = [table.ids[row] for row in some.tolist()]
            for detector in (self._new, self._old):
                mine = detector.sensors(ids, partition)
                detector.table.state[mine] = table.state[some]
            self._row_of[some] = mine
            self._new.take_over(mine, self.artifact)
        more = len(self._new.table) - len(self._newest)
        self._newest = np.concatenate([self._newest, np.full(more, UNKNOWN)])

    def _chosen(self, rows: Ints) -> Ints:
        """Those of new rows whose sensors take part."""
        ids, already = self._champion.table.ids, len(self._new.table)
        chosen = [row for row in rows.tolist() if drawn(ids[row], self._key) < self._share]
        missing = LEAST_SENSORS - already - len(chosen)
        if missing > 0:
            others = [row for row in rows.tolist() if row not in set(chosen)]
            chosen = sorted(chosen + sorted(others, key=lambda row: drawn(ids[row], self._key))[:missing])
        return np.array(chosen, np.int64)


def drawn(sensor_id: str, key: bytes) -> float:
    """A number from 0 to below 1 for a sensor, the same in every process."""
    return int.from_bytes(hashlib.blake2b(sensor_id.encode(), digest_size=8, key=key).digest()) / 2**64


def _part(due: Due, at: Ints) -> Due:
    return Due(**{f.name: getattr(due, f.name)[at] for f in fields(Due)})


def _decided(decisions: Decisions, at: Ints) -> Decisions:
    return Decisions(**{f.name: getattr(decisions, f.name)[at] for f in fields(Decisions)})


def _opened(changes: Sequence[Change]) -> int:
    return sum(change.kind == "anomaly" and change.event == "opened" for change in changes)
