"""What makes weights unfit for any use, whatever they are held against. Knows windows and the model's interface."""

from __future__ import annotations

import torch

from stream_detector.detect import scale, thresholds
from stream_detector.errors import ArtifactError
from stream_detector.models.artifact import Artifact

BATCH = 256
FLAT = 1e-6
"""Scores that differ by less than this share of the largest are alike; a band narrower than this has no width."""


def degenerate(challenger: Artifact, windows: torch.Tensor, device: str = "cpu") -> str | None:
    """What makes the weights unfit for any use, in words; None if nothing does.

    windows: (N, T, C) scaled, and normal.
    """
    for name, tensor in challenger.model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"the weights hold a value that is not a number ({name})"
    try:
        if challenger.calibration is not None:
            thresholds.Calibration.from_json(challenger.calibration)
    except ArtifactError as error:
        return str(error)
    model = challenger.model.to(device)
    model.train(False)
    with torch.inference_mode():
        parts = [model.score(windows[at : at + BATCH].to(device), 1) for at in range(0, len(windows), BATCH)]
    score, width = torch.cat([one.score[:, -1] for one in parts]), torch.cat([one.upper - one.lower for one in parts])
    if not bool(torch.isfinite(score).all()) or not bool(torch.isfinite(width).all()):
        return "its scores are not numbers"
    if float(score.max()) <= 0:
        return "it scores everything 0"
    if float(score.max() - score.min()) <= FLAT * float(score.abs().max()):
        return "it scores everything alike"
    varies = windows.std(dim=(0, 1)) > scale.FLAT
    narrow = (width.amax(dim=(0, 1)).cpu() <= FLAT) & varies
    if bool(narrow.any()):
        channel = challenger.channels[int(narrow.int().argmax())]
        return f"its band of normal values has no width (channel {channel})"
    return None
