"""A small patch Transformer that forecasts a channel from its own past.

The window is cut into patches of some steps from its end backwards (Nie et al. 2023, https://arxiv.org/abs/2211.14730:
a patch is a token, and the same weights serve every channel on its own, so that they fit any number of channels). Each
patch attends to itself and those before it, and foretells the next one; mean squared error, Adam. Nothing that is
expected of a patch has seen any of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stream_detector.models import look_back

SEQUENCES = 256
"""Channels of a batch that one step of training looks at, at most: with many channels all are too many."""


class Forecaster(nn.Module):
    """Foretells the patches of windows (N, T) of one channel."""

    look_back: Tensor

    def __init__(self, window: int, patch: int, width: int, layers: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.patch = max(1, min(patch, window // 2))
        tokens = window // self.patch
        self.embed = nn.Linear(self.patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.encoder = look_back.layers(layers, width, heads, feedforward)
        self.head = nn.Linear(width, self.patch)
        self.register_buffer("look_back", look_back.mask(tokens), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """What is expected of each patch but the first, from the patches before it: (N, K - 1, patch)."""
        patches = self.patches(windows)[:, :-1]
        K = patches.shape[1]
        # A window shorter than those of the training ends at the same position.
        hidden = self.encoder(self.embed(patches) + self.position[-K - 1 : -1], mask=self.look_back[:K, :K])
        expected: Tensor = self.head(hidden)
        return expected

    def patches(self, windows: Tensor) -> Tensor:
        """Windows (N, T) as patches (N, K, patch) that end where they end; a rest at the start is not seen.

        A window too short for two patches begins with its first value, over and over.
        """
        missing = 2 * self.patch - windows.shape[1]
        if missing > 0:
            windows = torch.cat([windows[:, :1].expand(-1, missing), windows], dim=1)
        K = windows.shape[1] // self.patch
        return windows[:, windows.shape[1] - K * self.patch :].reshape(-1, K, self.patch)

    def losses(self, windows: Tensor) -> Tensor:
        """Mean squared error of each window: (N,)."""
        return (self.forward(windows) - self.patches(windows)[:, 1:]).square().mean(dim=(1, 2))

    def looked_back(self, windows: Tensor, steps: int, recent: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What was expected of the last steps of windows (N, T), and by how much the latest patches were missed there.

        (N, steps), and (len(recent), N, steps): the root mean square over as many values as `recent` patches have, up
        to each step. All from one pass: a step is foretold from the patches before its own, and no later step counts.
        """
        expected = self.forward(windows).flatten(1)
        squares = (expected - self.patches(windows)[:, 1:].flatten(1)).square()
        lengths = [max(1, min(count * self.patch, squares.shape[1] - steps + 1)) for count in recent]
        missed = [squares[:, 1 - steps - length + squares.shape[1] :].unfold(1, length, 1) for length in lengths]
        return expected[:, -steps:], torch.stack([each.mean(dim=2).sqrt() for each in missed])
