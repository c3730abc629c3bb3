"""Weights from another machine, fine-tuned on little data, against training on that data alone.

    python -m tests.benchmarks.transfer SETS [--output tests/benchmarks/transfer.md] [--model encoder]

SETS is a directory of labelled CSV files whose names end in `_trainN`: the first N rows are normal, and all have the
same channels (machines of the Server Machine Dataset). For each ordered pair of machines: weights trained on all
normal rows of the first are fine-tuned on the latest 5 % of the second's normal rows. Held against them: training on
these rows from scratch, and on all normal rows of the second machine. What is judged are the second machine's rows
behind its normal part, as `evaluate` does it.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Sequence
from datetime import date
from itertools import permutations
from pathlib import Path

import numpy as np

from stream_detector.evaluation import sets
from stream_detector.evaluation.metrics.spread import mean_with_interval
from stream_detector.evaluation.runner import Failed, Job, Plan, attempt
from stream_detector.evaluation.sets import Series
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings
from stream_detector.streaming import offline
from stream_detector.training.fit import FitOptions
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train
from stream_detector.training.transfer import fine_tune

SHARE, WINDOW = 0.05, 100
BUDGET = "1 per 2000 readings"


def normal(series: Series, share: float) -> History:
    """The latest share of a machine's normal rows."""
    labelled = sets.read(series)
    if labelled.learned is None:
        raise SystemExit(f"{series.path}: its name does not end in _trainN")
    rows = labelled.table.order[: labelled.learned]
    return offline.history(labelled.table, rows[round((1 - share) * len(rows)) :])


def vus(series: Series, weights: Artifact, directory: Path, name: str) -> float:
    """VUS-PR of these weights on a machine's rows behind its normal part."""
    weights.save(directory / name)
    plan = Plan("prefix", WINDOW, BUDGET, "block-maximum", 1, 0)
    outcome = attempt(Job(series, str(directory / name), plan, Settings(), directory / "results"))
    if isinstance(outcome, Failed):
        raise SystemExit(f"{name} on {series.name}: {outcome.reason}")
    return float(np.mean([result.vus for result in outcome]))


def quiet(done: int, total: int, loss: float) -> None:
    """Progress for nobody."""


def page(model: str, rows: Sequence[tuple[str, str, float, float, float]]) -> list[str]:
    """The results page."""
    gained = [tuned - scratch for _, _, tuned, scratch, _ in rows]
    mean, low, high = mean_with_interval(gained)
    lines = [
        "# Transfer to a machine with little data",
        "",
        f"`python -m tests.benchmarks.transfer SETS --model {model}`, {date.today()}, {platform.machine()}. VUS-PR; "
        f"{SHARE:.0%} of a machine's normal rows.",
        "",
        f"Fine-tuned less from scratch, mean over {len(rows)} pairs: **{mean:+.3f}** [{low:+.3f}, {high:+.3f}] "
        f"(paired, bootstrap 95 %); fine-tuning is better in {sum(gain > 0 for gain in gained)}.",
        "",
        "| from | to | fine-tuned | from scratch | trained on all its rows |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [f"| {a} | {b} | {tuned:.3f} | {scratch:.3f} | {full:.3f} |" for a, b, tuned, scratch, full in rows]
    means = [float(np.mean([row[column] for row in rows])) for column in (2, 3, 4)]
    return [*lines, f"| mean | | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.3f} |"]


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--model", default="encoder")
    args = parser.parse_args()
    machines = sets.find(args.sets, "csv")
    options = TrainOptions(args.model, WINDOW, fit=FitOptions(epochs=10, seed=0))
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        full = {one.name: train(normal(one, 1.0), options, quiet) for one in machines}
        few = {one.name: normal(one, SHARE) for one in machines}
        of_full = {one.name: vus(one, full[one.name], directory, "full") for one in machines}
        of_few = {one.name: vus(one, train(few[one.name], options, quiet), directory, "scratch") for one in machines}
        rows = []
        for first, second in permutations(machines, 2):
            tuned = fine_tune(few[second.name], full[first.name], options, quiet)
            found = vus(second, tuned, directory, f"from {first.name}")
            rows.append((first.name, second.name, found, of_few[second.name], of_full[second.name]))
            print(rows[-1], flush=True)
    lines = page(args.model, rows)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
