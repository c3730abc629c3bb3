"""What a model is to everyone who uses one.

A model sees scaled windows, (B, T, C) float32, finite, within +-20: missing values are filled and the sensor's own
scale is taken off before. It knows neither sensors nor time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of the S freshest steps of B windows, on the scaled values.

    score: (B, S) at least 0, higher is more anomalous.
    expected, lower, upper: (B, S, C) what the model expected and the band that holds `coverage` of normal data.
    contribution: (B, S, C) at least 0, how much each channel adds to the score; only their shares mean something.
    """

    score: Tensor
    expected: Tensor
    lower: Tensor
    upper: Tensor
    contribution: Tensor


class Model(Protocol):
    """A detector of anomalies in windows: a `torch.nn.Module`, built from its configuration alone.

    config: a frozen dataclass of plain values with at least `window` and `channels`; with the weights it is all that
    makes the model again. Fitting calls `prepare`, then `loss` many times, then `calibrate`.
    """

    name: ClassVar[str]
    config: Any

    def prepare(self, windows: Tensor) -> None:
        """Take from the windows to be fitted (N, T, C) what is computed rather than learned."""

    def loss(self, windows: Tensor, epoch: int) -> Tensor:
        """What training makes small: a scalar that depends on the parameters, or on none if there are none."""

    def calibrate(self, windows: Tensor) -> None:
        """Take from held-out windows (N, T, C) the width of the band around the expected values."""

    def score(self, windows: Tensor, steps: int) -> Scores:
        """Score the `steps` freshest steps of each window; the score of a step uses no step after it.

        A window's scores do not depend on the other windows of the batch.
        """

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of torch.nn.Module, like the five below: what fitting and artifacts need of it."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters with their names; those of the last layer begin with `head`."""

    def state_dict(self) -> dict[str, Any]:
        """All that is learned or prepared, by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take over what `state_dict` gave; raises RuntimeError when names or shapes differ."""

    def train(self, mode: bool = True) -> Any:
        """Switch between training and scoring."""

    def to(self, device: str | torch.device) -> Any:
        """Move to a device."""
