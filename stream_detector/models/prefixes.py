"""Several steps of a window, each as the last step of a window of its own.

For models that look at their whole window, to both sides: a step's score uses no later step when the step is the last
of the window. Knows nothing of any model.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHORTEST = 0.75
"""Share of a window that is left when the most steps are scored in one go: a stride is at most a quarter of it."""


def ending_at_each(windows: Tensor, steps: int) -> Tensor:
    """The windows (B * S, T - S + 1, C) that end at each of the S freshest steps of windows (B, T, C).

    The steps of a window stand together, oldest first. For one step these are the windows themselves.
    """
    T = windows.shape[1]
    return windows.unfold(1, T - steps + 1, 1).transpose(2, 3).flatten(0, 1)


def by_window(found: Tensor, B: int, S: int) -> Tensor:
    """What was found of each such window (B * S, ...), as (B, S, ...): the S steps of each of B windows."""
    return found.reshape(B, S, *found.shape[1:])


def cropped(windows: Tensor, training: bool) -> Tensor:
    """Windows as a model learns them: with fewer steps at their beginning, by chance; as they are when not training.

    When several steps are scored in one go, each has a window of its own that is shorter by as many. A network that
    only ever saw whole windows makes errors in those that are ten times as large.
    """
    if not training:
        return windows
    most = windows.shape[1] - int(SHORTEST * windows.shape[1])
    return windows[:, int(torch.randint(most + 1, ())) :]
