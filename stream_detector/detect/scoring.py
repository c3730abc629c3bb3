"""Windows to scores, in batches of one fixed size on a device.

Knows the model's interface and the sensor's scale; nothing of thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from stream_detector.detect import scale
from stream_detector.detect.due import Due
from stream_detector.models.interface import Model, Scores
from stream_detector.records import Floats, Floats32

BUCKET = 64
"""Windows a call of the model. Always this many: kernels may round differently for another size, and then a
score would depend on how many windows fell due together."""
KEPT_BITS = 17
"""Bits of a score's fraction that are kept, about five digits; the rest is the noise of float arithmetic."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of B windows' S freshest steps, in the units of the readings.

    score: (B, S) at least 0, higher is more anomalous; NaN where the reading had no value at all.
    actual, expected, lower, upper: (B, S, C) what came, what was expected, and the band of normal values.
    contribution: (B, S, C) at least 0, how much each channel adds to the score; only their shares mean something.
    """

    score: Floats
    actual: Floats
    expected: Floats
    lower: Floats
    upper: Floats
    contribution: Floats


class Scorer:
    """Runs a model over due windows; `pulse` is called between batches, for those who must not fall silent."""

    def __init__(self, model: Model, device: torch.device, pulse: Callable[[], None] = lambda: None) -> None:
        self.model = model
        self.device = device
        self.pulse = pulse

    def score(self, due: Due) -> Scored:
        """Score the freshest steps of each window; see `Scored`."""
        S = due.time_ms.shape[1]
        actual = due.windows[:, -S:]
        step = scale.unit(due.center, due.spread)
        raw = self._run(fill_missing(scale.apply(due.windows, due.center, step)), S)
        center, step = due.center[:, None], step[:, None]
        score = round_bits(raw[0])
        score[np.isnan(actual).all(axis=2)] = np.nan
        return Scored(
            score=score,
            actual=actual,
            expected=raw[1] * step + center,
            lower=raw[2] * step + center,
            upper=raw[3] * step + center,
            contribution=raw[4].astype(np.float64),
        )

    def _run(self, windows: Floats32, steps: int) -> list[Floats32]:
        """The model's five outputs for all windows, one bucket after another, the last one padded."""
        B, _, C = windows.shape
        shapes = [(B, steps)] + [(B, steps, C)] * 4
        out = [np.empty(shape, np.float32) for shape in shapes]
        with torch.inference_mode():
            for start in range(0, B, BUCKET):
                self.pulse()
                part = windows[start : start + BUCKET]
                size = len(part)
                if size < BUCKET:
                    part = np.concatenate([part, np.zeros((BUCKET - size, *part.shape[1:]), np.float32)])
                scores = self.model.score(torch.from_numpy(part).to(self.device), steps)
                for array, tensor in zip(out, _outputs(scores), strict=True):
                    array[start : start + size] = tensor[:size].cpu().numpy()
        return out


def _outputs(scores: Scores) -> list[torch.Tensor]:
    return [scores.score, scores.expected, scores.lower, scores.upper, scores.contribution]


def fill_missing(windows: Floats32) -> Floats32:
    """Replace NaN by the channel's last value in the window, or by its centre (0) where there is none before.

    windows: (B, T, C) on the sensor's scale.
    """
    missing = np.isnan(windows)
    if not missing.any():
        return windows
    steps = np.arange(windows.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(missing, -1, steps), axis=1)
    filled = np.take_along_axis(windows, np.maximum(last, 0), axis=1)
    return np.where(last < 0, np.float32(0), filled)


def round_bits(score: Floats32) -> Floats:
    """Scores rounded to `KEPT_BITS` bits of fraction, half away from zero; NaN and infinity become the largest
    float32, since a model that overflows has met something it has never seen.
    """
    drop = 23 - KEPT_BITS
    finite = np.nan_to_num(score, nan=np.inf, posinf=np.inf).astype(np.float32)
    bits = np.minimum(finite, np.finfo(np.float32).max / 2).view(np.int32)
    rounded = (bits + (1 << (drop - 1))) & ~((1 << drop) - 1)
    return rounded.view(np.float32).astype(np.float64)
