"""Windows kept as runs of readings are the same as windows side by side, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.detect import scale
from stream_detector.detect.windows import Windows

W = 8


def overlapping(counts: list[int], stride: int, channels: int) -> tuple[Windows, np.ndarray, np.ndarray]:
    """Runs with so many windows each, the same windows cut one by one, and for each the run that it belongs to."""
    rng = np.random.default_rng(len(counts) + stride)
    runs = [rng.normal(100, 5, (W + (count - 1) * stride, channels)) for count in counts]
    runs[0][3, 0] = np.nan
    size = [len(run) for run in runs]
    begin = np.append(0, np.cumsum(size))
    start = [begin[i] + j * stride for i, count in enumerate(counts) for j in range(count)]
    first = np.cumsum(counts) - np.array(counts)
    single = [run[j * stride : j * stride + W] for run, count in zip(runs, counts, strict=True) for j in range(count)]
    held = Windows(np.concatenate(runs), np.array(start), begin, first, W)
    return held, np.array(single), np.repeat(np.arange(len(counts)), counts)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("counts", [[1, 1, 1], [5, 5], [1, 4, 2]])
def test_runs_give_the_same_windows_and_the_same_scaled_values(counts: list[int], channels: int, stride: int) -> None:
    """Whichever part is asked for; scaled once together or each window by itself."""
    held, single, run = overlapping(counts, stride, channels)
    rng = np.random.default_rng(0)
    center, step = rng.normal(100, 1, (len(counts), channels))[run], rng.uniform(1, 3, (len(counts), channels))[run]
    apart = Windows.of(single)
    assert held.whole.tobytes() == apart.whole.tobytes() == single.tobytes()
    assert held.last(3).tobytes() == single[:, -3:].tobytes()
    wanted = scale.apply(single, center, step)
    for windows in (held, apart):
        scaled = windows.scaled(center, step)
        assert scaled(0, len(single)).tobytes() == wanted.tobytes()
        assert scaled(1, 3).tobytes() == wanted[1:3].tobytes()
    some = np.array([len(single) - 1, 0])
    assert held[some].whole.tobytes() == single[some].tobytes()


def test_windows_of_several_passes_stand_one_behind_the_other() -> None:
    """Shared or not, and none at all."""
    parts = [overlapping(counts, 1, 2) for counts in ([1, 3], [2], [1, 1])]
    none = Windows.of(np.zeros((0, W, 2)))
    both = Windows.concatenate([none, *(held for held, _, _ in parts)])
    single = np.concatenate([windows for _, windows, _ in parts])
    assert both.whole.tobytes() == single.tobytes()
    ones = np.ones((len(single), 2))
    assert both.scaled(ones, ones)(0, len(single)).tobytes() == scale.apply(single, ones, ones).tobytes()
    assert none.whole.shape == (0, W, 2)
    assert len(none) == 0
