"""From history to an artifact: scale, fit on the early part, calibrate on the late part.

Begins with fresh weights, or with those of a champion that is to be refreshed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import torch

from stream_detector.detect import buffers, thresholds
from stream_detector.detect.buffers import Buffers
from stream_detector.detect.due import Due
from stream_detector.detect.scoring import Scorer
from stream_detector.detect.seeds import seed_scale
from stream_detector.detect.state import SensorTable
from stream_detector.errors import ConfigError, DataError
from stream_detector.models import PRETRAINED
from stream_detector.models.artifact import Artifact, SensorSeed, TrainedOn, build, load
from stream_detector.models.interface import Model
from stream_detector.records import Floats, Ints, Readings, format_time
from stream_detector.training import sample
from stream_detector.training.checkpoint import Checkpoint
from stream_detector.training.fit import FitOptions, Progress, fit
from stream_detector.training.sample import History, Scales

FIT_SHARE = 0.7
"""Share of the history that is fitted; the rest, later, measures bands and thresholds."""
FIT_WINDOWS = 20_000
HELD_WINDOWS = 1_000
CALIBRATION_READINGS = 40_000
"""Held-out readings scored for the thresholds, at most, over as many sensors as fit in."""


MEMORY_WINDOWS = 40
"""Windows that the thresholds' trackers look back: neighbouring scores see nearly the same readings."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What to train. config: overrides the model's own defaults. frozen: only the last layer of a champion learns.

    afresh: begin with nothing that was pretrained, where there is no champion.
    """

    model: str = "multiscale"
    window: int = 128
    device: str = "cpu"
    fit: FitOptions = field(default_factory=FitOptions)
    config: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    afresh: bool = False


def train(
    history: History,
    options: TrainOptions,
    progress: Progress,
    champion: Artifact | None = None,
    checkpoint: Checkpoint | None = None,
    pulse: Callable[[], None] = lambda: None,
) -> Artifact:
    """Fit a model to the history and calibrate it; raises DataError when there is too little of it.

    champion: weights to go on from, with their model, window and configuration. checkpoint: where the fitting is kept
    meanwhile. pulse: called now and then while the held-out part is scored.
    """
    torch.manual_seed(options.fit.seed)
    if champion is not None:
        options = replace(options, model=champion.model.name, window=champion.model.config.window)
    scales = sample.scales(history, options.window)
    early, late = sample.split(history.readings, FIT_SHARE, options.window)
    early_windows = _windows(history, early, options.window, scales, FIT_WINDOWS)
    late_windows = _windows(history, _with_context(early, late, options.window), options.window, scales, HELD_WINDOWS)
    if not len(early_windows) or not len(late_windows):
        longest = int(np.bincount(history.readings.sensor).max())
        raise DataError(
            f"there is too little to learn from: the longest sensor has {longest} readings in the training part, "
            f"windows of {options.window} need about {2 * options.window}; give more rows to train on "
            f"(--train-rows) or a smaller window (--window)"
        )
    model = _first(history, options, champion).to(options.device)
    loss = fit(model, early_windows, options.fit, progress, late_windows, checkpoint)
    with torch.inference_mode():
        model.calibrate(late_windows.to(options.device))
    seeds, calibration = _calibrate(history, early, late, model, scales, options, pulse)
    return Artifact(
        model=model,
        channels=history.channels,
        scaler=seeds,
        calibration=calibration.to_json(),
        trained_on=_span(history.readings),
        metrics={"fit_loss": round(loss, 6), "windows": float(len(early_windows))},
    )


def _first(history: History, options: TrainOptions, champion: Artifact | None) -> Model:
    """The weights that fitting begins with."""
    if champion is None:
        plain = {"window": options.window, "channels": len(history.channels), **options.config}
        model = build(options.model, plain)
        return model if options.afresh else _with_what_is_known(model)
    model = build(champion.model.name, asdict(champion.model.config))
    model.load_state_dict(champion.model.state_dict())
    if options.frozen:
        _freeze(model)
    return model


def _with_what_is_known(model: Model) -> Model:
    """The part that fits every sensor, where there is one, as it was pretrained; no more where it has another shape."""
    carried: str | None = getattr(model, "carried", None)
    if carried is None or not (PRETRAINED / model.name).exists():
        return model
    known = {
        name: t for name, t in load(PRETRAINED / model.name).model.state_dict().items() if name.startswith(carried)
    }
    own = model.state_dict()
    if all(own[name].shape == tensor.shape for name, tensor in known.items()):
        model.load_state_dict(own | known)
    return model


def _freeze(model: Model) -> None:
    """Let only the last layer learn, which every model that learns calls its head."""
    named = list(model.named_parameters())
    if not named:
        raise ConfigError(f"the model {model.name} learns nothing by steps: leave out --frozen")
    for name, parameter in named:
        parameter.requires_grad_(name.startswith("head"))


def _windows(history: History, part: Readings, window: int, scales: Scales, limit: int) -> torch.Tensor:
    some = History(part, history.sensor_ids, history.channels)
    return torch.from_numpy(sample.windows(some, window, scales, limit))


def _with_context(early: Readings, late: Readings, window: int) -> Readings:
    """The late part with just enough before it that its first reading has a full window."""
    context = sample.tail(early, window - 1)
    return Readings(
        np.concatenate([context.sensor, late.sensor]),
        np.concatenate([context.time_ms, late.time_ms]),
        np.concatenate([context.values, late.values]),
    )


def _calibrate(
    history: History,
    early: Readings,
    late: Readings,
    model: Model,
    scales: Scales,
    options: TrainOptions,
    pulse: Callable[[], None],
) -> tuple[dict[str, SensorSeed], thresholds.Calibration]:
    """Score the late part as production would, and measure the thresholds' calibration on it."""
    seeds = {
        name: SensorSeed(scales.center[i].tolist(), scales.spread[i].tolist())
        for i, name in enumerate(history.sensor_ids)
        if scales.known[i]
    }
    part = _within_limit(history, early, late, seeds, options.window)
    scorer = Scorer(model, torch.device(options.device), pulse)
    scores = consecutive_scores(History(part, history.sensor_ids, history.channels), scorer, seeds)
    for name, score in scores.items():
        log_score = thresholds.log_score(score)
        median = float(np.median(log_score))
        mad = float(np.median(np.abs(log_score - median)))
        seeds[name] = msgspec.structs.replace(seeds[name], score_median=median, score_mad=mad)
    window = options.window
    return seeds, thresholds.calibrate(list(scores.values()), MEMORY_WINDOWS * window, window)


