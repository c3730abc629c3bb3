"""A small plant for tests: sensors that are fed by hand and judged by moving z-score under a fixed threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from stream_detector.detect.thresholds import calibrate
from stream_detector.models.artifact import Artifact, TrainedOn, build
from stream_detector.records import Alert, Feedback, format_time
from stream_detector.settings import DetectorSettings, IncidentSettings, QualitySettings, SensorSettings, Settings
from stream_detector.streaming.profiles import Columns, Profiles

WINDOW = 16
START_S = 1_700_000_000
"""Times in tests count from here."""
NO_INCIDENT = "fixed:1e9"
"""A threshold that nothing exceeds."""
Row = tuple[str, float, float | Sequence[float]]


@cache
def artifact(channels: tuple[str, ...]) -> Artifact:
    """Weights that need no training; every call with the same channels gives the same digest."""
    model = build("moving-z", {"window": WINDOW, "channels": len(channels)})
    scores = np.abs(np.random.default_rng(0).standard_t(15, size=4000))
    return Artifact(
        model,
        channels,
        {},
        calibrate([scores]).to_json(),
        TrainedOn("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0, 0),
    )


class Plant:
    """The fleet of some settings, and everything that it has told. `partition`: where each sensor is read from."""

    def __init__(
        self,
        *sensors: SensorSettings,
        threshold: str = "fixed:8",
        budget: str = "",
        stride: int = 1,
        channels: tuple[str, ...] = ("value",),
        incidents: IncidentSettings | None = None,
        quality: QualitySettings | None = None,
        partition: Mapping[str, int] | None = None,
    ) -> None:
        judged_by: dict[str, Any] = {"threshold": threshold, "model": "moving-z", "stride": stride}
        self.settings = Settings(
            detector=DetectorSettings(**{**judged_by, **({"budget": budget} if budget else {})}),
            incidents=incidents or IncidentSettings(close_after=3),
            quality=quality or QualitySettings(stuck_after=0),
            sensors=sensors,
        )
        self.channels = channels
        self.partition = partition or {}
        self.profiles = Profiles(self.settings, lambda model, names: artifact(names))
        self.told: list[Alert] = []

    def feed(
        self, rows: Iterable[Row], batch: int = 1 << 30, ahead_s: Mapping[float, float] | None = None
    ) -> list[Alert]:
        """Take in (sensor, seconds, value) in this order, so many at once; the alerts.

        ahead_s: by the seconds of a reading, how much later it is dated than it arrives; others arrive in time.
        """
        rows, found = list(rows), []
        for start in range(0, len(rows), batch):
            found += self._step(rows[start : start + batch], ahead_s)
        self.told += found
        return found

    def answer(self, feedback: Feedback) -> list[Alert] | None:
        """A person's answer; None where no sensor is meant."""
        told = self.profiles.fleet.answer(feedback)
        return None if told is None else [one.alert for one in told]

    def restart(self) -> None:
        """Go on in a process that knows the rows' bytes and the watermarks only; the rows come in another order."""
        old, self.profiles = self.profiles, Profiles(self.settings, self.profiles.artifact_for)
        for detector in old.fleet.detectors.values():
            table = detector.table
            for row in reversed(range(len(table))):
                name = self.profiles.name(table.ids[row], detector.artifact.channels)
                packed = table.pack(np.array([row]))[0]
                mine = self.profiles.fleet.detectors[name].table
                mine.restore([table.ids[row]], packed, table.layout(), int(table.partition[row]))
        self.profiles.fleet.watermarks.of.update(old.fleet.watermarks.of)
        self.profiles.fleet.recall()

    def _step(self, rows: Sequence[Row], ahead_s: Mapping[float, float] | None) -> list[Alert]:
        ids = list(dict.fromkeys(name for name, _, _ in rows))
        time_ms = np.array([round((START_S + moment) * 1000) for _, moment, _ in rows], np.int64)
        received = None
        if ahead_s is not None:
            received = time_ms - np.array([round(1000 * ahead_s.get(moment, 0)) for _, moment, _ in rows], np.int64)
        columns = Columns(
            self.channels,
            ids,
            np.array([ids.index(name) for name, _, _ in rows], np.int64),
            time_ms,
            np.array([value for _, _, value in rows], np.float64).reshape(len(rows), -1),
            np.array([self.partition.get(name, 0) for name, _, _ in rows], np.int64),
            np.arange(len(rows)),
            received,
        )
        return [one.alert for one in self.profiles.fleet.step(self.profiles.parts(columns))]


def at(seconds: float) -> str:
    """A moment of the tests as alerts write it."""
    return format_time(round((START_S + seconds) * 1000))


def steady(names: str, start_s: int, stop_s: int, every_s: int = 1, value: float | None = None) -> list[Row]:
    """Readings of sensors with names of one letter, in turn: noise between -1 and 1 about `value`, never alike."""
    rows: list[Row] = []
    for moment in range(start_s, stop_s, every_s):
        for name in names:
            noise = float(np.sin(moment * 12.9898 + ord(name) * 78.233))
            rows.append((name, moment, noise + (value or 0.0)))
    return rows


def noise(names: str, start_s: int, stop_s: int) -> Iterator[tuple[str, int, float]]:
    """The like with normally distributed values, for thresholds that learn from them."""
    for moment in range(start_s, stop_s):
        for name in names:
            yield name, moment, float(np.random.default_rng((moment + 10_000, ord(name))).normal())
