"""Detection over files: the production detector, fed in time order, its results gathered by input row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from stream_detector.detect.detector import Detector
from stream_detector.detect.fleet import Part
from stream_detector.errors import ArtifactError, ConfigError, DataError
from stream_detector.models import MODELS
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.records import Alert, Feedback, Ints, parse_time
from stream_detector.settings import Settings
from stream_detector.streaming import saved_state
from stream_detector.streaming.files import Table
from stream_detector.streaming.own_past import OwnPast
from stream_detector.streaming.profiles import Columns, Profiles
from stream_detector.streaming.scored_rows import Gathered, ScoredRows
from stream_detector.streaming.weights import Weights, for_channels
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
class Run:
    """What a run over files found. unanswered: answers whose sensors are not in it."""

    table: Table
    profiles: Profiles
    alerts: list[Alert]
    rows: ScoredRows
    unanswered: Sequence[Feedback]

    @property
    def detectors(self) -> list[Detector]:
        """One for each profile."""
        return list(self.profiles.fleet.detectors.values())


@dataclass(frozen=True, slots=True)
class Learning:
    """What to train on when no weights are given: options but for the model, and the first rows (None: 15 %).

    With 0 rows, pretrained weights judge from the first window on, and learn from the run's own past (`own_past`).
    """

    options: TrainOptions
    rows: int | None = None


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
    settings: Settings,
    learning: Learning,
    state: Path | None,
    feedback: Sequence[Feedback],
    progress: Callable[[str], Progress],
) -> Run:
    """Judge all rows after the training part; all rows, when weights or a saved state are given.

    `progress` is asked for a bar by the name of the work.
    """
    carried = saved_state.load(state) if state else None
    settings = carried.model_of(settings) if carried else settings
    weights = _Weights(table, learning, progress)
    profiles = Profiles(settings, weights.artifact)
    sensor_ids = list(dict.fromkeys([*table.sensor_ids, *(carried.sensor_ids if carried else ())]))
    models = sorted({profiles.judged_by(sensor_id).model for sensor_id in sensor_ids})
    if learning.rows is not None and (carried or not any(model in MODELS for model in models)):
        raise ConfigError("--train-rows has no use with trained weights or a saved state: leave it out")
    if carried:
        weights.carried = carried.artifact
    else:
        weights.learn([model for model in models if model in MODELS])
    own_past = OwnPast(table, weights.untaught, learning.options, progress)
    names = [profiles.name(sensor_id, table.channels) for sensor_id in sensor_ids]
    if carried:
        carried.restore(profiles)
    if len(weights.rows):
        profiles.fleet.warm(_parts(profiles, table, context(table, weights.rows, learning.options.window - 1)))
    run = _judge(profiles, table, weights.rows, own_past, feedback, progress("detecting"))
    if state:
        saved_state.save(state, profiles, sorted(set(names)))
    return run


class _Weights:
    """The artifacts of a run: loaded, carried over with the state, trained on the first rows, or yet to be taught.

    untaught: the models that begin with the weights that come with the program.
    """

    def __init__(self, table: Table, learning: Learning, progress: Callable[[str], Progress]) -> None:
        self.table, self.learning, self.progress = table, learning, progress
        self.carried: Callable[[str], Artifact | None] | None = None
        self.rows: Ints = np.zeros(0, np.int64)
        self.untaught: Sequence[str] = ()
        self._known: dict[str, Artifact] = {}

    def learn(self, models: Sequence[str]) -> None:
        """Train these models on the first rows, or take those that come with the program if there are to be none."""
        if self.learning.rows == 0:
            pretrained = Weights(self.learning.options.window)
            self._known = {model: pretrained.artifact(model, self.table.channels) for model in models}
            self.untaught = models
            return
        if models:
            self.rows = training_rows(self.table, self.learning.rows, self.learning.options.window)
        for model in models:
            options = replace(self.learning.options, model=model)
            name = "training" if len(models) == 1 else f"training {model}"
            self._known[model] = train(history(self.table, self.rows), options, self.progress(name))

    def artifact(self, model: str, channels: tuple[str, ...]) -> Artifact:
        """The weights that a model's name stands for in this run."""
        artifact = self._known.get(model)
        if artifact is None:
            artifact = for_channels(self._carried(model), channels)
            check_channels(artifact, channels)
            self._known[model] = artifact
        return artifact

    def _carried(self, model: str) -> Artifact:
        saved = self.carried(model) if self.carried else None
        if model in MODELS:
            if saved is None:
                raise ConfigError(
                    f"the saved state has no weights of the model {model}: use the settings that it was saved with, "
                    f"or another directory"
                )
            return saved
        if saved is not None and not Path(model).exists():
            return saved
        given = artifacts.load(Path(model))
        if saved is not None and saved.digest != given.digest:
            raise ConfigError(
                f"the state belongs to the weights {saved.info.version}, not to the given {given.info.version}: leave "
                f"out --model, or use another directory"
            )
        return given