def _within_limit(
    history: History, early: Readings, late: Readings, seeds: Mapping[str, SensorSeed], window: int
) -> Readings:
    """The late part, and what its first windows need, of as many sensors as the limit allows."""
    known = np.array([name in seeds for name in history.sensor_ids])
    counts = np.bincount(late.sensor, minlength=len(known)) * known
    allowed = known & (np.cumsum(counts) - counts < CALIBRATION_READINGS)
    part = _with_context(early, late, window)
    return sample.select(part, allowed[part.sensor])


def consecutive_scores(history: History, scorer: Scorer, seeds: Mapping[str, SensorSeed]) -> dict[str, Floats]:
    """Scores of each sensor's full windows, one a reading, on the scales of the seeds as production follows them."""
    sensor, _, score = scored(history, scorer, seeds)
    return {history.sensor_ids[i]: score[sensor == i] for i in np.unique(sensor[np.isfinite(score)])}


def scored(
    history: History, scorer: Scorer, seeds: Mapping[str, SensorSeed], stride: int = 1
) -> tuple[Ints, Ints, Floats]:
    """Sensor, time (ms) and score (N,) of the readings that a full window ends with, a window every `stride`."""
    none = np.zeros(0, np.int64)
    found: list[tuple[Ints, Ints, Floats]] = [(none, none, np.zeros(0))]
    for due in walked(history, scorer.model.config.window, seeds, stride):
        found.append((np.repeat(due.sensor, stride), due.time_ms.ravel(), scorer.score(due).score.ravel()))
    sensor, time_ms, score = (np.concatenate(column) for column in zip(*found, strict=True))
    return sensor, time_ms, score


def walked(history: History, window: int, seeds: Mapping[str, SensorSeed], stride: int = 1) -> Iterator[Due]:
    """The windows that fall due, a batch at a time, on the scales of the seeds as production follows them."""
    table = SensorTable(buffers.fields(window, len(history.channels)))
    table.rows(history.sensor_ids)
    seed_scale(table, np.arange(len(table)), seeds)
    rolling = Buffers(table, window, stride)
    for start in range(0, len(history.readings), sample.BATCH):
        yield rolling.append(history.readings[start : start + sample.BATCH])


def _span(readings: Readings) -> TrainedOn:
    return TrainedOn(
        start=format_time(int(readings.time_ms.min())),
        end=format_time(int(readings.time_ms.max())),
        readings=len(readings),
        sensors=len(np.unique(readings.sensor)),
    )
