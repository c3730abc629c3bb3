"""Prefix windows: each step of a window as the last of a window of its own."""

from __future__ import annotations

import pytest
import torch

from stream_detector.models.prefixes import by_window, cropped, ending_at_each

WINDOWS = torch.tensor([[[1, 10], [2, 20], [3, 30], [4, 40]], [[5, 50], [6, 60], [7, 70], [8, 80]]])


def test_windows_end_at_each_of_the_freshest_steps() -> None:
    """Two steps of two windows of four: four windows of three, those of one window together, oldest first."""
    found = ending_at_each(WINDOWS, 2)
    assert found[:, :, 0].tolist() == [[1, 2, 3], [2, 3, 4], [5, 6, 7], [6, 7, 8]]
    assert found[:, :, 1].tolist() == [[10, 20, 30], [20, 30, 40], [50, 60, 70], [60, 70, 80]]


def test_for_one_step_these_are_the_windows() -> None:
    """Nothing is cut off, and nothing copied."""
    found = ending_at_each(WINDOWS, 1)
    assert torch.equal(found, WINDOWS)
    assert found.data_ptr() == WINDOWS.data_ptr()


def test_all_steps_leave_windows_of_one() -> None:
    """As many steps as the window has: each stands alone."""
    assert ending_at_each(WINDOWS, 4)[:, :, 0].tolist() == [[1], [2], [3], [4], [5], [6], [7], [8]]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_what_was_found_goes_back_to_its_step(steps: int) -> None:
    """The last values of the prefix windows, by window, are the windows' last steps."""
    last = ending_at_each(WINDOWS, steps)[:, -1]
    assert torch.equal(by_window(last, 2, steps), WINDOWS[:, -steps:])
    assert torch.equal(by_window(last[:, 0], 2, steps), WINDOWS[:, -steps:, 0])


def test_windows_are_cropped_while_training_alone() -> None:
    """At their beginning, all alike, by up to a quarter; as they are otherwise."""
    windows = torch.randn(3, 40, 2)
    torch.manual_seed(0)
    lengths = set()
    for _ in range(200):
        some = cropped(windows, True)
        lengths.add(some.shape[1])
        assert torch.equal(some, windows[:, -some.shape[1] :])
    assert lengths == set(range(30, 41))
    assert cropped(windows, False) is windows
