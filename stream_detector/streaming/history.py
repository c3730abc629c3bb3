"""Recent readings from their topic, by line of weights, and what people and detectors said of them.

Reads with a consumer that is in no group, so that workers notice nothing, and only what is committed. Bounded by time,
by messages, by sensors and by readings: what is held in memory does not depend on the size of the topic. Knows which
sensors share weights; nothing of training.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from stream_detector.errors import ArtifactError, ConfigError, DataError
from stream_detector.models.artifact import Artifact
from stream_detector.records import Alert, Feedback, Readings
from stream_detector.settings import Overrides, Settings, parse_duration
from stream_detector.streaming import answers_file
from stream_detector.streaming.decode import Columns, Decoder, Limits
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.registry.records import Line
from stream_detector.streaming.topic_reader import TopicReader
from stream_detector.training.feedback import abnormal
from stream_detector.training.reservoir import Reservoir
from stream_detector.training.sample import History

logger = logging.getLogger(__name__)
MESSAGES_A_READING = 20
"""So many messages are read at most for each reading that is kept: the latest ones."""
LEAST_WINDOWS = 20
"""Where there are too many readings, rather fewer sensors are kept than that each has less than so many windows."""
MOST_LINES = 50
MOST_REMEMBERED = 200_000
"""Sensors whose channels are remembered at most."""
MOST_SAID = 100_000
"""Alerts, and answers, that are taken into account at most: the latest."""
Said = TypeVar("Said", Alert, Feedback)
ArtifactFor = Callable[[str, tuple[str, ...]], Artifact]


@dataclass
class Recent:
    """What was read. incidents: as confirmed answers, the form in which training leaves them out.

    skipped: messages too far back to be read. rejected: messages that cannot be used.
    """

    histories: dict[Line, History] = field(default_factory=dict)
    answers: list[Feedback] = field(default_factory=list)
    incidents: list[Feedback] = field(default_factory=list)
    messages: int = 0
    readings: int = 0
    rejected: int = 0
    skipped: int = 0
    seconds: float = 0.0

    @property
    def pace(self) -> float:
        """Readings a second."""
        return self.readings / max(self.seconds, 1e-9)


class _Gathering:
    """Decodes messages and sorts their readings by line, into reservoirs."""

    def __init__(self, settings: Settings, artifact_for: ArtifactFor, sensors: int, readings: int) -> None:
        self._overrides = Overrides(settings.sensors)
        self._base = settings.detector.model
        self._artifact_for = artifact_for
        self._sensors, self._readings = sensors, readings
        self._least = LEAST_WINDOWS * settings.detector.window
        self._ahead_ms = parse_duration(settings.quality.clock_ahead)
        limits = Limits(message_bytes=settings.kafka.max_message_bytes, channels=settings.worker.max_channels)
        self._decoder = Decoder(self._channels_of, limits)
        self._met = 0
        self.reservoirs: dict[Line, Reservoir] = {}

    def take(self, fetched: Fetched, recent: Recent) -> None:
        """Count and keep what one fetch has brought."""
        if self._met > MOST_REMEMBERED:
            self._decoder.forget()
            self._met = 0
        decoded = self._decoder.decode(fetched.values)
        recent.messages += len(fetched.values)
        recent.rejected += len(decoded.rejected)
        for part in decoded.columns:
            recent.readings += len(part)
            # As in a worker: a clock that runs ahead must not be taken for the latest readings.
            believed = part.time_ms <= fetched.timestamps_ms[part.message] + self._ahead_ms
            self._sort(part, Readings(part.sensor, part.time_ms, part.values)[believed])

    def _sort(self, part: Columns, readings: Readings) -> None:
        models = [self._model_of(sensor_id) for sensor_id in part.sensor_ids]
        for model in dict.fromkeys(models):
            line = Line(model, part.channels)
            if line not in self.reservoirs:
                if len(self.reservoirs) >= MOST_LINES:
                    raise DataError(
                        f"the readings have more than {MOST_LINES} different sets of channels: name the sensors' "
                        f"channels in [[sensors]]"
                    )
                self.reservoirs[line] = Reservoir(part.channels, self._sensors, self._readings, self._least)
            reservoir = self.reservoirs[line]
            mine = np.array([one == model for one in models])
            some = readings if mine.all() else readings[mine[readings.sensor]]
            if part.channels != reservoir.channels:
                order = [part.channels.index(name) for name in reservoir.channels]
                some = Readings(some.sensor, some.time_ms, some.values[:, order])
            reservoir.add(part.sensor_ids, some)

    def _model_of(self, sensor_id: str) -> str:
        return (self._overrides.of(sensor_id).model if self._overrides else None) or self._base

    def _channels_of(self, sensor_id: str, offered: tuple[str, ...]) -> tuple[str, ...]:
        """As settings name them, else in the order of the weights, else by name."""
        self._met += 1
        named = self._overrides.of(sensor_id).channels
        if named:
            return named
        try:
            return self._artifact_for(self._model_of(sensor_id), tuple(sorted(offered))).channels
        except (ArtifactError, ConfigError):
            return tuple(sorted(offered))


def read(
    settings: Settings,
    artifact_for: ArtifactFor,
    now_ms: int,
    span_ms: int,
    *,
    readings: int | None = None,
    pulse: Callable[[], None] = lambda: None,
) -> Recent:
    """The readings of the last span of time, by line; raises TransportError, ConfigError or DataError.

    artifact_for: weights in use, by model and channels, for the order of channels. readings: of each line at most
    (None: as settings say). pulse: called now and then; it may raise to end the reading.
    """
    chosen, kafka = settings.trainer, settings.kafka
    most = min(readings or chosen.max_readings, chosen.max_readings)
    recent, begun = Recent(), time.monotonic()
    gathering = _Gathering(settings, artifact_for, chosen.max_sensors, most)
    with TopicReader(kafka, pulse) as reader:
        for fetched in reader.since(kafka.readings_topic, now_ms - span_ms, MESSAGES_A_READING * most):
            gathering.take(fetched, recent)
        recent.seconds, recent.skipped = time.monotonic() - begun, reader.skipped
        # An incident may have begun, and an answer may speak of, some time before; twice the span has nearly all.
        since_ms = now_ms - 2 * span_ms
        recent.answers = list(_records(reader, kafka.feedback_topic, since_ms, Feedback))
        recent.incidents = abnormal(_records(reader, kafka.alerts_topic, since_ms, Alert), recent.answers)
    recent.histories = {line: reservoir.history() for line, reservoir in gathering.reservoirs.items()}
    return recent


def _records(reader: TopicReader, topic: str, since_ms: int, kind: type[Said]) -> Iterator[Said]:
    """The records of a topic, none where there is no such topic; what is no record is left out, and said."""
    if not reader.has(topic):
        return
    unreadable = 0
    for fetched in reader.since(topic, since_ms, MOST_SAID):
        for value in fetched.values:
            try:
                yield answers_file.decode(value or b"", kind)
            except DataError:
                unreadable += 1
    if unreadable:
        logger.warning("%d messages of the topic %s are no %s and were left out", unreadable, topic, kind.__name__)
