"""Weights to start from before there is any history: trained on simulated signals, one channel at a time.

What they know is how sensors behave in general; thresholds and, later, training make them the user's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from stream_detector.models.artifact import Artifact
from stream_detector.records import Floats, Ints, Readings
from stream_detector.simulate import FIELDS, simulate
from stream_detector.training.fit import FitOptions, Progress
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

SENSORS = 12
"""Sensors of each field, each channel of which is a signal of its own."""
ROWS = 2_500
STEPS = 1_200


def pretrain(progress: Progress, window: int = 100, steps: int = STEPS, seed: int = 0) -> Artifact:
    """A model with shared weights that fits any number of channels; it remembers no sensor."""
    fit = FitOptions(epochs=steps, steps=steps, seed=seed)
    options = TrainOptions("encoder", window, fit=fit, config={"shared": True})
    return replace(train(signals(SENSORS, ROWS, seed), options, progress), scaler={})


def signals(sensors: int, rows: int, seed: int) -> History:
    """Every channel of simulated fleets without faults, as a sensor of its own, in time order."""
    found = list(_signals(sensors, rows, seed))
    time_ms = np.concatenate([times for _, times, _ in found])
    order = np.argsort(time_ms, kind="stable")
    sensor = np.repeat(np.arange(len(found)), [len(times) for _, times, _ in found])
    values = np.concatenate([values for _, _, values in found])[:, None]
    readings = Readings(sensor[order], time_ms[order], values[order])
    return History(readings, [name for name, _, _ in found], ("value",))


def _signals(sensors: int, rows: int, seed: int) -> Iterator[tuple[str, Ints, Floats]]:
    for field in FIELDS:
        fleet = simulate(field, sensors=sensors, rows=rows, seed=seed, faults_per_sensor=0)
        for series in fleet.series:
            for c in range(series.values.shape[1]):
                yield f"{field}/{series.sensor_id}/{c}", series.time_ms, series.values[:, c]
