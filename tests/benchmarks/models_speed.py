"""Windows a second of every model at one configuration, beside the published code where it is at hand.

    python -m tests.benchmarks.models_speed [--output tests/benchmarks/models_speed.md]
        [--anomaly-transformer DIR] [--time-series-library DIR]

Windows of 100 steps, 64 wide, 2 layers, 4 heads, feedforward 128 (TimesNet: feedforward 64, 5 periods), 38 channels,
batches of 64, two threads; one score a window, that of its last step. DIR is a checkout of the public repositories
thuml/Anomaly-Transformer and thuml/Time-Series-Library: then their networks run in the same process, with the score
computation that they come with, in turns with ours and on the same weights, and the scores are compared. Nothing of
them is part of this project.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from stream_detector.models.artifact import build

WINDOW, CHANNELS, BATCH, THREADS, ROUNDS, SECONDS = 100, 38, 64, 2, 5, 1.5
SIZE = {"width": 64, "layers": 2, "heads": 4, "feedforward": 128}
PUBLISHED = {"recent": 1, "top": 1.0}
"""A score of one step, over all channels."""
CONFIGS: dict[str, dict[str, Any]] = {
    "encoder": SIZE,
    "anomaly-transformer": {**SIZE, "temperature": 1.0, **PUBLISHED},
    "tranad": {key: value for key, value in SIZE.items() if key != "layers"} | PUBLISHED,
    "timesnet": {"width": 64, "feedforward": 64, "layers": 2, "periods": 5, **PUBLISHED},
}
Score = Callable[[Tensor], Tensor]
"""Windows (B, T, C) to the score of each one's last step (B,)."""


@dataclass(frozen=True)
class Published:
    """The published computation. equal: largest relative difference of our scores to it, one window at a time."""

    score: Score
    difference: float
    compared: int


def ours(model: Any) -> Score:
    """A model of this project as it is called in production."""
    return lambda windows: model.score(windows, 1).score[:, 0]


@contextmanager
def where_it_is() -> Iterator[None]:
    """Without a GPU, let tensors stay where they are: the published code moves some to one in any case."""
    moved = torch.Tensor.cuda
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_: self  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        torch.Tensor.cuda = moved  # type: ignore[method-assign]


@contextmanager
def importing(directory: Path) -> Iterator[None]:
    """Let a checkout's packages be imported, and forget them again."""
    before = set(sys.modules)
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("model", "models", "layers", "utils"):
                del sys.modules[name]


def anomaly_transformer(directory: Path, model: Any, windows: Tensor) -> Published:
    """The published network with our weights, and the score of its solver."""
    with importing(directory):
        made = importlib.import_module("model.AnomalyTransformer").AnomalyTransformer(
            WINDOW, CHANNELS, CHANNELS, d_model=64, n_heads=4, e_layers=2, d_ff=128
        )
    names = {"embedding.value_embedding.tokenConv.weight": "embed.convolution.weight"}
    for i in range(2):
        layer, own = f"encoder.attn_layers.{i}", f"layers.{i}"
        pairs = {f"attention.{name}_projection": name for name in ("query", "key", "value", "sigma", "out")}
        pairs |= {"norm1": "attended", "norm2": "fed", "conv1": "feedforward.0", "conv2": "feedforward.2"}
        names |= {f"{layer}.{a}.{kind}": f"{own}.{b}.{kind}" for a, b in pairs.items() for kind in ("weight", "bias")}
    names |= {f"encoder.norm.{kind}": f"norm.{kind}" for kind in ("weight", "bias")}
    names |= {f"projection.{kind}": f"head.{kind}" for kind in ("weight", "bias")}
    _take(made, model, names)

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        return (p * (torch.log(p + 0.0001) - torch.log(q + 0.0001))).sum(dim=-1).mean(dim=1)

    def score(windows: Tensor) -> Tensor:
        output, series, prior, _ = made(windows)
        loss = (windows - output).square().mean(dim=-1)
        apart: Any = 0.0
        for s, p in zip(series, prior, strict=True):
            p = p / p.sum(dim=-1, keepdim=True).repeat(1, 1, 1, WINDOW)
            apart = apart + divergence(s, p) + divergence(p, s)  # the published 50 leaves hardly a score to compare
        return (torch.softmax(-apart, dim=-1) * loss)[:, -1]

    return Published(score, *_compare(score, ours(model), windows))


