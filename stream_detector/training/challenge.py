"""May new weights take the place of those in use? Decided on the latest readings, which training has not seen.

Four things are asked of the challenger, and each is answered in words and numbers:
1. It is sound: weights and scores are numbers, scores tell windows apart, its band has a width.
2. Its loss on normal windows is not greater than the champion's; asked where both are the same model.
3. It raises no more alarms, at the threshold that is set, than the champion does or the budget allows; chance is
   granted what it does once in a hundred times.
4. It finds as many of the faults that are planted in copies of these readings, at the same threshold; more are lost
   than gained only as far as chance does once in ten times.
"Not worse" is within the tolerance: a share of the champion's loss and alarms, and that share of all planted faults.
Without a champion the budget is held against it, and it must find a fifth of the faults.
Knows nothing of where readings come from and what becomes of the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from stream_detector.detect.detector import DetectorOptions
from stream_detector.errors import DataError
from stream_detector.models.artifact import Artifact, SensorSeed
from stream_detector.records import Readings
from stream_detector.settings import Budget
from stream_detector.training import sample, trial
from stream_detector.training.sample import History
from stream_detector.training.soundness import degenerate
from stream_detector.training.trial import Outcome, Planted, Trial

HELD_SHARE = 0.3
"""The latest part of each sensor's readings, on which is decided."""
WINDOWS = 2_000
GROUP = 16
"""Windows whose loss is taken together; the middle one of all groups counts, so that a few anomalies do not."""
CHANCE = 0.01
CHANCE_TO_LOSE = 0.1
LEAST_RECALL = 0.2


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger may take over, and why: one sentence for each thing that was asked.

    sound: False where the weights are fit for no use at all, and not worth keeping. recall: by kind of fault.
    """

    passed: bool
    sound: bool
    reasons: tuple[str, ...]
    numbers: Mapping[str, float | None]
    recall: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the registry and the event."""
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            "numbers": dict(self.numbers),
            "recall": dict(self.recall),
        }


@dataclass(frozen=True, slots=True)
class Case:
    """Readings that are decided on. early: what comes before them. late: all of them. normal: without incidents."""

    early: History
    late: Readings
    normal: Readings

    @property
    def channels(self) -> tuple[str, ...]:
        """Of all readings."""
        return self.early.channels


@dataclass(frozen=True, slots=True)
class _Answer:
    passed: bool
    words: str
    numbers: Mapping[str, float | None]


def decide(
    case: Case,
    champion: Artifact | None,
    challenger: Artifact,
    options: DetectorOptions,
    tolerance: float,
    pulse: Callable[[], None] = lambda: None,
) -> Verdict:
    """Hold the challenger against the champion (None: there is none); raises DataError when there is too little.

    pulse: called now and then while windows are scored.
    """
    windows = _windows(case, challenger)
    if fault := degenerate(challenger, windows, options.device):
        return Verdict(False, False, (f"refused: {fault}",), {}, {})
    answers = [_compare_loss(champion, challenger, windows, options.device, tolerance)]
    over = trial.ground(case.early, case.late, challenger.model.config.window)
    faults = trial.plant(over)
    if not faults:
        raise DataError(
            f"there is too little to judge new weights on: no sensor has {trial.LEAST_ROOM} readings in the latest "
            f"{HELD_SHARE * trial.JUDGED_SHARE:.0%}; wait, or raise trainer.history"
        )
    old, new = _outcomes(over, faults, champion, challenger, options, pulse)
    answers.append(_compare_alarms(old, new, over.judged, options.budget, tolerance))
    answers.append(_compare_recall(old, new, faults, tolerance))
    numbers = {name: _plain(value) for one in answers for name, value in one.numbers.items()}
    return Verdict(
        all(one.passed for one in answers), True, tuple(one.words for one in answers), numbers, _by_kind(new, faults)
    )


def _windows(case: Case, challenger: Artifact) -> torch.Tensor:
    """Normal windows (N, T, C) of the latest part, on the scale that this part has: training's may be what is wrong."""
    window = challenger.model.config.window
    history = History(case.normal, case.early.sensor_ids, case.channels)
    try:
        scales = sample.scales(history, window)
    except DataError as error:
        raise DataError(
            f"there is too little to judge new weights on: no sensor has a window of {window} normal readings in the "
            f"latest {HELD_SHARE:.0%}; wait, or raise trainer.history"
        ) from error
    known = History(case.normal[scales.known[case.normal.sensor]], case.early.sensor_ids, case.channels)
    return torch.from_numpy(sample.windows(known, window, scales, WINDOWS))


def _compare_loss(
    champion: Artifact | None, challenger: Artifact, windows: torch.Tensor, device: str, tolerance: float
) -> _Answer:
    if champion is None:
        return _Answer(True, "the loss is compared with nothing: there is no champion", {})
    same = champion.model.name == challenger.model.name
    if not same or asdict(champion.model.config) != asdict(challenger.model.config):
        return _Answer(True, "the losses are not compared: the champion is another model or has another shape", {})
    old, new = (_loss(one, windows, device) for one in (champion, challenger))
    if old == new == 0:
        return _Answer(True, f"{challenger.model.name} has no loss to compare", {})
    passed = new <= old * (1 + tolerance)
    words = (
        f"its loss is {new:.4g}, the champion's {old:.4g}: "
        f"{'not worse' if passed else f'worse by more than {tolerance:.0%}'}"
    )
    return _Answer(passed, words, {"loss": new, "champion_loss": old})


