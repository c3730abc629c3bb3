"""Weights from another machine, fine-tuned on little data, against training on that data alone.

    python -m tests.benchmarks.transfer SETS [--output tests/benchmarks/transfer.md] [--models tranad]
        [--also timesnet,encoder] [--share 0.05] [--kept DIR]

SETS is a directory of labelled CSV files whose names end in `_trainN`: the first N rows are normal, and all have the
same channels (machines of the Server Machine Dataset). For each ordered pair of machines: weights trained on all
normal rows of the first are fine-tuned on the latest share of the second's normal rows, in each of `WAYS`; with the
models behind --also in the first of them alone, which is the package's own. Held against them: training on these rows
from scratch, and on all normal rows of the second machine. What is judged are the second machine's rows behind its
normal part, scored as in production; the measure is VUS-PR. What is measured is kept in DIR, so that a stopped run goes
on.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stream_detector.detect.scoring import Scorer
from stream_detector.evaluation import sets
from stream_detector.evaluation.metrics.buffer import buffer_of
from stream_detector.evaluation.metrics.ranking import vus_pr
from stream_detector.evaluation.metrics.spread import mean_with_interval
from stream_detector.evaluation.results import lowest_where_missing
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.records import Bools
from stream_detector.streaming import offline
from stream_detector.streaming.files import make_directory
from stream_detector.training.fit import FitOptions
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, consecutive_scores, train
from stream_detector.training.transfer import FINE_RATE, PATIENCE, fine_tune

WINDOW = 100
CPU = torch.device("cpu")
Way = Callable[[History, Artifact, TrainOptions], Artifact]


class Machine:
    """A machine's normal rows and those to be judged."""

    def __init__(self, series: sets.Series) -> None:
        self.name = series.name.partition("_train")[0]
        labelled = sets.read(series)
        if labelled.learned is None:
            raise SystemExit(f"{series.path}: its name does not end in _trainN")
        table, count = labelled.table, labelled.learned
        self._table, self._normal = table, table.order[:count]
        self._judged = offline.history(table, table.order[count - WINDOW + 1 :])
        self._labels: Bools = labelled.labels[table.order[count:]]
        self._buffer = buffer_of(table.values[table.order, 0])

    def normal(self, share: float) -> History:
        """The latest share of the normal rows."""
        rows = self._normal
        return offline.history(self._table, rows[round((1 - share) * len(rows)) :])

    def vus(self, weights: Artifact) -> float:
        """VUS-PR of these weights on the rows behind the normal part."""
        scores = consecutive_scores(self._judged, Scorer(weights.model, CPU), weights.scaler)
        (score,) = scores.values()
        return vus_pr(self._labels, lowest_where_missing(score), self._buffer)


def quiet(done: int, total: int, loss: float) -> None:
    """Progress for nobody."""


def _unfitted(few: History, start: Artifact, options: TrainOptions) -> Artifact:
    """The other machine's weights as they are, on the scale that these rows give."""
    return replace(start, scaler=train(few, replace(options, fit=FitOptions(steps=1)), quiet).scaler)


def _stepped(few: History, start: Artifact, options: TrainOptions, **fit: Any) -> Artifact:
    """Fine-tuned as the package does but for what is given."""
    usual: dict[str, Any] = {"rate": FINE_RATE, "patience": PATIENCE, "widen": True}
    return train(few, replace(options, fit=replace(options.fit, **{**usual, **fit})), quiet, start)


WAYS: Mapping[str, Way] = {
    "as `train --from` does": lambda few, start, options: fine_tune(few, start, options, quiet),
    "as they are, on the new machine's scale": _unfitted,
    "ranges computed anew of the few rows": lambda few, start, options: _stepped(few, start, options, widen=False),
    "`--frozen`: only the last layer learns": lambda few, start, options: fine_tune(
        few, start, options, quiet, frozen=True
    ),
    "4 times the rate": lambda few, start, options: _stepped(few, start, options, rate=4 * FINE_RATE),
    "up to 400 steps": lambda few, start, options: _stepped(few, start, options, epochs=400),
    "no early stopping": lambda few, start, options: _stepped(few, start, options, patience=0),
}
ALONE: Mapping[str, Mapping[str, Any]] = {
    "from scratch": {},
    "from scratch, up to 400 steps, early stopping": {"epochs": 400, "patience": PATIENCE},
}
"""What training on the few rows alone is told."""


