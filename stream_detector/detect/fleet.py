"""Detectors of several profiles side by side: one batch, one clock, one order of alerts.

A profile is what sensors have in common: channels, model, budget. What spans profiles lives here: the watermark of a
partition and the incidents of groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.detect import answers
from stream_detector.detect.changes import Change
from stream_detector.detect.detector import Detector
from stream_detector.detect.groups import Groups
from stream_detector.detect.quality import Batch
from stream_detector.detect.state import distinct
from stream_detector.detect.watermark import Passage, Watermarks
from stream_detector.records import Alert, Feedback, Ints, Readings
from stream_detector.settings import Overrides


@dataclass(frozen=True, slots=True)
class Part:
    """Readings of one profile, and their places (N,) in the whole batch, rising."""

    profile: str
    readings: Readings
    position: Ints

    def between(self, begin: int, end: int) -> Part:
        """The readings at the places from `begin` to before `end`, counted from `begin`."""
        at = slice(*np.searchsorted(self.position, [begin, end]).tolist())
        return Part(self.profile, self.readings[at], self.position[at] - begin)


@dataclass(frozen=True, slots=True)
class Told:
    """An alert, the partition whose readings brought it, and the position of the one that did."""

    partition: int
    position: int
    alert: Alert


class Fleet:
    """All sensors that a process watches; `detectors` by the name of their profile."""

    def __init__(self, overrides: Overrides, group_within_ms: int) -> None:
        self.detectors: dict[str, Detector] = {}
        self.watermarks = Watermarks()
        self.groups = Groups(lambda sensor_id: overrides.of(sensor_id).group, group_within_ms)
        self._touched: dict[str, list[Ints]] = {}

    def step(self, parts: Sequence[Part]) -> list[Told]:
        """Append readings, score, decide, and tell what changed, over all profiles; alerts in reading order."""
        passage = self.watermarks.advance(*self._times(parts))
        given = {part.profile: part for part in parts}
        found: list[tuple[str, Change]] = []
        for name, detector in self.detectors.items():
            # Also a profile without readings: the others may have left its sensors behind.
            part = given.get(name) or _nothing(name, len(detector.artifact.channels))
            self._touch(name, part.readings.sensor)
            found += [(name, change) for change in detector.judge(Batch(part.readings, part.position, passage))]
        return self.tell(sorted(found, key=self._order))

    def _order(self, one: tuple[str, Change]) -> tuple[int, bool, str]:
        """By reading; those that it left behind come first, by name. Changes of one sensor keep their order."""
        profile, change = one
        falls_silent = change.close_reason == "silent" or (change.kind == "sensor_silent" and change.event == "opened")
        return change.position, not falls_silent, self.detectors[profile].table.ids[change.sensor]

    def warm(self, parts: Sequence[Part]) -> None:
        """Take history in without judging it."""
        passage = self.watermarks.advance(*self._times(parts))
        for part in parts:
            self._touch(part.profile, part.readings.sensor)
            self.detectors[part.profile].warm(Batch(part.readings, part.position, passage))

    def tell(self, changes: Sequence[tuple[str, Change]]) -> list[Told]:
        """Changes, each with its profile, as alerts; groups speak with one voice."""
        told = []
        for profile, single in changes:
            detector = self.detectors[profile]
            self._touch(profile, np.array([single.sensor]))
            change = self.groups.fold(detector.table, single)
            if change is not None:
                for name, other in self.detectors.items() if change.members else ():
                    self._touch(name, np.array(self.groups.rows(other.table, change), np.int64))
                partition = int(detector.table.partition[single.sensor])
                told.append(Told(partition, single.position, detector.write(change)))
        return told

    def notice(self, partition: int) -> list[Told]:
        """What a partition's watermark has to say of sensors whose rows have come since it moved."""
        if partition not in self.watermarks.of:
            return []
        none, mark = np.zeros(1, np.int64), np.array([self.watermarks.of[partition]])
        passage = Passage(mark, {partition: (none, mark)})
        found: list[tuple[str, Change]] = []
        for name, detector in self.detectors.items():
            part = _nothing(name, len(detector.artifact.channels))
            found += [(name, change) for change in detector.judge(Batch(part.readings, part.position, passage))]
        return self.tell(sorted(found, key=self._order))

    def answer(self, feedback: Feedback, partition: int | None = None) -> list[Told] | None:
        """Take a person's answer in; the alerts that follow, or None when none of its sensors is known here.

        partition: that of the sensors it is for; None is all.
        """
        known = False
        changes: list[tuple[str, Change]] = []
        for profile, detector in self.detectors.items():
            for sensor_id in sorted({feedback.sensor_id, *feedback.members}):
                for row in detector.table.find(sensor_id, partition):
                    known = True
                    self._touch(profile, np.array([row]))
                    digest = detector.writer.model.digest
                    found = answers.apply(detector.incidents, detector.thresholds, digest, row, feedback)
                    changes += [(profile, change) for change in found]
        return self.tell(changes) if known else None

    def touch_all(self, profile: str) -> None:
        """Every row of a profile has changed."""
        self._touch(profile, np.arange(len(self.detectors[profile].table)))

    def dirty(self) -> Mapping[str, Ints]:
        """Rows by profile that may have changed since this was asked last."""
        touched = {name: distinct(np.concatenate(rows)) for name, rows in self._touched.items() if rows}
        self._touched = {}
        return touched

    def drop(self, partition: int) -> None:
        """Forget a partition and its sensors."""
        self.watermarks.of.pop(partition, None)
        for detector in self.detectors.values():
            detector.table.drop(partition)
        self.recall()

    def recall(self) -> None:
        """Find what spans sensors in their rows, after rows were loaded or dropped."""
        self.groups.recall([detector.table for detector in self.detectors.values()])

    def _touch(self, profile: str, rows: Ints) -> None:
        if len(rows):
            self._touched.setdefault(profile, []).append(rows)

    def _times(self, parts: Sequence[Part]) -> tuple[Ints, Ints]:
        """Partition and time of the batch's readings by their position; a time that is not believed does not count."""
        total = 1 + max((int(part.position[-1]) for part in parts if len(part.position)), default=-1)
        partition, time_ms = np.full(total, -1), np.full(total, np.iinfo(np.int64).min)
        for part in parts:
            detector, readings = self.detectors[part.profile], part.readings
            partition[part.position] = detector.table.partition[readings.sensor]
            time_ms[part.position] = detector.quality.clock.believed(readings)
        return partition, time_ms


def _nothing(profile: str, channels: int) -> Part:
    none = np.zeros(0, np.int64)
    return Part(profile, Readings(none, none, np.zeros((0, channels)), none), none)
