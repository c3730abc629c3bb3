"""How well thresholds keep a budget of false alerts, what they still see, and what they cost.

    python tests/benchmarks/thresholds.py [--output results.md] [--sensors 1000]

Prints Markdown tables. All scores are simulated; nothing is read. Seeds are fixed: the counts are the same on every
run, only the times differ. An alert is an episode: steps that exceed the threshold at most 10 steps apart are one.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np

from stream_detector.detect import thresholds
from stream_detector.detect.state import Fields, State
from stream_detector.detect.thresholds import BlockMaximum, Calibration, Spot, Thresholds
from stream_detector.records import Bools, Floats
from stream_detector.settings import Budget

PERIOD = 2000
"""Steps for one alert: an epoch of the default method is then 499 blocks, 7984 steps."""
WARM, STEPS = 8000, 24_000
SEEN = 128
"""Readings that a score looks at, where scores overlap."""
GAP = 10
NOTES = """\
What the numbers are limited by:

- False alerts: the mean over sensors is near the budget, single sensors scatter about it (95th percentile). A fleet
  measured on short histories is a little too cautious at first; the sensors' own pasts correct it over their epochs.
- Uniform scores end just above their threshold, closer than the running median is certain. They exceed in groups:
  as often as the budget says, but the hard cap silences most of a group, so the alerts stay below the budget.
- Steps of the level: every score exceeds more often until the running median has followed. The cap silences these,
  and once it overflows the median is sought more quickly.
- Recall: the threshold scatters. One epoch's K = 4 maxima place it within half a unit of depth, and at a third of the
  budget's rate 1.3 anomalies are among them; averaging epochs makes both small. Of heavy tails 1.5 times the score
  is 1.2 units of depth, which is what then remains of the margin. Anomalies that are found count as alerts, so fewer
  false ones fit under the same threshold: false / budget is below 1.
- Swaps: a proportional change is followed exactly. Noise between old and new scores makes tails heavier; thresholds
  are lifted by what bell-shaped noise would do.
- Scores that overlap: of their extremes one a cluster counts, so that one anomaly does not fill all K places. A fleet's
  tail is still that of single blocks; its sensors exceed the budget by a fifth until their own past is long.
- Sensors with much heavier tails than their fleet exceed the budget until their own past is long enough.
"""
Stream = Callable[[np.random.Generator, int], Iterator[Floats]]


def iid(draw: Callable[[np.random.Generator, int], Floats]) -> Stream:
    """Independent scores of one distribution."""

    def stream(rng: np.random.Generator, n: int) -> Iterator[Floats]:
        while True:
            yield draw(rng, n)

    return stream


def autoregressive(rng: np.random.Generator, n: int) -> Iterator[Floats]:
    """Log scores of an AR(.9) process."""
    x = rng.standard_normal(n)
    while True:
        x = 0.9 * x + np.sqrt(1 - 0.81) * rng.standard_normal(n)
        yield np.exp(x)


def seasonal(rng: np.random.Generator, n: int) -> Iterator[Floats]:
    """Log-normal scores on a sine of period 288, each sensor with its own phase."""
    phase, t = rng.uniform(0, 2 * np.pi, n), 0
    while True:
        t += 1
        yield np.exp(np.sin(2 * np.pi * t / 288 + phase) + rng.standard_normal(n))


def walk(rng: np.random.Generator, n: int) -> Iterator[Floats]:
    """Log-normal scores whose level is a random walk."""
    level = np.zeros(n)
    while True:
        level += 0.01 * rng.standard_normal(n)
        yield np.exp(level + rng.standard_normal(n))


def steps(rng: np.random.Generator, n: int) -> Iterator[Floats]:
    """Log-normal scores whose level jumps by about a standard deviation every 2000 steps or so."""
    level = np.zeros(n)
    while True:
        jump = rng.random(n) < 1 / 2000
        level[jump] += rng.standard_normal(int(jump.sum()))
        yield np.exp(level + rng.standard_normal(n))


def windowed(draw: Callable[[np.random.Generator, int], Floats], seen: int = SEEN) -> Stream:
    """Root mean square of the latest draws: as the score of a window, which hardly differs from the next one's."""

    def stream(rng: np.random.Generator, n: int) -> Iterator[Floats]:
        past = deque(draw(rng, n) ** 2 for _ in range(seen))
        total = np.sum(past, axis=0)
        while True:
            past.append(draw(rng, n) ** 2)
            total = total + past[-1] - past.popleft()
            yield np.sqrt(np.maximum(total, 1e-9) / seen)

    return stream


