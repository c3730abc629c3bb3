"""Refreshes the weights of one line: from its recent readings to a challenger and a verdict on it.

Each sensor's latest part is kept back to decide on. The rest, without what people or detectors called abnormal, is
trained on: from the champion's weights where they have the shape that settings ask for, else from scratch. Where the
sensors have drifted, history from before teaches the wrong thing, and sets thresholds that are wrong for long: the
first challenger knows what came after the change only, and none is trained until that is enough. One that is refused is
followed by others: of all history, then of the later half, quarter and eighth. What a champion was not trained on for
that reason, those that follow it are not trained on either. Knows nothing of leases, events and time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from stream_detector.detect.detector import DetectorOptions
from stream_detector.errors import ArtifactError, ConfigError, DataError
from stream_detector.models import MODELS
from stream_detector.models.artifact import Artifact
from stream_detector.records import Feedback, parse_time
from stream_detector.settings import Overrides, Settings
from stream_detector.streaming import profiles
from stream_detector.streaming.history import Recent
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import Champion, Line, Registry
from stream_detector.streaming.weights import Weights
from stream_detector.training import challenge, change, sample
from stream_detector.training.challenge import HELD_SHARE, Case, Verdict
from stream_detector.training.checkpoint import Checkpoint
from stream_detector.training.feedback import without_faults
from stream_detector.training.fit import FitOptions, Progress
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train
from stream_detector.training.transfer import FINE_RATE, PATIENCE, aligned

NEEDED = (4, 240)
"""Windows, and readings, that at least one sensor must have: for fitting, calibrating and deciding."""
SHARES = (0.5, 0.25, 0.125)
"""Later parts of the history, for challengers that are to know nothing of what was before a drift."""
UNFOUND = 0.1
"""Share of the windows that is taken for faults that nobody found, and not learned: who learns them misses the next."""
MEASURED = ("loss", "alarms", "recall")
"""Numbers of the decision that are kept as the artifact's own; the rest is about the champion."""


class InUse:
    """The weights that lines use now: the registry's champion, else what the setting stands for."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._weights = Weights(settings.detector.window)
        self._read: dict[str, Artifact] = {}
        self._champions: dict[str, Champion] = {}

    def look(self) -> None:
        """Ask which champions there are now."""
        self._champions = dict(self._registry.champions())
        digests = {champion.digest for champion in self._champions.values()}
        self._read = {digest: artifact for digest, artifact in self._read.items() if digest in digests}

    def artifact(self, model: str, channels: tuple[str, ...]) -> Artifact:
        """The weights in use; raises ArtifactError or ConfigError where there are none, or none that can be read."""
        champion = self._champions.get(Line(model, channels).key)
        if champion is None:
            return self._weights.artifact(model, channels)
        if champion.digest not in self._read:
            self._read[champion.digest] = self._registry.get(champion.digest)
        return self._read[champion.digest]

    def champion(self, line: Line) -> Artifact | None:
        """The weights to challenge; None where there are none yet. Raises ArtifactError for a corrupt champion."""
        try:
            return self.artifact(line.model, line.channels)
        except ConfigError:
            if line.model not in MODELS:
                raise
            return None
        except ArtifactError as error:
            if line.key not in self._champions:
                raise
            raise ArtifactError(
                f"the champion cannot be read, so there is nothing to hold new weights against ({error}): go back to "
                f"the one before with `stream-detector models rollback`"
            ) from error


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A challenger and what was decided of it. parent: digest of the champion that it was held against."""

    challenger: Artifact
    verdict: Verdict
    parent: str | None


def latest(history: History) -> History:
    """Each sensor's latest part, the one that is decided on."""
    return _since(history, 1 - HELD_SHARE)


def _since(history: History, share: float) -> History:
    """What comes after each sensor's first share of readings."""
    return History(sample.split(history.readings, share)[1], history.sensor_ids, history.channels)


def refresh(
    settings: Settings,
    line: Line,
    recent: Recent,
    champion: Artifact | None,
    drifted: bool,
    progress: Progress,
    pulse: Callable[[], None],
) -> Refreshed | None:
    """Train and judge a challenger, and others where sensors have drifted; the first that passes, or the last.

    None where the sensors have just changed, and too little came after it to learn from.
    progress: told of gradient steps; pulse: called now and then. Either may raise to end it; what was trained until
    then is kept and taken up next time. Raises DataError when there is too little history.
    """
    history = without_faults(aligned(recent.histories[line], champion), recent.answers)
    found: Refreshed | None = None
    attempt = partial(_attempt, settings, line, champion, progress, pulse, recent.incidents)
    if champion is not None:
        history = _from(history, parse_time(champion.trained_on.start), champion) or history
        moment_ms = _changed(settings, history, champion, pulse) if drifted else None
        if moment_ms is not None:
            changed = _from(history, moment_ms, champion)
            if changed is None:
                return None
            # What the champion alerted on since then is what has become normal.
            found = _tried(partial(_attempt, settings, line, champion, progress, pulse, ()), changed)
    if found is None or not found.verdict.passed:
        found = attempt(history)
    for share in SHARES if drifted else ():
        if found.verdict.passed:
            break
        later = _tried(attempt, _since(history, 1 - share))
        if later is None:
            break
        found = later
    return found