def timesnet(directory: Path, model: Any, windows: Tensor) -> Published:
    """The published network with our weights; its score is the squared error."""
    shape = {"seq_len": WINDOW, "label_len": 0, "pred_len": 0, "top_k": 5, "d_model": 64, "d_ff": 64, "num_kernels": 6}
    more = {"e_layers": 2, "enc_in": CHANNELS, "c_out": CHANNELS, "embed": "timeF", "freq": "h", "dropout": 0.0}
    with importing(directory):
        made = importlib.import_module("models.TimesNet").Model(
            SimpleNamespace(task_name="anomaly_detection", **shape, **more)
        )
    names = {"enc_embedding.value_embedding.tokenConv.weight": "embed.convolution.weight"}
    for kind in ("weight", "bias"):
        for i in range(2):
            for theirs, own in ((0, "first"), (2, "second")):
                names |= {
                    f"model.{i}.conv.{theirs}.kernels.{k}.{kind}": f"blocks.{i}.{own}.convolutions.{k}.{kind}"
                    for k in range(6)
                }
        names |= {f"layer_norm.{kind}": f"norm.{kind}", f"projection.{kind}": f"head.{kind}"}
    _take(made, model, names)

    def score(windows: Tensor) -> Tensor:
        found: Tensor = (made(windows, None, None, None) - windows).square().mean(dim=-1)[:, -1]
        return found

    return Published(score, *_compare(score, ours(model), windows))


def _take(made: Any, model: Any, names: dict[str, str]) -> None:
    """Give the published network our weights; raises KeyError where one of its own is not named."""
    own, state = model.state_dict(), made.state_dict()
    unused = ("temporal", "attention.norm.")  # made, and never called
    learned = {name for name, _ in made.named_parameters() if not any(part in name for part in unused)}
    if learned - names.keys():
        raise KeyError(f"no weights for {sorted(learned - names.keys())}")
    state |= {theirs: own[name].reshape(state[theirs].shape) for theirs, name in names.items()}
    made.load_state_dict(state)
    made.train(False)


def _compare(theirs: Score, own: Score, windows: Tensor) -> tuple[float, int]:
    """Largest relative difference, where theirs is not lost in a float32, of windows one at a time."""
    wanted = torch.cat([theirs(window[None]) for window in windows])
    found = torch.cat([own(window[None]) for window in windows])
    kept = wanted > 1e-20
    return float(((found - wanted).abs() / wanted)[kept].max()), int(kept.sum())


def pace(scores: dict[str, Score], windows: Tensor) -> dict[str, list[float]]:
    """Windows a second of each, in turns."""
    found: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(ROUNDS):
        for name, score in scores.items():
            begun, done = time.perf_counter(), 0
            while time.perf_counter() - begun < SECONDS:
                score(windows)
                done += len(windows)
            found[name].append(done / (time.perf_counter() - begun))
    return found


def page(paces: dict[str, list[float]], published: dict[str, Published]) -> list[str]:
    """The results page."""

    def median(name: str) -> float:
        return sorted(paces[name])[ROUNDS // 2]

    lines = [
        "# Speed of the models",
        "",
        f"`python -m tests.benchmarks.models_speed`, {date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"PyTorch {torch.__version__}. Windows of {WINDOW}, {CHANNELS} channels, {SIZE['width']} wide, batches of "
        f"{BATCH}, {THREADS} threads; median of {ROUNDS} turns.",
        "",
        "| model | windows/s | published code, windows/s | ratio | largest relative difference of scores |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in CONFIGS:
        one = published.get(name)
        if one is None:
            lines.append(f"| {name} | {median(name):,.0f} | | | |")
            continue
        theirs = median(f"{name}, published")
        difference = f"{one.difference:.1e} ({one.compared} windows, one at a time)"
        lines.append(f"| {name} | {median(name):,.0f} | {theirs:,.0f} | {median(name) / theirs:.1f} | {difference} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--anomaly-transformer", type=Path, help="checkout of thuml/Anomaly-Transformer")
    parser.add_argument("--time-series-library", type=Path, help="checkout of thuml/Time-Series-Library")
    args = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    windows = (torch.randn(BATCH, WINDOW, CHANNELS).cumsum(dim=1) * 0.2).clamp(-20, 20)
    models = {name: build(name, {"window": WINDOW, "channels": CHANNELS, **more}) for name, more in CONFIGS.items()}
    for model in models.values():
        model.prepare(windows)
        model.train(False)
    published = {}
    with torch.inference_mode(), where_it_is():
        if args.anomaly_transformer:
            published["anomaly-transformer"] = anomaly_transformer(
                args.anomaly_transformer, models["anomaly-transformer"], windows[:32]
            )
        if args.time_series_library:
            published["timesnet"] = timesnet(args.time_series_library, models["timesnet"], windows[:32])
        scores = {name: ours(model) for name, model in models.items()}
        scores |= {f"{name}, published": one.score for name, one in published.items()}
        lines = page(pace(scores, windows), published)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
