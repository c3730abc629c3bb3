"""Windows that overlap, kept as the runs of readings that they were cut from.

A sensor that brings many readings at once has a window due at each of them, and two of these differ in one reading.
What is done to every reading of a window is therefore done to the runs, and windows are copied out of them a few at a
time: they then stay in the processor's cache until the model has seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_detector.detect import scale
from stream_detector.records import Floats, Floats32, Ints


@dataclass(frozen=True, slots=True)
class Windows:
    """B windows of W readings of C channels.

    readings: (N, C) raw values, one run after another; NaN where missing. start: (B,) where each window begins.
    run: (R + 1,) where each run begins, and N. first: (R,) each run's first window; its windows follow each other.
    """

    readings: Floats
    start: Ints
    run: Ints
    first: Ints
    length: int

    @classmethod
    def of(cls, windows: Floats) -> Windows:
        """Windows (B, W, C) that have nothing in common."""
        B, W, C = windows.shape
        return cls(windows.reshape(B * W, C), np.arange(B) * W, np.arange(B + 1) * W, np.arange(B), W)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, at: Ints) -> Windows:
        return Windows.of(cut(self.readings, self.start[at], self.length))

    @property
    def whole(self) -> Floats:
        """(B, W, C): all of them, side by side."""
        return cut(self.readings, self.start, self.length)

    def last(self, steps: int) -> Floats:
        """The newest readings of each: (B, steps, C)."""
        return cut(self.readings, self.start + (self.length - steps), steps)

    def scaled(self, center: Floats, step: Floats) -> Callable[[int, int], Floats32]:
        """What gives the windows from `begin` to before `end` on their scale (n, W, C), see `scale.apply`.

        center, step: (B, C), the same for all windows of a run.
        """
        W, C = self.length, self.readings.shape[1]
        if len(self.first) == len(self.start):
            apart = self.readings.reshape(len(self.start), W, C)
            return lambda begin, end: scale.apply(apart[begin:end], center[begin:end], step[begin:end])
        size = np.diff(self.run)
        of_reading = (np.repeat(column[self.first], size, axis=0) for column in (center, step))
        together = scale.apply(self.readings[:, None], *of_reading)[:, 0]
        beginning = slices(together[None], W)[0]
        return lambda begin, end: beginning[self.start[begin:end]]

    @staticmethod
    def concatenate(parts: Sequence[Windows]) -> Windows:
        """The windows of several, in their order; `parts` must not be empty."""
        if len(parts) == 1:
            return parts[0]
        readings = np.cumsum([0] + [len(part.readings) for part in parts])
        windows = np.cumsum([0] + [len(part) for part in parts])
        return Windows(
            np.concatenate([part.readings for part in parts]),
            np.concatenate([part.start + at for part, at in zip(parts, readings[:-1], strict=True)]),
            np.append(
                np.concatenate([part.run[:-1] + at for part, at in zip(parts, readings[:-1], strict=True)]),
                readings[-1],
            ),
            np.concatenate([part.first + at for part, at in zip(parts, windows[:-1], strict=True)]),
            parts[0].length,
        )


def slices(column: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """A view of every run of `length` neighbours: (S, R, ...) -> (S, R - length + 1, length, ...)."""
    shape = (column.shape[0], column.shape[1] - length + 1, length, *column.shape[2:])
    strides = (column.strides[0], column.strides[1], *column.strides[1:])
    return np.lib.stride_tricks.as_strided(column, shape, strides, writeable=False)


def cut(readings: npt.NDArray[Any], start: Ints, length: int) -> npt.NDArray[Any]:
    """Copies of `length` neighbours from each of these places: (N, C) and (B,) -> (B, length, C)."""
    if len(readings) < length:
        return np.zeros((0, length, readings.shape[1]), readings.dtype)
    found: npt.NDArray[Any] = slices(readings[None], length)[0][start]
    return found
