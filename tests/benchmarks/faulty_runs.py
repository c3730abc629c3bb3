"""Fitting and scoring for `mended`: production's buffers and scales, with other strides, or without a scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stream_detector.detect.scoring import BUCKET, Scorer
from stream_detector.evaluation.sets import Labelled
from stream_detector.models.artifact import SensorSeed
from stream_detector.models.interface import Model
from stream_detector.records import Floats, Ints
from stream_detector.streaming import offline
from stream_detector.training import sample
from stream_detector.training.fit import FitOptions, fit
from stream_detector.training.sample import History, Scales
from stream_detector.training.train import FIT_SHARE, FIT_WINDOWS, HELD_WINDOWS, walked

WINDOW, WAVE = 100, 7
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Run:
    """How windows reach the model. stride: readings between two; None for windows that do not overlap.

    scaled: whether values are on their sensor's scale.
    """

    stride: int | None = 1
    scaled: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """A series of one sensor. judged: its rows behind the training part, with the window before the first.

    early, late: windows (N, T, C) to fit, and held out; on the scale, or as they come.
    """

    judged: History
    judged_rows: Ints
    scales: Scales
    early: Mapping[bool, Tensor]
    late: Mapping[bool, Tensor]

    @property
    def channels(self) -> int:
        """How many."""
        return len(self.judged.channels)


def parts(labelled: Labelled) -> Part:
    """The training part that a series' name gives, or the one that `evaluate` takes; and the rest."""
    table = labelled.table
    count = labelled.learned or len(offline.training_rows(table, None, WINDOW))
    learned = offline.history(table, table.order[:count])
    scales = sample.scales(learned, WINDOW)
    plain = Scales(np.zeros_like(scales.center), np.ones_like(scales.spread), scales.known)
    first, rest = sample.split(learned.readings, FIT_SHARE)
    cut: dict[str, dict[bool, Tensor]] = {"early": {}, "late": {}}
    for name, readings, limit in (("early", first, FIT_WINDOWS), ("late", rest, HELD_WINDOWS)):
        some = History(readings, learned.sensor_ids, learned.channels)
        for scaled, on in ((True, scales), (False, plain)):
            cut[name][scaled] = torch.from_numpy(sample.windows(some, WINDOW, on, limit))
    judged = offline.history(table, table.order[count - WINDOW + 1 :])
    return Part(judged, table.order[count:], scales, cut["early"], cut["late"])


def fitted(model: Model, part: Part, options: FitOptions, run: Run) -> None:
    """Fit in place, and calibrate."""
    fit(model, part.early[run.scaled], options, lambda *_: None)
    with torch.inference_mode():
        model.calibrate(part.late[run.scaled])


def score(model: Model, part: Part, run: Run) -> Floats:
    """One score a judged row, in time order; NaN where none came."""
    readings, stride = part.judged.readings, run.stride or WINDOW
    # Windows that do not overlap begin with the first judged row.
    readings = readings if run.stride else readings[WINDOW - 1 :]
    center, spread = part.scales.center[0].tolist(), part.scales.spread[0].tolist()
    seeds = {part.judged.sensor_ids[0]: SensorSeed(center, spread)}
    scorer, found = Scorer(model, CPU), []
    for due in walked(replace(part.judged, readings=readings), WINDOW, seeds, stride):
        if not run.scaled:
            due = replace(due, center=np.zeros_like(due.center), spread=np.ones_like(due.spread))
        found.append(scorer.score(due).score.ravel())
    known = np.concatenate(found)
    return np.append(known, np.full(len(part.judged_rows) - len(known), np.nan))


def held_scores(model: Model, part: Part) -> Floats:
    """Scores of the last steps of the held-out windows."""
    with torch.inference_mode():
        found = [model.score(some, 1).score[:, 0] for some in torch.split(part.late[True], BUCKET)]
    return torch.cat(found).numpy().astype(np.float64)


def differs_by_batch(model: Model, part: Part) -> float:
    """Largest relative difference that other windows of a batch make to a window's score.

    The others are copies of one of these windows, or waves of another period.
    """
    mine = part.late[True][:: max(1, len(part.late[True]) // 8)][:8]
    copies = mine[:1].expand(BUCKET - len(mine), -1, -1)
    waves = (2 * torch.pi * torch.arange(WINDOW) / WAVE).sin()[None, :, None].expand_as(copies)
    batches = torch.cat([mine, copies]), torch.cat([mine, waves])
    with torch.inference_mode():
        one, two = (model.score(batch, 1).score[: len(mine), 0] for batch in batches)
    return float(((one - two).abs() / torch.maximum(one, two).clamp_min(1e-30)).max())
