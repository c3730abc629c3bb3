"""A sensor's readings as far as they are retained, what they are scored, and what comes from then on.

Reads only. The scores are made by the worker's own detector, from the readings and the weights that are in use now,
so those of long ago may differ from what was told then. Knows one sensor; nothing of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.records import Floats, Ints
from stream_detector.settings import Overrides, Settings
from stream_detector.streaming import retained
from stream_detector.streaming.registry import Registry
from stream_detector.streaming.retained import Kept, Retained
from stream_detector.streaming.topic_reader import TopicReader
from stream_detector.streaming.track import Track
from stream_detector.streaming.weights import Weights

SCORED = 4_000
"""Of the latest readings so many are scored: enough for a threshold to have a past, and done in a moment."""
MESSAGES = 100_000
EVER = 1 << 47
"""A time that no message is of."""
MOST_READINGS = 200_000
"""What is held of a sensor while it is followed; then the oldest go."""
SCORES = ("time_ms", "score", "threshold", "expected", "lower", "upper", "contribution")
"""Columns of a track."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What there is to draw, in order of time: readings (M, C), and of those that were scored (N,), (N, C)."""

    channels: tuple[str, ...]
    time_ms: Ints
    values: Floats
    scored_ms: Ints
    score: Floats
    threshold: Floats
    expected: Floats
    lower: Floats
    upper: Floats
    contribution: Floats


class SensorHistory:
    """See the module's docstring. Not for several threads at once.

    why_no_scores: in words; empty where there are scores. store_away: why its state could not be asked for.
    """

    def __init__(self, settings: Settings, sensor_id: str, messages: int = MESSAGES) -> None:
        self._settings, self.sensor_id, self.messages = settings, sensor_id, messages
        self._found = Retained()
        self._kept: Kept | None = None
        self._track: Track | None = None
        self.why_no_scores = self.store_away = ""

    def fetch(self) -> None:
        """Fetch what is there; raises TransportError where the broker is away."""
        self._found = retained.look(self._settings, [self.sensor_id], None, [EVER], self.messages)
        self._kept, self.store_away = self._found.kept.get(self.sensor_id), self._found.away

    def score(self, registry: Registry) -> None:
        """Score what was fetched; takes longer than fetching it."""
        if self._kept is None:
            return
        model = Overrides(self._settings.sensors).of(self.sensor_id).model or self._settings.detector.model
        try:
            artifact = Weights(self._settings.detector.window, registry).artifact(model, self._kept.channels)
            row, until = self._row, self._found.until.get(self._kept.partition, 0)
            self._track = Track(self._settings, self._kept, row, until, artifact, self._found.away)
            self._track.latest(SCORED)
        except (ArtifactError, ConfigError) as error:
            self._track, self.why_no_scores = None, str(error)
            return
        if not len(self._track.time_ms):
            self.why_no_scores = f"a score needs {artifact.model.config.window} readings, and there are fewer yet"

    def advance(self, reader: TopicReader) -> bool:
        """Take in what has come since; whether something has."""
        if self._kept is None:
            return False
        new = retained.further(self._settings, reader, self._found, self._kept, self.messages)
        if new is None:
            return False
        kept, before = self._kept, len(self._kept)
        for name in ("time_ms", "values", "received_ms", "offset"):
            setattr(kept, name, np.concatenate([getattr(kept, name), getattr(new, name)]))
        if self._track is not None:
            self._track.further(before)
            self.why_no_scores = "" if len(self._track.time_ms) else self.why_no_scores
        if len(kept) > MOST_READINGS:
            _shorten(kept, ("time_ms", "values", "received_ms", "offset"))
        if self._track is not None and len(self._track.time_ms) > MOST_READINGS:
            _shorten(self._track, SCORES)
        return True

    @property
    def partition(self) -> int | None:
        """Where its readings are; None where there are none."""
        return None if self._kept is None else self._kept.partition

    @property
    def skipped(self) -> int:
        """Messages before the first one that was looked at."""
        return self._found.skipped

    @property
    def model(self) -> str:
        """The weights that score it, in words."""
        return f"{self._track.artifact.info.name} {self._track.artifact.info.version}" if self._track else ""

    def threshold(self) -> tuple[float, bool] | None:
        """The threshold that holds for it now, and whether its own past sets it; asks the store."""
        if self._track is None or self._kept is None:
            return None
        row, self.store_away = retained.row(self._settings, self._kept.partition, self.sensor_id)
        return None if row is None else self._track.limit(row)

    @property
    def columns(self) -> Columns | None:
        """A copy of all that there is; None where nothing is retained."""
        kept, track = self._kept, self._track
        if kept is None or not len(kept):
            return None
        order = np.argsort(kept.time_ms, kind="stable")
        channels, values = (track.channels, track.values()) if track else (kept.channels, kept.values)
        if track is None:
            none = np.zeros((0, len(channels)))
            scored = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0), none, none, none, none)
        else:
            by_time = np.argsort(track.time_ms, kind="stable")
            scored = tuple(getattr(track, name)[by_time] for name in SCORES)
        return Columns(channels, kept.time_ms[order], values[order], *scored)

    @property
    def _row(self) -> retained.Row | None:
        row = self._found.rows.get(self.sensor_id)
        return row if row and self._kept and row.partition == self._kept.partition else None


def _shorten(columns: Kept | Track, names: Sequence[str]) -> None:
    for name in names:
        setattr(columns, name, getattr(columns, name)[-MOST_READINGS // 2 :])
