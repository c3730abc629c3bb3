"""Every model on every simulated field, from readings to alerts, with the commands that a user types.

    python -m tests.benchmarks.fields [--output tests/benchmarks/fields.md] [--models encoder,tranad,...]

For each field: `simulate` writes readings with known faults; the first 30 %, which have none, go to `train`; `detect`
judges all of them with these weights. An event is found when an incident of its sensor meets it; incidents that meet
none are false. The delay is from a fault's first reading to the first exceedance of the incident.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec
import numpy as np

from stream_detector.evaluation.matching import match
from stream_detector.records import Alert, parse_time
from stream_detector.simulate import FIELDS, faults_path, read_faults

COMMAND = Path(sys.executable).with_name("stream-detector")
MODELS = ("multiscale", "encoder", "anomaly-transformer", "tranad", "timesnet", "moving-z")
SENSORS, ROWS, FAULTS, LEARNED = 6, 4000, 4, 0.3
BUDGET = "1 per 3000 readings"
SETTLING = 100
"""Readings after a fault in which an incident still counts as its: a window that it has passed through."""
JUDGED = ("anomaly", "value_stuck", "value_missing")
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Outcome:
    """What a model made of a field. false_a_day: false incidents by sensor and day. kinds: of each fault, if found."""

    found: int
    faults: int
    false: int
    false_a_day: float
    delay: float
    kinds: list[tuple[str, bool]]


def run(*arguments: object) -> None:
    """A command as it is typed; raises RuntimeError with what it said when it fails."""
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr[-2000:]}")


def prepare(field: str, directory: Path) -> tuple[Path, Path]:
    """Readings of a field, and the part of them to learn from."""
    whole, part = directory / f"{field}.csv", directory / f"{field}-learned.csv"
    run("simulate", "--field", field, "--sensors", SENSORS, "--rows", ROWS, "--faults", FAULTS, "--output", whole)
    head, *rows = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    times = sorted({row.split(",", 1)[0] for row in rows})
    until = times[int(LEARNED * len(times))]
    part.write_text(head + "".join(row for row in rows if row.split(",", 1)[0] < until), encoding="utf-8")
    return whole, part


def judge(field: str, model: str, whole: Path, part: Path, directory: Path) -> Outcome:
    """Train, detect, and hold the alerts against the faults."""
    weights, alerts = directory / f"{field}-{model}", directory / f"{field}-{model}.jsonl"
    run("train", part, "--model", model, "--output", weights)
    run("detect", whole, "--model", weights, "--budget", BUDGET, "--output", alerts)
    told = [msgspec.json.decode(line, type=Alert) for line in alerts.read_bytes().splitlines()]
    faults = read_faults(faults_path(whole))
    begin = min(fault.start_ms for fault in faults)
    interval_ms = FIELDS[field].interval_ms
    mine = [one for one in told if one.kind in JUDGED and parse_time(one.starts_at) >= begin - SETTLING * interval_ms]
    matched = match(mine, faults, SETTLING * interval_ms)
    delays = [delay / interval_ms for delay in matched.delays_ms if delay is not None]
    days = ROWS * (1 - LEARNED) * interval_ms / DAY_MS
    return Outcome(
        len(delays),
        len(faults),
        matched.false_incidents,
        matched.false_incidents / SENSORS / days,
        float(np.median(delays)) if delays else float("nan"),
        [(fault.kind, delay is not None) for fault, delay in zip(faults, matched.delays_ms, strict=True)],
    )


def page(found: dict[tuple[str, str], Outcome]) -> list[str]:
    """The results page."""
    lines = [
        "# Three fields, end to end",
        "",
        f"`python -m tests.benchmarks.fields --output tests/benchmarks/fields.md`, {date.today()}, "
        f"{platform.machine()}. {SENSORS} sensors a field, {ROWS:,} readings each, about {FAULTS} faults each; trained "
        f"on the first {LEARNED:.0%}; budget {BUDGET}; models as they come.",
        "",
        "| field | model | events found | false incidents | false by sensor and day | median delay, readings |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (field, model), one in found.items():
        share = f"{one.found} of {one.faults} ({one.found / one.faults:.0%})"
        lines.append(f"| {field} | {model} | {share} | {one.false} | {one.false_a_day:.3g} | {one.delay:.0f} |")
    lines += ["", *by_kind(found)]
    lines += ["", "A reading comes every " + ", ".join(f"{f.interval_ms / 1000:g} s ({n})" for n, f in FIELDS.items())]
    return [*lines[:-1], lines[-1] + "; a patient's day has over two million of them."]


def by_kind(found: dict[tuple[str, str], Outcome]) -> list[str]:
    """What of each kind of fault each model found, over all fields."""
    models = list(dict.fromkeys(model for _, model in found))
    lines = ["| found, by kind of fault | " + " | ".join(models) + " |", "| --- |" + " ---: |" * len(models)]
    told = [(model, *one) for (_, model), outcome in found.items() for one in outcome.kinds]
    for kind in sorted({kind for _, kind, _ in told}):
        hits = [[hit for of, what, hit in told if (of, what) == (model, kind)] for model in models]
        lines.append(f"| {kind.replace('_', ' ')} | " + " | ".join(f"{sum(h)} of {len(h)}" for h in hits) + " |")
    return lines


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--models", default=",".join(MODELS))
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for field in FIELDS:
            whole, part = prepare(field, Path(directory))
            for model in args.models.split(","):
                found[field, model] = judge(field, model, whole, part, Path(directory))
                print(field, model, found[field, model], flush=True)
    lines = page(found)
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