def check_channels(artifact: Artifact, channels: Sequence[str]) -> None:
    """Refuse weights that were made for other channels."""
    if artifact.channels != tuple(channels):
        raise ArtifactError(
            f"the weights are for the channels {', '.join(artifact.channels)}, the data have "
            f"{', '.join(channels)}: train on data like these, or name the columns alike"
        )


def context(table: Table, trained: Ints, count: int) -> Ints:
    """The last `count` rows of each sensor in the training part; one less than a window, and the next fills it."""
    known = sample.last(table.sensor[trained], count)
    return trained[known]


def _parts(profiles: Profiles, table: Table, rows: Ints) -> list[Part]:
    none = np.zeros(len(rows), np.int64)
    return profiles.parts(
        Columns(
            table.channels,
            table.sensor_ids,
            table.sensor[rows],
            table.time_ms[rows],
            table.values[rows],
            none,
            np.arange(len(rows)),
        )
    )


def _judge(
    profiles: Profiles,
    table: Table,
    trained: Ints,
    own_past: OwnPast,
    feedback: Sequence[Feedback],
    progress: Progress,
) -> Run:
    """Step through the rows behind the training part in time order; an answer is heard before what came after it."""
    todo = table.order[len(trained) :]
    every = answers = sorted(feedback, key=_heard_ms)
    unanswered: list[Feedback] = []
    cuts = np.searchsorted(table.time_ms[todo], [_heard_ms(answer) for answer in answers], side="right")
    alerts: list[Alert] = []
    scored = Gathered(table.sensor_ids)
    start = 0
    while start < len(todo) or answers:
        while answers and cuts[0] <= start:
            _expect(profiles, table, answers[0])
            told = profiles.fleet.answer(answers[0])
            unanswered += [] if told is not None else [answers[0]]
            alerts += [_detected(one.alert) for one in told or ()]
            answers, cuts = answers[1:], cuts[1:]
        if start == len(todo):
            break
        stop = min(start + BATCH, len(todo), int(min(own_past.next, len(todo))), *cuts[:1].tolist())
        alerts += [_detected(one.alert) for one in profiles.fleet.step(_parts(profiles, table, todo[start:stop]))]
        for detector in profiles.fleet.detectors.values():
            scored.add(detector)
        start = stop
        if own_past.next <= start < len(todo):
            own_past.learn(profiles, start, alerts, every[: len(every) - len(answers)])
        progress(start, len(todo), float(len(alerts)))
    return Run(table, profiles, alerts, scored.by_row(table, trained), unanswered)


def _detected(alert: Alert) -> Alert:
    """A file has no other clock than its readings: an alert is detected when its window is complete."""
    return msgspec.structs.replace(alert, detected_at=alert.window.end)


def _expect(profiles: Profiles, table: Table, feedback: Feedback) -> None:
    """Make the answered sensors known that are in the table and have not been judged yet."""
    for sensor_id in {feedback.sensor_id, *feedback.members} & set(table.sensor_ids):
        profiles.fleet.detectors[profiles.name(sensor_id, table.channels)].sensors([sensor_id])


def _heard_ms(feedback: Feedback) -> int:
    """After which time an answer is heard in a run over files: the end of what it speaks of, or before it begins."""
    if feedback.verdict == "maintenance" and feedback.begins:
        return parse_time(feedback.begins) - 1
    return parse_time(feedback.as_of or feedback.ends_at or feedback.starts_at or "1970-01-01")
