"""What mending the published Transformers gave: each model with one fault put back, beside the model without it.

    python -m tests.benchmarks.mended DATA [--output tests/benchmarks/mended.md] [--kept DIR] [--steps 150]

DATA holds the labelled sets series/touchstone/ and series/smd/; series of more than `MOST_ROWS` rows are left out.
Models are fitted on the part that a series' name gives, or on its first 15 %, and judged causally on what follows, as
`evaluate` does it: the same buffers, scales and VUS-PR. A fault of scoring alone is put into the weights that the
mended model learned. What was measured of a series is kept in DIR, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stream_detector.evaluation import sets
from stream_detector.evaluation.metrics.buffer import buffer_of
from stream_detector.evaluation.metrics.events import spans
from stream_detector.evaluation.metrics.ranking import vus_pr
from stream_detector.evaluation.metrics.spread import mean_with_interval
from stream_detector.evaluation.results import lowest_where_missing
from stream_detector.evaluation.sets import Series
from stream_detector.models import MODELS
from stream_detector.records import Bools, Floats
from stream_detector.streaming.files import make_directory
from stream_detector.training.fit import FitOptions
from tests.benchmarks import faults
from tests.benchmarks.faulty_runs import WINDOW, Part, Run, differs_by_batch, fitted, held_scores, parts, score

MOST_ROWS = 50_000
FALSE_SHARE = 0.01
"""Share of rows flagged where a threshold is a quantile of scores."""


PUBLISHED: dict[str, Any] = {"recent": 1, "top": 1.0}
"""A score of one step, over all channels: what a fault of scoring does is then not blurred."""
PLAIN, TILES = Run(), Run(stride=None)


@dataclass(frozen=True, slots=True)
class Variant:
    """A model with a fault. made: its class, None for the mended one. again: whether it is fitted anew.

    late: rows by which scores stand too late. run: how windows are fed.
    """

    model: str
    fault: str
    made: type[Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    again: bool = True
    late: int = 0
    run: Run = PLAIN

    def build(self, part: Part) -> Any:
        """A model with fresh weights."""
        model_class, config_class = MODELS[self.model]
        config = (PUBLISHED if self.model != "encoder" else {}) | dict(self.config)
        return (self.made or model_class)(config_class(window=WINDOW, channels=part.channels, **config))


MENDED = [Variant(name, "") for name in ("anomaly-transformer", "tranad", "timesnet", "encoder")]
FAULTS = [
    Variant(
        "anomaly-transformer",
        "each step scored where it stands in windows that do not overlap, later steps seen",
        faults.WholeWindows,
        again=False,
        run=TILES,
    ),
    Variant(
        "anomaly-transformer",
        "temperature 50, weights as small as they come",
        faults.SharpWeights,
        {"temperature": 50.0},
        again=False,
    ),
    Variant("anomaly-transformer", "both", faults.Unbounded, {"temperature": 50.0}, again=False, run=TILES),
    Variant("tranad", "the decoder is asked with the step that it reconstructs", faults.LeakingTranAd),
    Variant("tranad", "the focus holds the error of the step itself", faults.OwnFocusTranAd),
    Variant("tranad", "learned from the last step of a window alone", faults.LastOnlyTranAd),
    Variant("tranad", "`LeakyReLU(True)`: the feedforward is linear", faults.LinearTranAd),
    Variant("tranad", "the first epoch teaches no phase 2 (weight 1 / n)", config={"begun": 0}),
    Variant(
        "tranad",
        "the decoders contend, as in the paper (no fault: what small models leave out)",
        config={"contest": True},
    ),
    Variant("tranad", "scores stand one row late against the labels", again=False, late=1),
    Variant(
        "tranad", "all of the published code's, attention without a mask", faults.PublishedTranAd, {"begun": 0}, late=1
    ),
    Variant("timesnet", "periods are the batch's", faults.BatchPeriods),
    Variant(
        "timesnet",
        "each step scored where it stands in windows that do not overlap, later steps seen",
        faults.WholeWindowsTimesNet,
        again=False,
        run=TILES,
    ),
    Variant("encoder", "no position", faults.Unplaced),
    Variant("encoder", "values as they come, on no scale", run=Run(scaled=False)),
    Variant("encoder", "it sees what it reconstructs", faults.Copying),
]


def measure(series: Series, steps: int) -> dict[str, Any]:
    """VUS-PR of all variants on a series, and what thresholds and batches do."""
    labelled = sets.read(series)
    part = parts(labelled)
    labels = labelled.labels[part.judged_rows]
    buffer = buffer_of(labelled.table.values[labelled.table.order, 0])
    options = FitOptions(epochs=steps, steps=steps, seed=0)
    found: dict[str, Any] = {"vus": {}, "batch": {}, "flagged": {}}
    learned: dict[str, Any] = {}
    for variant in [*MENDED, *FAULTS]:
        torch.manual_seed(0)
        model = variant.build(part)
        if variant.again:
            fitted(model, part, options, variant.run)
        else:
            model.load_state_dict(learned[variant.model].state_dict())
        key = f"{variant.model}: {variant.fault}"
        ranked = lowest_where_missing(np.roll(score(model, part, variant.run), variant.late))
        found["vus"][key] = vus_pr(labels, ranked, buffer)
        if not variant.fault:
            learned[variant.model] = model
            found["flagged"][variant.model] = flagged(ranked, held_scores(model, part), labels)
        if not variant.fault or variant.made is faults.BatchPeriods:
            found["batch"][key] = differs_by_batch(model, part)
    chance = np.random.default_rng(0)
    found["flagged"]["random"] = flagged(chance.random(len(labels)), chance.random(1000), labels)
    return found


def flagged(score: Floats, held: Floats, labels: Bools) -> dict[str, float]:
    """F1 by where the threshold is from: a quantile of held-out normal scores, or of the judged ones, as published."""
    known = held[np.isfinite(held)]
    honest = score > np.quantile(known, 1 - FALSE_SHARE)
    peeked = score > np.quantile(score, 1 - labels.mean())
    return {"held": f1(labels, honest), "judged": f1(labels, peeked), "adjusted": f1(labels, adjusted(labels, peeked))}


def adjusted(labels: Bools, flags: Bools) -> Bools:
    """Point adjustment: an event with one flagged row counts as flagged in all."""
    flags = flags.copy()
    for first, last in spans(labels).tolist():
        flags[first:last] |= flags[first:last].any()
    return flags


def f1(labels: Bools, flags: Bools) -> float:
    """F1 of single rows."""
    return float(2 * (labels & flags).sum() / max(labels.sum() + flags.sum(), 1))


def page(found: Mapping[str, Mapping[str, Any]], command: str) -> list[str]:
    """The results page."""
    with_anomalies = {name: one for name, one in found.items() if not np.isnan(next(iter(one["vus"].values())))}
    lines = [
        "# What mending gave",
        "",
        f"`{command}`, {date.today()}, {platform.machine()}.",
        "",
        f"Each model as it is, and with one fault of the published code put back. VUS-PR, causal but where the fault "
        f"is that it is not; mean over {len(with_anomalies)} series ({', '.join(sorted(with_anomalies))}). The "
        f"difference is mended less faulty, paired, with its bootstrap 95 % interval over series.",
        "",
        "| model | fault put back | mended | with the fault | mended less faulty | mended is better in |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for variant in FAULTS:
        whole = [one["vus"][f"{variant.model}: "] for one in with_anomalies.values()]
        faulty = [one["vus"][f"{variant.model}: {variant.fault}"] for one in with_anomalies.values()]
        gained = np.subtract(whole, faulty)
        mean, low, high = mean_with_interval(gained.tolist())
        lines.append(
            f"| {variant.model} | {variant.fault} | {np.mean(whole):.3f} | {np.mean(faulty):.3f} | {mean:+.3f} "
            f"[{low:+.3f}, {high:+.3f}] | {int((gained > 0).sum())} of {len(gained)} |"
        )
    return [*lines, "", *_of_batches(found), "", *_of_thresholds(with_anomalies)]


def _of_batches(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    keys = list(next(iter(found.values()))["batch"])
    return [
        "Largest relative difference that the other windows of a batch make to a window's score, over all series:",
        "",
        "| model | fault put back | difference |",
        "| --- | --- | ---: |",
        *(
            f"| {key.partition(': ')[0]} | {key.partition(': ')[2] or 'none'} | "
            f"{max(one['batch'][key] for one in found.values()):.2g} |"
            for key in keys
        ),
    ]


def _of_thresholds(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = ("held", "judged", "adjusted")
    names = list(next(iter(found.values()))["flagged"])
    lines = [
        f"F1 of rows, mean over these series, of the mended models and of a random score. Threshold: the highest "
        f"{FALSE_SHARE:.0%} of held-out normal scores; as published, of the judged scores themselves as many as rows "
        f"are labelled; the same with point adjustment, which makes a hit in one row of an event a hit in all of them.",
        "",
        "| score | held-out threshold | threshold of the judged scores | and point adjustment |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in names:
        means = [np.mean([one["flagged"][name][column] for one in found.values()]) for column in columns]
        lines.append(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return lines


def short_series(data: Path) -> list[Series]:
    """The series that are not too long."""
    every = [one for name in ("touchstone", "smd") for one in sets.find(data / "series" / name, "csv")]
    return [one for one in every if len(sets.read(one).table) <= MOST_ROWS]


def main() -> None:
    """Measure what is not kept yet, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--kept", type=Path, default=Path("build/mended"))
    parser.add_argument("--steps", type=int, default=150, help="of training, 64 windows each")
    given = parser.parse_args()
    torch.set_num_threads(1)
    make_directory(given.kept)
    found = {}
    for series in short_series(given.data):
        place = given.kept / f"{series.name}-{given.steps}.json"
        if not place.exists():
            place.write_text(json.dumps(measure(series, given.steps)), encoding="utf-8")
        found[series.name] = json.loads(place.read_text(encoding="utf-8"))
        print(series.name, found[series.name]["vus"], flush=True)
    lines = page(found, f"python -m tests.benchmarks.mended DATA --steps {given.steps}")
    print("\n".join(lines))
    if given.output:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