def _changed(settings: Settings, history: History, champion: Artifact, pulse: Callable[[], None]) -> int | None:
    """When (ms) the sensors changed; None where no moment stands out."""
    return change.moment(history, champion, profiles.device(settings.detector.device), pulse)


def _from(history: History, moment_ms: int, champion: Artifact) -> History | None:
    """The readings from a time on, if a sensor has enough of them."""
    readings = history.readings[history.readings.time_ms >= moment_ms]
    longest = int(np.bincount(readings.sensor).max(initial=0))
    enough = longest >= _needed(champion.model.config.window)
    return History(readings, history.sensor_ids, history.channels) if enough else None


def _tried(attempt: Callable[[History], Refreshed], history: History) -> Refreshed | None:
    """An attempt on a part of the history; None where that part is too short."""
    try:
        return attempt(history)
    except DataError:
        return None


def _attempt(
    settings: Settings,
    line: Line,
    champion: Artifact | None,
    progress: Progress,
    pulse: Callable[[], None],
    incidents: Sequence[Feedback],
    history: History,
) -> Refreshed:
    """Train a challenger on a history and judge it."""
    start = champion if champion is not None and _has_shape(champion, line, settings) else None
    window = start.model.config.window if start else settings.detector.window
    early, late = (
        History(part, history.sensor_ids, history.channels) for part in sample.split(history.readings, 1 - HELD_SHARE)
    )
    normal = without_faults(early, incidents)
    _check_enough(history, normal, window, settings)
    options = _options(settings, history)
    steps = settings.trainer.steps
    fit = FitOptions(epochs=steps, steps=steps, patience=PATIENCE, trim=UNFOUND)
    if start is not None:
        fit = replace(fit, rate=FINE_RATE)
    model = start.model.name if start else line.model
    training = TrainOptions(model, window, options.device, fit)
    checkpoint = _checkpoint(settings, line, champion, training)
    challenger = train(normal, training, progress, start, checkpoint, pulse)
    case = Case(early, late.readings, without_faults(late, incidents).readings)
    verdict = challenge.decide(case, champion, challenger, options, settings.trainer.tolerance, pulse)
    checkpoint.clear()
    measured = {name: value for name in MEASURED if (value := verdict.numbers.get(name)) is not None}
    challenger = replace(challenger, metrics={**challenger.metrics, **measured})
    return Refreshed(challenger, verdict, champion.digest if champion else None)


def _has_shape(champion: Artifact, line: Line, settings: Settings) -> bool:
    """Whether the champion is what settings ask for; a line that is no model's name asks for what it has.

    Pretrained weights whose model carries the part that is worth it anyway are not: the rest has yet to make room for
    each of these channels.
    """
    model = champion.model
    if not champion.scaler and hasattr(model, "carried"):
        return False
    return line.model not in MODELS or (model.name == line.model and model.config.window == settings.detector.window)


def _needed(window: int) -> int:
    """Readings that at least one sensor must have."""
    return max(NEEDED[0] * window, NEEDED[1])


def _check_enough(history: History, normal: History, window: int, settings: Settings) -> None:
    needed = _needed(window)
    longest = int(np.bincount(history.readings.sensor).max(initial=0))
    if longest < needed:
        raise DataError(
            f"there is too little history: the longest sensor has {longest} readings of the last "
            f"{settings.trainer.history}, {needed} are needed; wait, or raise trainer.history"
        )
    left = int(np.bincount(normal.readings.sensor).max(initial=0))
    if left < needed * (1 - HELD_SHARE) / 2:
        raise DataError(
            f"there is too little normal history: without incidents and what people called faults, the longest "
            f"sensor has {left} readings to learn from; answer false alarms with `stream-detector feedback`, or wait"
        )


def _options(settings: Settings, history: History) -> DetectorOptions:
    """How most of these sensors are judged."""
    of_each = Profiles(settings, Weights(settings.detector.window).artifact).judged_by
    judged_by = Counter(of_each(sensor_id) for sensor_id in history.sensor_ids).most_common(1)[0][0]
    return profiles.options(judged_by, settings, Overrides(settings.sensors))


def _checkpoint(settings: Settings, line: Line, champion: Artifact | None, training: TrainOptions) -> Checkpoint:
    directory = settings.trainer.directory or Path.home() / ".cache" / "stream-detector" / "trainer"
    group = settings.kafka.group_id
    parent = champion.digest if champion else None
    key = json.dumps([group, line.key, parent, training.model, training.window, asdict(training.fit)])
    return Checkpoint(directory / f"{group}-{line.key}.safetensors", key)