SHAPES: dict[str, Stream] = {
    "half-normal": iid(lambda rng, n: np.abs(rng.standard_normal(n))),
    "exponential": iid(lambda rng, n: rng.exponential(size=n)),
    "log-normal": iid(lambda rng, n: np.exp(rng.standard_normal(n))),
    "Student t(3)": iid(lambda rng, n: np.abs(rng.standard_t(3, n))),
    "Pareto(3)": iid(lambda rng, n: rng.pareto(3, n) + 1),
}
STREAMS: dict[str, Stream] = {
    **SHAPES,
    "uniform": iid(lambda rng, n: rng.random(n)),
    "AR(.9)": autoregressive,
    "seasonal": seasonal,
    "random walk": walk,
    "steps": steps,
}


OVERLAPPING: dict[str, Stream] = {
    "bell-shaped": windowed(lambda rng, n: rng.standard_normal(n)),
    "Student t(4)": windowed(lambda rng, n: rng.standard_t(4, n)),
}


class Run:
    """One method on n sensors; `step` returns the alerts that begin."""

    def __init__(self, method: Thresholds, fields: Fields, n: int) -> None:
        self.method, self.sensor = method, np.arange(n)
        self.state: State = np.zeros(n, np.dtype(fields))
        method.start(self.state, self.sensor)
        self.last, self.time = np.full(n, -GAP - 1), 0
        self.interval, self.countable = np.full(n, 1000.0), np.ones(n, np.bool_)
        self.regimes = self.silenced = 0

    def step(self, score: Floats) -> tuple[thresholds.Decisions, Bools]:
        """Judge one score a sensor."""
        out = self.method.decide_step(self.state, self.sensor, score, self.interval, self.countable)
        self.regimes += int(out.regime_change.sum())
        self.silenced += int(((score > out.threshold) & ~out.anomalous).sum()) if self.time >= WARM else 0
        return out, self.begin(out.anomalous)

    def begin(self, anomalous: Bools) -> Bools:
        """Exceedances that are not a continuation of the last one."""
        first = anomalous & (self.time - self.last > GAP)
        self.last[anomalous] = self.time
        self.time += 1
        return first


class MovingZ(Run):
    """Exponentially weighted z-score above 3, memory 400: what many systems do."""

    def __init__(self, n: int) -> None:
        self.mean, self.square = np.zeros(n), np.zeros(n)
        self.last, self.time, self.regimes = np.full(n, -GAP - 1), 0, 0

    def step(self, score: Floats) -> tuple[None, Bools]:  # type: ignore[override]
        """Judge one score a sensor."""
        rate = max(2 / 401, 1 / (self.time + 1))
        spread = np.sqrt(np.maximum(self.square - self.mean**2, 1e-300))
        anomalous = (score - self.mean > 3 * spread) & (self.time > 100)
        self.mean += rate * (score - self.mean)
        self.square += rate * (score**2 - self.square)
        return None, self.begin(anomalous)


def fleet(stream: Stream, seed: int, sensors: int = 200, length: int = 400) -> Calibration:
    """Calibration on held-out scores of other sensors of the same kind."""
    source = stream(np.random.default_rng(seed), sensors)
    return thresholds.calibrate(list(np.array([next(source) for _ in range(length)]).T))


def default(stream: Stream, n: int, calibrated: bool = True, period: int = PERIOD) -> Run:
    """The default method for sensors that training has not seen."""
    calibration = fleet(stream, 1) if calibrated else None
    return Run(BlockMaximum(Budget.parse(f"1 per {period} readings"), calibration), thresholds.FIELDS, n)


