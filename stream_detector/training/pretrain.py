"""Weights to start from before there is any history: trained on simulated signals, one channel at a time.

What they know is how sensors behave in general; thresholds and, later, training make them the user's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from stream_detector.models.artifact import Artifact, build
from stream_detector.models.multiscale import Multiscale
from stream_detector.records import Floats, Ints, Readings
from stream_detector.simulate import FIELDS, simulate, variety
from stream_detector.training.fit import FitOptions, Progress
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

SHARED = ("multiscale", "encoder")
"""Models whose weights can serve any number of channels, and so can be had before these are known."""
SENSORS = 12
"""Sensors of each field, each channel of which is a signal of its own."""
EACH = 14
"""Signals of each kind of `variety`."""
ROWS = 2_500
STEPS = 1_200


def pretrain(
    progress: Progress, window: int = 128, steps: int = STEPS, seed: int = 0, model: str = SHARED[0]
) -> Artifact:
    """A model with shared weights that fits any number of channels; it remembers no sensor."""
    fit = FitOptions(epochs=steps, steps=steps, seed=seed)
    config: dict[str, Any] = {"shared": True}
    if model == Multiscale.name:  # forms made up here would be remembered as normal, and the user's own as odd
        config["memory"] = 0
    options = TrainOptions(model, window, fit=fit, config=config, afresh=True)
    made = train(signals(SENSORS, ROWS, seed), options, progress)
    room = build(model, {"window": window, "channels": 1, "shared": True})
    room.load_state_dict(made.model.state_dict())
    room.train(False)
    return replace(made, model=room, scaler={})


def signals(sensors: int, rows: int, seed: int) -> History:
    """Every channel of simulated fleets without faults, and signals of all kinds, each as a sensor of its own."""
    every = [*_of_fields(sensors, rows, seed), *_of_variety(EACH, rows, seed)]
    # Where not all can be looked at, those looked at are of all kinds.
    found = [every[i] for i in np.random.default_rng(seed).permutation(len(every))]
    time_ms = np.concatenate([times for _, times, _ in found])
    order = np.argsort(time_ms, kind="stable")
    sensor = np.repeat(np.arange(len(found)), [len(times) for _, times, _ in found])
    values = np.concatenate([values for _, _, values in found])[:, None]
    readings = Readings(sensor[order], time_ms[order], values[order])
    return History(readings, [name for name, _, _ in found], ("value",))


def _of_fields(sensors: int, rows: int, seed: int) -> Iterator[tuple[str, Ints, Floats]]:
    for field in FIELDS:
        fleet = simulate(field, sensors=sensors, rows=rows, seed=seed, faults_per_sensor=0)
        for series in fleet.series:
            for c in range(series.values.shape[1]):
                yield f"{field}/{series.sensor_id}/{c}", series.time_ms, series.values[:, c]


def _of_variety(each: int, rows: int, seed: int) -> Iterator[tuple[str, Ints, Floats]]:
    times = np.arange(rows, dtype=np.int64) * 1000
    for kind in variety.KINDS:
        rng = np.random.default_rng([seed, *kind.encode()])
        for number in range(each):
            yield f"variety/{kind}/{number}", times, variety.signal(kind, rng, rows)
