"""A model that costs next to nothing: what is measured with it is everything around a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from stream_detector.models.artifact import Artifact
from stream_detector.models.interface import Scores
from stream_detector.records import Readings
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train

NAME = "identity"
STEPS, FLEET = 1_000, 8
START_MS, EVERY_MS = 1_760_000_000_000, 1_000


@dataclass(frozen=True)
class IdentityConfig:
    """There is nothing to configure."""

    window: int
    channels: int


class Identity(torch.nn.Module):
    """Scores the newest values (B, T, C) by how far they are from the centre."""

    name: ClassVar[str] = NAME

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config

    def prepare(self, windows: torch.Tensor) -> None:
        """Nothing is computed in advance."""

    def loss(self, windows: torch.Tensor, epoch: int) -> torch.Tensor:
        """Nothing is learned."""
        return windows.new_zeros(())

    def calibrate(self, windows: torch.Tensor) -> None:
        """There is nothing to set."""

    def score(self, windows: torch.Tensor, steps: int) -> Scores:
        """See `Model.score`."""
        far = windows[:, -steps:].abs()
        return Scores(far.amax(dim=2), far, far, far, far)


def sensor_id(sensor: int) -> str:
    """The name of a sensor by its number."""
    return f"machine-{sensor:06}"


def artifact(window: int, channels: tuple[str, ...], sensors: int, steps: int = STEPS) -> Artifact:
    """The model with a calibration: that of a moving z-score of noise, which is about what its scores are.

    sensors: that are known to it. steps: of the noise; a training part of some windows.
    """
    rng = np.random.default_rng(7)
    readings = Readings(
        np.tile(np.arange(FLEET), steps),
        START_MS + EVERY_MS * np.arange(steps).repeat(FLEET),
        rng.normal(size=(steps * FLEET, len(channels))),
    )
    history = History(readings, [f"trained-{i}" for i in range(FLEET)], channels)
    made = train(history, TrainOptions("moving-z", window), lambda *_: None)
    # All sensors are alike, and known: each is judged from its first window.
    seeds = dict.fromkeys(map(sensor_id, range(sensors)), next(iter(made.scaler.values())))
    model = Identity(IdentityConfig(window, len(channels)))
    return Artifact(model, channels, seeds, made.calibration, made.trained_on)
