"""What each part of the default detector is worth: its members left out, alone, and put together in other ways.

    python -m tests.benchmarks.members DATA [--sets nab,touchstone,smd] [--output tests/benchmarks/members.md]
        [--kept build/members]

DATA holds the labelled sets, as for `quality.py`. Of each series the default is trained on the first part, as
`evaluate` does it, and its members are asked once about every later reading; what they say is then put together in each
of `WAYS`. The measure is VUS-PR, mean over series. What is measured is kept in DIR, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stream_detector.detect import scale
from stream_detector.detect.scoring import fill_missing
from stream_detector.evaluation import sets
from stream_detector.evaluation.metrics.buffer import buffer_of
from stream_detector.evaluation.metrics.ranking import vus_pr
from stream_detector.evaluation.metrics.spread import mean_with_interval
from stream_detector.evaluation.results import lowest_where_missing
from stream_detector.models.artifact import Artifact
from stream_detector.models.multiscale import Multiscale, together
from stream_detector.records import Floats
from stream_detector.streaming import offline
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train, walked
from tests.benchmarks.quality import SETS

BUCKET = 64
Way = Callable[[Tensor, Multiscale], Tensor]
"""From the members' surprises (members, N, C), as logarithms, to what each channel comes to (N, C)."""


def kinds(model: Multiscale) -> list[str]:
    """The name of each member."""
    memory = model.memory
    names = [f"near {w}" for w in memory.near] + [f"shape {w}" for w in memory.shape]
    return names + [f"missed {count}" for count in model.config.recent]


def only(*wanted: str) -> Way:
    """The members whose names begin with one of these."""
    return lambda surprise, model: together(surprise[[name.startswith(wanted) for name in kinds(model)]], 3)


def without(*unwanted: str) -> Way:
    """All others."""
    return lambda surprise, model: together(surprise[[not name.startswith(unwanted) for name in kinds(model)]], 3)


WAYS: Mapping[str, Way] = {
    "the default": lambda surprise, _: together(surprise, 3),
    "without *near*": without("near"),
    "without *shape*": without("shape"),
    "without *missed* (no Transformer)": without("missed"),
    "*near* alone": only("near"),
    "*shape* alone": only("shape"),
    "*missed* alone (the Transformer)": only("missed"),
    "*missed* of one number of patches": without("missed 1"),
    "one length (64)": only("near 64", "shape 64", "missed 4"),
    "power 2": lambda surprise, _: together(surprise, 2),
    "power 5": lambda surprise, _: together(surprise, 5),
    "held below 4": lambda surprise, _: together(4 * -torch.expm1(-surprise / 4), 3),
    "cut off at 4": lambda surprise, _: together(surprise.clamp_max(4), 3),
}


def scaled(history: History, artifact: Artifact) -> Iterator[tuple[Floats, Tensor]]:
    """Times (N,) and windows (N, T, C) of the readings that have one, on the scale as production follows it."""
    for due in walked(history, artifact.model.config.window, artifact.scaler):
        step = scale.unit(due.center, due.spread)
        yield due.time_ms[:, -1], torch.from_numpy(fill_missing(scale.apply(due.windows, due.center, step)))


def surprises(model: Multiscale, windows: Tensor) -> Tensor:
    """What the members say of the last step of windows (N, T, C), as logarithms: (members, N, C)."""
    said = torch.cat([model._look(part, 1)[0] for part in torch.split(windows, BUCKET)], dim=1)
    return model.surprise(said)[:, :, 0]


def judged(series: sets.Series) -> dict[str, float]:
    """VUS-PR of a series in each of the ways; empty where it has no anomaly behind what was learned from."""
    labelled = sets.read(series)
    table, options = labelled.table, TrainOptions()
    rows = offline.training_rows(table, labelled.learned, options.window)
    artifact = train(offline.history(table, rows), options, lambda *_: None)
    model = artifact.model
    if not isinstance(model, Multiscale):
        raise SystemExit(f"the default is {model.name}: this benchmark knows the members of {Multiscale.name} alone")
    begin = len(rows) - options.window + 1
    times: list[Floats] = []
    scores: dict[str, list[Floats]] = {name: [] for name in WAYS}
    with torch.inference_mode():
        for time_ms, windows in scaled(offline.history(table, table.order[begin:]), artifact):
            if not len(windows):
                continue
            surprise, most = surprises(model, windows), max(1, round(model.config.top * windows.shape[2]))
            times.append(time_ms)
            for name, way in WAYS.items():
                scores[name].append(way(surprise, model).topk(most, dim=1).values.mean(dim=1).double().numpy())
    counting = table.order[max(len(rows), labelled.probation) :]
    labels = labelled.labels[counting]
    if not labels.any():
        return {}
    known, first = np.unique(np.concatenate(times), return_index=True)
    place = np.minimum(np.searchsorted(known, table.time_ms[counting]), len(known) - 1)
    missing = known[place] != table.time_ms[counting]
    buffer = buffer_of(table.values[table.order, 0])
    found = {}
    for name, parts in scores.items():
        ranked = np.where(missing, np.nan, np.concatenate(parts)[first][place])
        found[name] = vus_pr(labels, lowest_where_missing(ranked), buffer)
    return found


def page(found: Mapping[str, Mapping[str, Mapping[str, float]]], command: str) -> list[str]:
    """The results as Markdown. found: by set and series, VUS-PR by way."""
    lines = [
        "# What each part of the default detector is worth",
        "",
        f"`{command}`, {date.today().isoformat()}, {platform.machine()}. VUS-PR, mean over series; behind it, the"
        f" difference to the default with its 95 % interval (paired, bootstrap over series). {len(WAYS)} ways of"
        " putting the members together; each series' first rows are learned from, one setting for all.",
        "",
        "| | " + " | ".join(f"{name} ({len(series)})" for name, series in found.items()) + " | mean of sets |",
        "| --- |" + " ---: |" * (len(found) + 1),
    ]
    for way in WAYS:
        cells, means = [], []
        for series in found.values():
            values = [one[way] for one in series.values()]
            means.append(float(np.mean(values)))
            less = [one[way] - one["the default"] for one in series.values()]
            middle, low, high = mean_with_interval(less)
            apart = "" if way == "the default" else f" ({middle:+.3f} [{low:+.3f}, {high:+.3f}])"
            cells.append(f"{means[-1]:.3f}{apart}")
        lines.append(f"| {way} | " + " | ".join(cells) + f" | {np.mean(means):.3f} |")
    return lines


def main() -> None:
    """Judge every series and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default=",".join(SETS), help="of these, in this order")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--kept", type=Path, default=Path("build/members"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.kept.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in given.sets.split(","):
        place, form = SETS[name]
        found[name] = {}
        for series in sets.find(given.data / place, form):
            kept = given.kept / f"{name}-{series.name.replace('/', '-')}.json"
            if not kept.exists():
                kept.write_text(json.dumps(judged(series)), encoding="utf-8")
            values = json.loads(kept.read_text(encoding="utf-8"))
            if values:
                found[name][series.name] = values
            print(name, series.name, f"{values['the default']:.3f}" if values else "-", file=sys.stderr, flush=True)
    lines = page(found, "python -m tests.benchmarks.members DATA")
    print("\n".join(lines))
    if given.output:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
