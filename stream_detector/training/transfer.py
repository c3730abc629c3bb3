"""From weights that know something already to weights for sensors with little data.

Few readings are enough for that because fitting begins near its goal, moves with small steps, and stops when held-out
readings, each sensor's latest, are foretold no better; the best weights are taken, those it began with among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from stream_detector.errors import ConfigError
from stream_detector.models import MODELS
from stream_detector.models.artifact import Artifact
from stream_detector.records import Readings
from stream_detector.training.fit import Progress
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

FINE_RATE = 5e-4
"""Weights that know something already are moved more carefully than fresh ones."""
PATIENCE = 5
SHAPE = ("window", "channels")


def fine_tune(
    history: History, start: Artifact, options: TrainOptions, progress: Progress, *, frozen: bool = False
) -> Artifact:
    """Go on from the weights `start`, which must be for the history's channels; raises DataError or ConfigError.

    frozen: only the model's last layer learns.
    """
    fit = replace(options.fit, rate=FINE_RATE, patience=PATIENCE, widen=True)
    made = train(aligned(history, start), replace(options, fit=fit, frozen=frozen), progress, start)
    return replace(made, parent=start.digest)


def aligned(history: History, start: Artifact | None) -> History:
    """The history with its channels in the weights' order."""
    if start is None or start.channels == history.channels:
        return history
    order = [history.channels.index(name) for name in start.channels]
    readings = history.readings
    values = readings.values[:, order]
    return History(Readings(readings.sensor, readings.time_ms, values), history.sensor_ids, start.channels)


def configured(model: str, given: Sequence[str]) -> Mapping[str, Any]:
    """A part of a model's configuration from words like `width=64`; raises ConfigError for what it does not have."""
    if not given:
        return {}
    config_class = MODELS[model][1]
    defaults = {one.name: one.default for one in fields(config_class) if one.name not in SHAPE}
    found: dict[str, Any] = {}
    for word in given:
        name, _, text = word.partition("=")
        if name not in defaults:
            known = ", ".join(f"{known}={_worded(value)}" for known, value in defaults.items()) or "nothing"
            raise ConfigError(f"--set {word!r}: the model {model} has no {name!r}; it can be told {known}")
        found[name] = _value(word, text, defaults[name])
    return found


def _value(word: str, text: str, default: Any) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(default, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ConfigError(f"--set {word!r}: the value must be like {_worded(default)}")
    return value


def _worded(value: Any) -> str:
    return json.dumps(value)
