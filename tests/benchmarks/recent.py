"""What a score of some recent steps, in the channels that are most wrong, gives over that of one step in all.

    python -m tests.benchmarks.recent DATA [--output tests/benchmarks/recent.md] [--kept DIR] [--steps 150]

The three published Transformers are fitted as `mended` does it, on the same series, and scored twice: as published, and
as the package does unless it is told otherwise. The encoder stands beside them, and random scores. What was measured is
kept in DIR.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from stream_detector.evaluation import sets
from stream_detector.evaluation.metrics.buffer import buffer_of
from stream_detector.evaluation.metrics.ranking import vus_pr
from stream_detector.evaluation.metrics.spread import mean_with_interval
from stream_detector.evaluation.results import lowest_where_missing
from stream_detector.evaluation.sets import Series
from stream_detector.models.artifact import build
from stream_detector.streaming.files import make_directory
from stream_detector.training.fit import FitOptions
from tests.benchmarks.faulty_runs import WINDOW, Run, fitted, parts, score
from tests.benchmarks.mended import PUBLISHED, short_series

MODELS = ("tranad", "timesnet", "anomaly-transformer")
Found = Mapping[str, Mapping[str, float]]


def measure(series: Series, steps: int) -> dict[str, float]:
    """VUS-PR by model; of the three also as published."""
    labelled = sets.read(series)
    part = parts(labelled)
    labels = labelled.labels[part.judged_rows]
    buffer = buffer_of(labelled.table.values[labelled.table.order, 0])
    found = {}
    for name in (*MODELS, "encoder"):
        torch.manual_seed(0)
        model = build(name, {"window": WINDOW, "channels": part.channels})
        fitted(model, part, FitOptions(epochs=steps, steps=steps, seed=0), Run())
        found[name] = vus_pr(labels, lowest_where_missing(score(model, part, Run())), buffer)
        if name in MODELS:
            model.config = replace(model.config, **PUBLISHED)
            found[f"{name}, as published"] = vus_pr(labels, lowest_where_missing(score(model, part, Run())), buffer)
    found["random"] = vus_pr(labels, np.random.default_rng(0).random(len(labels)), buffer)
    return found


def page(found: Found, set_of: Mapping[str, str], command: str) -> list[str]:
    """The results page; set_of: by series, the set that it is from."""
    known = {name: one for name, one in found.items() if not np.isnan(one["encoder"])}
    lines = [
        "# A score of the recent steps",
        "",
        f"`{command}`, {date.today()}, {platform.machine()}. VUS-PR, mean over {len(known)} series; differences are "
        f"paired, with their bootstrap 95 % interval over series.",
        "",
        "| model | one step, all channels | recent steps, most surprised channels | gained | less random | less the "
        "encoder |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in MODELS:
        new, old, random, encoder = (
            np.array([one[key] for one in known.values()])
            for key in (name, f"{name}, as published", "random", "encoder")
        )
        cells = []
        for difference in (new - old, new - random, new - encoder):
            mean, low, high = mean_with_interval(difference.tolist())
            cells.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        lines.append(f"| {name} | {old.mean():.3f} | {new.mean():.3f} | " + " | ".join(cells) + " |")
    for name in ("encoder", "random"):
        lines.append(f"| {name} | | {np.mean([one[name] for one in known.values()]):.3f} | | | |")
    return [*lines, "", *_by_set(known, set_of), "", *_by_series(known)]


def _by_set(found: Found, set_of: Mapping[str, str]) -> list[str]:
    names = (*MODELS, "encoder", "random")
    lines = ["| set | series | " + " | ".join(names) + " |", "| --- | ---: |" + " ---: |" * len(names)]
    for which in dict.fromkeys(set_of[name] for name in found):
        those = [one for name, one in found.items() if set_of[name] == which]
        means = (np.mean([one[name] for one in those]) for name in names)
        lines.append(f"| {which} | {len(those)} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return lines


def _by_series(found: Found) -> list[str]:
    names = list(next(iter(found.values())))
    lines = ["| series | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for series, one in found.items():
        lines.append(f"| {series} | " + " | ".join(f"{one[name]:.3f}" for name in names) + " |")
    return lines


def main() -> None:
    """Measure what is not kept yet, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--kept", type=Path, default=Path("build/recent"))
    parser.add_argument("--steps", type=int, default=150, help="of training, 64 windows each")
    given = parser.parse_args()
    torch.set_num_threads(1)
    make_directory(given.kept)
    found, set_of = {}, {}
    for series in short_series(given.data):
        place = given.kept / f"{series.name}-{given.steps}.json"
        if not place.exists():
            place.write_text(json.dumps(measure(series, given.steps)), encoding="utf-8")
        found[series.name] = json.loads(place.read_text(encoding="utf-8"))
        set_of[series.name] = series.path.parent.name
        print(series.name, found[series.name], flush=True)
    lines = page(found, set_of, f"python -m tests.benchmarks.recent DATA --steps {given.steps}")
    print("\n".join(lines))
    if given.output:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