def count(run: Run, stream: Stream, n: int, length: int, seed: int = 2) -> Floats:
    """Alerts that begin: (length / 1000, n), one row a thousand steps."""
    source, found = stream(np.random.default_rng(seed), n), np.zeros((length // 1000, n))
    for t in range(length):
        found[t // 1000] += run.step(next(source))[1]
    return found


def table(title: str, head: str, rows: list[str]) -> str:
    """A Markdown table."""
    line = "|" + "---|" * head.count("|")
    return "\n".join([f"### {title}", "", f"| {head}", line, *(f"| {row} |" for row in rows), ""])


def budgets(n: int) -> str:
    """False alerts as a multiple of the budget on normal streams, after warm-up."""
    rows, share = [], (STEPS - WARM) / PERIOD
    for name, stream in STREAMS.items():
        spot = Run(Spot(Budget.parse(f"1 per {PERIOD} readings")), thresholds.fields("spot"), n // 4)
        ours = default(stream, n)
        cells = []
        for run in (ours, default(stream, n, calibrated=False), spot, MovingZ(n)):
            sensors = n // 4 if run is spot else n
            found = count(run, stream, sensors, STEPS)[WARM // 1000 :]
            each = found.sum(axis=0) / share
            half = len(found) // 2
            creep = found[half:].sum() / max(found[:half].sum(), 1)
            cells.append(f"{each.mean():.2f} ± {1.96 * each.std() / np.sqrt(sensors):.2f}")
            if run is ours:
                cells += [f"{run.silenced / n / share:.2f}", f"{creep:.2f}", f"{np.quantile(each, 0.95):.2f}"]
                cells.append(f"{run.regimes / n / STEPS * PERIOD:.3f}")
            if run is spot:
                cells.append(f"{creep:.2f}")
        rows.append(" | ".join([name, *cells]))
    head = (
        "stream | default | silenced steps | late/early | 95th sensor | regime changes a period | no fleet | SPOT | "
        "late/early | z > 3 |"
    )
    return table(f"False alerts / budget, steps {WARM} to {STEPS}, {n} sensors, 1 per {PERIOD} readings", head, rows)


def overlapping(n: int) -> str:
    """False alerts as a multiple of the budget, and thresholds after an anomaly, where scores see the same readings."""
    rows = []
    for name, stream in OVERLAPPING.items():
        source = stream(np.random.default_rng(1), 200)
        held = list(np.array([next(source) for _ in range(600)]).T)
        for title, seen in (("the largest of a cluster", SEEN), ("every block", 1)):
            cells = []
            for known in (held, []):
                calibration = thresholds.calibrate(known, 40 * SEEN, seen)
                run = Run(BlockMaximum(Budget.parse(f"1 per {PERIOD} readings"), calibration), thresholds.FIELDS, n)
                found = count(run, stream, n, STEPS)
                first, later = found[: WARM // 1000].sum(), found[WARM // 1000 :].sum()
                cells += [f"{first / n / WARM * PERIOD:.2f}", f"{later / n / (STEPS - WARM) * PERIOD:.2f}"]
            cells.append(f"{_after_one(stream, n, seen):.2f}")
            rows.append(" | ".join([name, title, *cells]))
    head = (
        f"windows of {SEEN}, of what | maxima that count | fleet, steps 0-{WARM} | fleet, later | no fleet, 0-{WARM} | "
        "no fleet, later | threshold after one anomaly |"
    )
    text = table("False alerts / budget of scores that overlap", head, rows)
    return (
        f"{text}\nLast column: the threshold of a sensor without a fleet after {WARM} steps, an anomaly of 96 steps "
        "and 100 times the score among its first, as a multiple of what it is without; median.\n"
    )


def _after_one(stream: Stream, n: int, seen: int) -> float:
    """How much higher a threshold (in scores) is for one long anomaly in the past; the median sensor's."""
    limits = []
    for factor in (1.0, 100.0):
        method = BlockMaximum(Budget.parse(f"1 per {PERIOD} readings"), thresholds.calibrate([], 40 * SEEN, seen))
        run, source = Run(method, thresholds.FIELDS, n), stream(np.random.default_rng(2), n)
        for t in range(WARM):
            out, _ = run.step(next(source) * (factor if 400 <= t < 496 else 1.0))
        limits.append(out.threshold)
    return float(np.median(limits[1] / limits[0]))


def scaling(n: int) -> str:
    """Whether decisions change when all scores are multiplied."""
    rows = []
    for name, stream in SHAPES.items():
        source = stream(np.random.default_rng(5), n)
        history = [next(source) for _ in range(6000)]
        held = list(np.array(history[:300]).T)
        seen = []
        for factor in (1, 1e3, 1e-3):
            calibration = thresholds.calibrate([h * factor for h in held])
            run = Run(BlockMaximum(Budget.parse("1 per 500 readings"), calibration), thresholds.FIELDS, n)
            seen.append(np.array([run.step(s * factor)[0].anomalous for s in history]))
        changed = [int((seen[0] != other).sum()) for other in seen[1:]]
        rows.append(f"{name} | {int(seen[0].sum())} | {changed[0]} | {changed[1]}")
    return table("Decisions changed by scaling the scores", "scores | exceedances | x 1000 | / 1000 |", rows)


def recall(n: int) -> str:
    """Share of single anomalous steps found, at a third of the budget's rate, from the first window on."""
    rows = []
    for name, stream in SHAPES.items():
        big = np.concatenate([next(stream(np.random.default_rng(9), 4_000_000))])
        x = np.log(big)
        quantile, middle = float(np.quantile(x, 1 - 1 / PERIOD)), float(np.median(x))
        cells = []
        for size in (quantile + np.log(1.5), middle + 1.5 * (quantile - middle)):
            run, rng = default(stream, n), np.random.default_rng(3)
            source, hit, put, false = stream(np.random.default_rng(2), n), 0, 0, 0
            for t in range(STEPS):
                score = next(source)
                strike = (rng.random(n) < 1 / (3 * PERIOD)) & (t >= 200)
                score[strike] = np.exp(size)
                out, begin = run.step(score)
                hit, put = hit + int(out.anomalous[strike].sum()), put + int(strike.sum())
                false += int((begin & ~strike).sum()) if t >= WARM else 0
            cells += [f"{hit / put:.3f}", f"{false / n / (STEPS - WARM) * PERIOD:.2f}"]
        rows.append(" | ".join([name, *cells]))
    head = "scores | recall, 1.5 x in score | false / budget | recall, 1.5 x normalised | false / budget |"
    return table("Anomalies 1.5 times as large as the budget's quantile", head, rows)


def swap(n: int) -> str:
    """Alerts in the 1000 steps after new weights, reseated from 25 windows that both weights have scored."""
    rows = []
    for name in ("exponential", "log-normal", "Pareto(3)", "AR(.9)"):
        run, source = default(STREAMS[name], n), STREAMS[name](np.random.default_rng(4), n)
        for _ in range(10_000):
            run.step(next(source))
        cells = []
        for power, noise, reseated in ((1, 0, None), (1, 0, True), (1, 0, False), (0.8, 0.1, True), (0.8, 0.3, True)):
            trial = Run(run.method, thresholds.FIELDS, n)
            trial.state, follow = run.state.copy(), STREAMS[name](np.random.default_rng(6), n)
            rng = np.random.default_rng(7)
            old = [next(follow) for _ in range(1025)]
            factor = 1 if reseated is None else 100
            new = [factor * s**power * np.exp(noise * rng.standard_normal(n)) for s in old]
            if reseated:
                trial.method.reseat(trial.state, trial.sensor, np.array(old[:25]).T, np.array(new[:25]).T)
            found = sum(int(trial.step(score)[1].sum()) for score in new[25:])
            cells.append(f"{found / n / 1000 * PERIOD:.2f}")
        rows.append(" | ".join([name, *cells]))
    head = "scores | no swap | x 100 | x 100, not reseated | 100 s^0.8, 10 % noise | 100 s^0.8, 30 % noise |"
    return table("Alerts / budget in 1000 steps after a swap, 25 windows at hand", head, rows)


def cold(n: int) -> str:
    """New sensors of mixed kinds in a fleet of mixed kinds, by time."""

    def mixed(rng: np.random.Generator, n: int) -> Iterator[Floats]:
        parts = [stream(rng, n // len(STREAMS)) for stream in STREAMS.values()]
        scale = np.exp(2 * rng.standard_normal(n))
        while True:
            yield scale * np.concatenate([next(part) for part in parts])

    spans = [(0, 1000), (1000, 2000), (2000, 4000), (4000, 8000), (8000, 16_000), (16_000, 24_000)]
    rows = []
    for label, calibrated in (("mixed fleet", True), ("no fleet", False)):
        found = count(default(mixed, n, calibrated), mixed, n, STEPS)
        shares = [found[a // 1000 : b // 1000].sum() / n / (b - a) * PERIOD for a, b in spans]
        rows.append(" | ".join([label, *(f"{s:.2f}" for s in shares)]))
        if calibrated:
            kinds = found[:8].sum(axis=0).reshape(len(STREAMS), -1).mean(axis=1) / 8000 * PERIOD
            worst = ", ".join(f"{name} {kind:.2f}" for name, kind in zip(STREAMS, kinds, strict=True))
    text = table(
        f"Cold start of {n} mixed sensors: alerts / budget", "| ".join(["", *(f"{a}-{b} " for a, b in spans), ""]), rows
    )
    return f"{text}\nBy kind, steps 0-8000: {worst}.\n"


def speed() -> str:
    """Time of a step and bytes of a sensor: the fields alone, and in rows as long as a whole sensor's state."""
    rows, rng = [], np.random.default_rng(0)
    window = [("values", "<f4", (600,))]
    calibration, budget = fleet(SHAPES["exponential"], 1), Budget.parse("1 per 5000 readings")
    cases = ((1000, 500, "alone"), (10_000, 200, "alone"), (1_000_000, 48, "alone"), (1_000_000, 48, "whole rows"))
    for n, repeats, kind in cases:
        layout = thresholds.FIELDS if kind == "alone" else window + thresholds.FIELDS
        run, taken = Run(BlockMaximum(budget, calibration), layout, n), []
        scores = [rng.exponential(size=n) for _ in range(4)]
        for i in range(repeats):
            start = time.perf_counter()
            run.method.decide_step(run.state, run.sensor, scores[i % 4], run.interval, run.countable)
            taken.append(1e3 * (time.perf_counter() - start))
        rest = taken[3:]
        times = " | ".join(f"{x:.3f}" for x in (np.min(rest), np.median(rest), np.mean(rest), np.max(rest)))
        rows.append(f"{n:,} | {kind} | {run.state.itemsize:,} | {times}")
    bytes_each = np.dtype(thresholds.FIELDS).itemsize
    head = "sensors | fields | bytes a row | best ms | median ms | mean ms | worst ms |"
    return table(f"Cost of a step, {bytes_each} bytes a sensor", head, rows)


def main() -> None:
    """Run all parts and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    parser.add_argument("--sensors", type=int, default=1000, help="sensors a stream")
    options = parser.parse_args()
    command = (
        f"python tests/benchmarks/thresholds.py --output tests/benchmarks/thresholds.md --sensors {options.sensors}"
    )
    parts = [f"# Thresholds\n\n`{command}`, {date.today()}, {platform.machine()}.\n", NOTES]
    for part in (budgets, overlapping, scaling, recall, swap, cold):
        parts.append(part(200 if part is scaling else options.sensors))
        print(parts[-1], flush=True)
    parts.append(speed())
    print(parts[-1])
    if options.output:
        options.output.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