def _loss(artifact: Artifact, windows: torch.Tensor, device: str) -> float:
    """The middle one of the losses of small groups of windows."""
    model = artifact.model.to(device)
    model.train(False)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        losses = [
            model.loss(windows[order[at : at + GROUP]].to(device), 1).item() for at in range(0, len(windows), GROUP)
        ]
    return float(np.median(losses))


def _outcomes(
    over: trial.Ground,
    faults: Sequence[Planted],
    champion: Artifact | None,
    challenger: Artifact,
    options: DetectorOptions,
    pulse: Callable[[], None],
) -> tuple[Outcome | None, Outcome]:
    """The champion's, and the challenger's as if it had taken over from it where a worker could do so."""
    if champion is None:
        return None, Trial(challenger, options, over, pulse).run(faults)
    running = Trial(_with_scales(champion, challenger), options, over, pulse)
    old = running.run(faults)
    if champion.model.config.window == challenger.model.config.window:
        running.succeed(challenger)
    else:
        running = Trial(challenger, options, over, pulse)
    return old, running.run(faults)


def _with_scales(champion: Artifact, challenger: Artifact) -> Artifact:
    """The champion with the scales of sensors that it was not trained on: a worker has long followed them."""
    scales = {name: SensorSeed(seed.center, seed.spread) for name, seed in challenger.scaler.items()}
    return replace(champion, scaler={**scales, **champion.scaler})


def _compare_alarms(old: Outcome | None, new: Outcome, judged: Readings, budget: Budget, tolerance: float) -> _Answer:
    allowed = _allowed(judged, budget)
    base = max(allowed, old.alarms if old else 0)
    most = most_by_chance(base * (1 + tolerance))
    passed = new.alarms <= most
    of = f"the champion {old.alarms}, " if old else ""
    words = (
        f"it raises {new.alarms} alarms in the latest {len(judged)} readings of {len(np.unique(judged.sensor))} "
        f"sensors, {of}the budget allows {allowed:.3g}: {'not more' if passed else 'more'} than chance explains "
        f"(at most {most})"
    )
    numbers = {"alarms": new.alarms, "champion_alarms": old.alarms if old else None, "budget_alarms": allowed}
    return _Answer(passed, words, {**numbers, "most_alarms": most})


def _allowed(judged: Readings, budget: Budget) -> float:
    """Alarms that the budget grants these sensors over these readings."""
    if budget.readings is not None:
        return budget.alerts * len(judged) / budget.readings
    spans = sum(float(np.ptp(judged.time_ms[judged.sensor == sensor])) for sensor in np.unique(judged.sensor))
    return budget.alerts * spans / (budget.period_ms or math.inf)


def most_by_chance(expected: float) -> int:
    """The largest count that chance (Poisson) exceeds at most once in a hundred times."""
    count, term = 0, math.exp(-min(expected, 700.0))
    if expected > 500:
        return math.ceil(expected + 2.33 * math.sqrt(expected))
    total = term
    while total < 1 - CHANCE:
        count += 1
        term *= expected / count
        total += term
    return count


def _compare_recall(old: Outcome | None, new: Outcome, faults: Sequence[Planted], tolerance: float) -> _Answer:
    recall = sum(new.found) / len(faults)
    if old is None:
        passed = recall >= LEAST_RECALL
        of = f"at least {LEAST_RECALL:.0%} are needed: {'enough' if passed else 'too few'}"
        numbers: dict[str, float | None] = {"recall": recall, "champion_recall": None}
    else:
        before = sum(old.found) / len(faults)
        lost = sum(a and not b for a, b in zip(old.found, new.found, strict=True))
        gained = sum(b and not a for a, b in zip(old.found, new.found, strict=True))
        passed = recall >= before - tolerance or _chance_of(lost, gained) >= CHANCE_TO_LOSE
        of = f"the champion {sum(old.found)} ({lost} lost, {gained} gained): {'not worse' if passed else 'too few'}"
        numbers = {"recall": recall, "champion_recall": before, "lost": lost, "gained": gained}
    words = f"it finds {sum(new.found)} of {len(faults)} planted faults, {of}"
    return _Answer(passed, words, {**numbers, "planted": len(faults)})


def _chance_of(lost: int, gained: int) -> float:
    """The chance that so many of the differences or more are losses, if a loss is as likely as a gain (sign test)."""
    of = lost + gained
    return sum(math.comb(of, k) for k in range(lost, of + 1)) / float(2**of)


def _by_kind(new: Outcome, faults: Sequence[Planted]) -> dict[str, float]:
    """The share that was found of each kind."""
    found: dict[str, list[bool]] = {}
    for one, hit in zip(faults, new.found, strict=True):
        found.setdefault(one.kind, []).append(hit)
    return {kind: round(sum(hits) / len(hits), 4) for kind, hits in found.items()}


def _plain(value: float | None) -> float | None:
    return round(float(value), 6) if value is not None and math.isfinite(value) else None
