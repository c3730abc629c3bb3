"""Windows to scores, in batches of one fixed size on a device.

Knows the model's interface and the sensor's scale; nothing of thresholds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from stream_detector.detect import scale
from stream_detector.detect.due import Due
from stream_detector.errors import ConfigError
from stream_detector.models.interface import Model, Scores
from stream_detector.records import Floats, Floats32

logger = logging.getLogger(__name__)
BUCKET = 64
"""Windows a call of the model. Always this many: kernels may round differently for another size, and then a
score would depend on how many windows fell due together."""
GPU_BUCKET = 1024
"""The same on other devices than a CPU: smaller calls leave them idle, larger ones take memory and gain little."""
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
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
    """Runs a model over due windows; `pulse` is called between batches, for those who must not fall silent.

    precision: a name of `PRECISIONS`; with another than float32 the model's products are computed in it (autocast).
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        pulse: Callable[[], None] = lambda: None,
        precision: str = "float32",
    ) -> None:
        self.model: Model = model.to(device)
        self.device = device
        self.pulse = pulse
        self.precision = precision
        self._bucket = BUCKET if device.type == "cpu" else GPU_BUCKET
        self._pinned = device.type == "cuda"

    @property
    def bucket(self) -> int:
        """Windows of a call of the model."""
        return self._bucket

    def like(self, model: Model) -> Scorer:
        """Another model's, on the same device and in the same precision."""
        return Scorer(model, self.device, self.pulse, self.precision)

    def score(self, due: Due) -> Scored:
        """Score the freshest steps of each window; see `Scored`."""
        S = due.time_ms.shape[1]
        actual = due.held.last(S)
        step = scale.unit(due.center, due.spread)
        scaled = due.held.scaled(due.center, step)
        whole = not np.isnan(due.held.readings).any()
        ready = scaled if whole else lambda begin, end: fill_missing(scaled(begin, end))
        raw = self._run(ready, len(due), actual.shape[2], S)
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

    def _run(self, windows: Callable[[int, int], Floats32], B: int, C: int, steps: int) -> list[Floats32]:
        """The model's five outputs for all B windows, one bucket after another, the last one padded.

        windows: gives those from one index to before another, scaled and whole.

        A device works on while the next bucket is made ready: nothing waits for it before the last one.
        """
        found: list[list[torch.Tensor]] = []
        start = 0
        with torch.inference_mode():
            while start < B:
                self.pulse()
                size = min(self._bucket, B - start)
                ready = windows(start, start + size)
                try:
                    found.append(_outputs(self._call(ready, steps)))
                except torch.OutOfMemoryError as error:
                    self._halve(ready.shape, error)
                    continue
                start += size
            if not found:
                return [np.zeros(shape, np.float32) for shape in [(0, steps)] + [(0, steps, C)] * 4]
            return [torch.cat(parts)[:B].float().cpu().numpy() for parts in zip(*found, strict=True)]

    def _call(self, part: Floats32, steps: int) -> Scores:
        """One call of the model, always with as many windows."""
        padding = self._bucket - len(part)
        if padding:
            part = np.concatenate([part, np.zeros((padding, *part.shape[1:]), np.float32)])
        seen = torch.from_numpy(part)
        if self._pinned:
            seen = seen.pin_memory().to(self.device, non_blocking=True)
        dtype = PRECISIONS[self.precision]
        with torch.autocast(self.device.type, dtype) if dtype is not None else nullcontext():
            return self.model.score(seen.to(self.device), steps)

    def _halve(self, shape: tuple[int, ...], error: torch.OutOfMemoryError) -> None:
        """Go on with smaller calls; raises ConfigError when there are none."""
        if self._bucket == 1:
            raise ConfigError(
                f"the memory of {self.device} does not hold the model {self.model.name} and one window of "
                f"{shape[1]} readings and {shape[2]} channels: take a smaller model, or detector.device = 'cpu'"
            ) from error
        self._bucket //= 2
        if self._pinned:
            torch.cuda.empty_cache()
        logger.warning(
            "the memory of %s does not hold %d windows at once: going on with %d a call",
            self.device,
            2 * self._bucket,
            self._bucket,
        )


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