class Kept:
    """Numbers by name in a file; what is there is not measured again."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._known: dict[str, float] = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}

    def get(self, name: str, measure: Callable[[], float]) -> float:
        """The number of a name, measured where it is not known."""
        if name not in self._known:
            self._known[name] = measure()
            self._place.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
            print(name, round(self._known[name], 3), flush=True)
        return self._known[name]


class Measured:
    """One model on all machines and pairs of them."""

    def __init__(
        self, model: str, share: float, machines: Sequence[Machine], kept: Path, ways: Sequence[str] = tuple(WAYS)
    ) -> None:
        self.model, self._share, self._kept_in = model, share, kept
        self._options = TrainOptions(model, WINDOW, fit=FitOptions(epochs=10, seed=0))
        self._machines = {machine.name: machine for machine in machines}
        self._kept = Kept(kept / f"{model}-{share}.json")
        self.pairs = list(permutations(self._machines, 2))
        self.full = {name: self._number(f"all rows/{name}", name, self._full) for name in self._machines}
        self.on_few_scale = {name: self._number(f"its own/{name}", name, self._own) for name in self._machines}
        self.alone = {way: {name: self._alone(way, name) for name in self._machines} for way in ALONE}
        self.tuned = {way: {pair: self._tuned(way, *pair) for pair in self.pairs} for way in ways}

    def _number(self, name: str, machine: str, weights: Callable[[str], Artifact]) -> float:
        return self._kept.get(name, lambda: self._machines[machine].vus(weights(machine)))

    def _few(self, name: str) -> History:
        return self._machines[name].normal(self._share)

    def _full(self, name: str) -> Artifact:
        place = self._kept_in / f"{self.model}-{name}"
        if not place.exists():
            train(self._machines[name].normal(1.0), self._options, quiet).save(place)
        return artifacts.load(place)

    def _own(self, name: str) -> Artifact:
        return _unfitted(self._few(name), self._full(name), self._options)

    def _alone(self, way: str, name: str) -> float:
        options = replace(self._options, fit=replace(self._options.fit, **ALONE[way]))
        return self._number(f"{way}/{name}", name, lambda name: train(self._few(name), options, quiet))

    def _tuned(self, way: str, first: str, second: str) -> float:
        return self._number(
            f"{way}/{first}/{second}", second, lambda name: WAYS[way](self._few(name), self._full(first), self._options)
        )

    def gained(self, way: str) -> list[float]:
        """What a way has over training from scratch, for each pair."""
        scratch = self.alone["from scratch"]
        return [found - scratch[second] for (_, second), found in self.tuned[way].items()]


def page(measured: Sequence[Measured], share: float, command: str) -> list[str]:
    """The results page."""
    first_way = next(iter(WAYS))
    lines = [
        "# Transfer to a machine with little data",
        "",
        f"`{command}`, {date.today()}, {platform.machine()}. VUS-PR; {share:.0%} of a machine's normal rows.",
        "",
        "Fine-tuned as `train --from` does, less from scratch on the same rows; mean over the pairs (paired, bootstrap "
        "95 %):",
        "",
        "| model | fine-tuned | from scratch | difference | better in | trained on all its rows |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in measured:
        scratch, gained = one.alone["from scratch"], one.gained(first_way)
        lines.append(
            f"| {one.model} | {_mean(one.tuned[first_way])} | {_mean(scratch)} | {_interval(gained)} | "
            f"{sum(gain > 0 for gain in gained)} of {len(gained)} | {_mean(one.full)} |"
        )
    lines += ["", f"All ways of fine-tuning that were tried ({len(WAYS)} in all), and what limits them:"]
    for one in measured:
        lines += ["", *_of_model(one)]
    return lines


def _of_model(one: Measured) -> list[str]:
    """All ways of one model, and the pairs of the package's own."""
    scratch, own = one.alone["from scratch"], "the machine's own weights of all its rows"
    lines = [f"## {one.model}", "", "| way | mean | less from scratch | better in |", "| --- | ---: | ---: | ---: |"]
    for way, found in one.tuned.items():
        gained = one.gained(way)
        better = f"{sum(gain > 0 for gain in gained)} of {len(gained)}"
        lines.append(f"| {way} | {_mean(found)} | {_interval(gained)} | {better} |")
    others = {**one.alone, f"{own}, on the scale of the few": one.on_few_scale, own: one.full}
    lines += [f"| {way} | {_mean(found)} | | |" for way, found in others.items()]
    lines += ["", "| from | to | fine-tuned | from scratch | all its rows |", "| --- | --- | ---: | ---: | ---: |"]
    return lines + [
        f"| {a} | {b} | {found:.3f} | {scratch[b]:.3f} | {one.full[b]:.3f} |"
        for (a, b), found in one.tuned[next(iter(WAYS))].items()
    ]


def _mean(found: Mapping[Any, float]) -> str:
    return f"{np.mean(list(found.values())):.3f}"


def _interval(gained: Sequence[float]) -> str:
    mean, low, high = mean_with_interval(gained)
    return f"**{mean:+.3f}** [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Measure what is not kept yet, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--models", default="tranad")
    parser.add_argument("--also", default="timesnet,encoder", help="in the package's own way alone")
    parser.add_argument("--share", type=float, default=0.05, help="of a machine's normal rows")
    parser.add_argument("--kept", type=Path, default=Path("build/transfer"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_directory(args.kept)
    machines = [Machine(one) for one in sets.find(args.sets, "csv")]
    own_way = list(WAYS)[:1]
    measured = [Measured(model, args.share, machines, args.kept) for model in args.models.split(",")]
    measured += [Measured(model, args.share, machines, args.kept, own_way) for model in args.also.split(",")]
    command = f"python -m tests.benchmarks.transfer SETS --models {args.models} --also {args.also} --share {args.share}"
    lines = page(measured, args.share, command)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
