"""Weights that begin knowing nothing of a file, and learn from what has passed of it.

For runs without a training part: the weights that come with the program judge from the first full window on. Whenever
the longest sensor has four times as many readings as when they learned last, they learn anew from all readings so far,
but for those that were called abnormal, and detectors go on with the new weights. No score knows a later reading.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from stream_detector.errors import DataError
from stream_detector.models.artifact import Artifact
from stream_detector.records import Alert, Feedback, Ints
from stream_detector.streaming.files import Table
from stream_detector.streaming.profiles import Profiles
from stream_detector.training import sample
from stream_detector.training.feedback import abnormal, without_faults
from stream_detector.training.fit import Progress
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

logger = logging.getLogger(__name__)
FIRST_WINDOWS = 5
"""Windows of the longest sensor that there is something to learn from, and to measure thresholds on."""
GROWTH = 4
"""Weights that have learned anew score in other units: where scores are ranked, each change costs."""


class OwnPast:
    """When, and what, the weights of a run learn from its own rows.

    models: the names of those that learn. options: how, but for the model. progress: asked for a bar by its name.
    """

    def __init__(
        self, table: Table, models: Sequence[str], options: TrainOptions, progress: Callable[[str], Progress]
    ) -> None:
        self._table, self._models = table, models
        self._options = options
        self._moments = _moments(table.sensor[table.order], FIRST_WINDOWS * options.window) if models else []
        self._progress = progress("learning") if self._moments else lambda done, total, loss: None

    @property
    def next(self) -> float:
        """After how many rows is learned next; infinite if never again."""
        return self._moments[0] if self._moments else math.inf

    def learn(self, profiles: Profiles, judged: int, alerts: Sequence[Alert], answers: Sequence[Feedback]) -> None:
        """Learn from the first `judged` rows, of which alerts and answers tell, and go on with new weights."""
        while self.next <= judged:
            self._moments.pop(0)
        table = self._table
        rows = table.order[:judged]
        history = History(table.readings(rows), table.sensor_ids, table.channels)
        normal = without_faults(without_faults(history, answers), abnormal(alerts, answers))
        for model in self._models:
            try:
                learned = train(normal, replace(self._options, model=model), self._progress)
            except DataError:
                logger.info("%s: of %d rows too few are normal to learn from: the weights stay", model, judged)
                continue
            _go_on(profiles, {model: learned})


def _go_on(profiles: Profiles, learned: Mapping[str, Artifact]) -> None:
    for name in profiles.fleet.detectors:
        artifact = learned.get(profiles.models[name])
        if artifact is not None:
            profiles.swap(name, artifact)


def _moments(sensor: Ints, first: int) -> list[int]:
    """After how many rows the longest sensor has first, GROWTH * first, ... of them. sensor: (N,) of the rows."""
    rank = sample.rank(sensor)
    moments = []
    while len(found := np.flatnonzero(rank == first - 1)):
        moments.append(int(found[0]) + 1)
        first *= GROWTH
    return moments
