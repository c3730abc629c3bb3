"""Results as tables: one row a detector, one row a detector and series; for terminal, Markdown and CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.evaluation.metrics import nab
from stream_detector.evaluation.metrics.spread import mean_with_interval
from stream_detector.evaluation.results import Result

NOTES = """\
VUS-PR: mean over the series that have an anomaly, bootstrap 95 % interval over series, every threshold; "250" is with
TSB-AD's 250 thresholds. The widest slope is the series' period. AUC-PR and ROC-AUC are of single rows.

At the deployed threshold, which has seen no label: events found of all events; median delay of those found, from an
event's first row to its first flagged row; false alarms are episodes (flagged rows at most 10 apart) that touch no
event; F1 of rows and affiliation F1, mean over series. Read "found" beside "in alarm", the share of rows flagged: an
alarm that is always on finds everything. Point-adjusted F1 is left out on purpose: a random score reaches 0.9 with it.

Rows trained on do not count, nor do named training parts and NAB's probation. Other rows without a score count as the
least anomalous. readings/s: through the whole detector in a second of one core, training not counted."""
NAB_NOTES = """\
NAB's score, 0 without any flag, 100 with the first row of every window and no other. "tuned": one threshold on the
raw score for all files, searched on their labels for each profile, as NAB does it. "deployed": the rows flagged at
the detector's own threshold, which has seen no label. "alarms": of these only the first row of each episode, as a
person would be told of it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of detectors: what it is called, and how it comes from a detector's results."""

    head: str
    value: Callable[[Sequence[Result]], float]
    digits: str = ".3f"

    def cell(self, results: Sequence[Result]) -> str:
        """The value as people read it; a dash where there is none."""
        return _shown(self.value(results), self.digits)


def _mean(of: Callable[[Result], float]) -> Callable[[Sequence[Result]], float]:
    return lambda results: mean_with_interval([of(one) for one in results])[0]


def _bound(place: int) -> Callable[[Sequence[Result]], float]:
    return lambda results: mean_with_interval([one.vus for one in results])[place]


def _share(part: Callable[[Result], float], whole: Callable[[Result], float]) -> Callable[[Sequence[Result]], float]:
    """Of all series together."""

    def value(results: Sequence[Result]) -> float:
        total = sum(map(whole, results))
        return sum(map(part, results)) / total if total else math.nan

    return value


def _median(of: Callable[[Result], Sequence[int]], unit: float) -> Callable[[Sequence[Result]], float]:
    def value(results: Sequence[Result]) -> float:
        every = [delay for one in results for delay in of(one)]
        return float(np.median(every)) / unit if every else math.nan

    return value


COLUMNS = (
    Column("series", lambda results: len(results), ".0f"),
    Column("VUS-PR", _mean(lambda one: one.vus)),
    Column("from", _bound(1)),
    Column("to", _bound(2)),
    Column("250", _mean(lambda one: one.vus_tsb)),
    Column("AUC-PR", _mean(lambda one: one.auc_pr)),
    Column("ROC-AUC", _mean(lambda one: one.roc_auc)),
    Column("found", _share(lambda one: len(one.deployed.delays), lambda one: one.deployed.events)),
    Column("delay, rows", _median(lambda one: one.deployed.delays, 1), ",.0f"),
    Column("delay, s", _median(lambda one: one.deployed.delays_ms, 1000), ",.4g"),
    Column(
        "false / 10,000",
        _share(lambda one: one.deployed.false_episodes, lambda one: one.deployed.rows / 10_000),
        ".2f",
    ),
    Column(
        "false / day",
        _share(lambda one: one.deployed.false_episodes, lambda one: one.deployed.span_ms / 86_400_000),
        ",.3g",
    ),
    Column("in alarm", _share(lambda one: one.deployed.flagged, lambda one: one.deployed.rows), ".2%"),
    Column("F1", _mean(lambda one: one.deployed.f1)),
    Column("affiliation F1", _mean(lambda one: one.affiliation[2])),
    Column("readings/s", _share(lambda one: one.facts.scored, lambda one: one.facts.seconds), ",.0f"),
)
BRIEF = frozenset({"VUS-PR", "from", "to", "ROC-AUC", "found", "delay, rows", "false / 10,000"})
"""Columns that a terminal has room for."""

SERIES_FIELDS: Mapping[str, Callable[[Result], object]] = {
    "detector": lambda one: one.detector,
    "series": lambda one: one.series,
    "rows": lambda one: one.deployed.rows,
    "trained_rows": lambda one: one.facts.trained,
    "anomalous_rows": lambda one: one.deployed.anomalous,
    "events": lambda one: one.deployed.events,
    "vus_buffer": lambda one: one.buffer,
    "vus_pr": lambda one: one.vus,
    "vus_pr_250": lambda one: one.vus_tsb,
    "auc_pr": lambda one: one.auc_pr,
    "roc_auc": lambda one: one.roc_auc,
    "events_found": lambda one: len(one.deployed.delays),
    "event_recall": lambda one: one.deployed.recall,
    "delay_rows": lambda one: one.deployed.delay,
    "delay_s": lambda one: one.deployed.delay_s,
    "false_episodes": lambda one: one.deployed.false_episodes,
    "false_per_10k": lambda one: one.deployed.false_per_10k,
    "false_per_day": lambda one: one.deployed.false_per_day,
    "in_alarm": lambda one: one.deployed.in_alarm,
    "f1": lambda one: one.deployed.f1,
    "affiliation_precision": lambda one: one.affiliation[0],
    "affiliation_recall": lambda one: one.affiliation[1],
    "affiliation_f1": lambda one: one.affiliation[2],
    "readings_per_s": lambda one: one.facts.scored / one.facts.seconds if one.facts.seconds else math.nan,
}


@dataclass(frozen=True, slots=True)
class Grid:
    """Heads, and rows of text."""

    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


def by_detector(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The results of each detector, in the order in which they came."""
    found: dict[str, list[Result]] = {}
    for one in results:
        found.setdefault(one.detector, []).append(one)
    return found


def summary(results: Sequence[Result], brief: bool = False) -> Grid:
    """One row a detector, the best VUS-PR first; `brief` leaves out what a terminal has no room for."""
    columns = [column for column in COLUMNS if column.head in BRIEF or not brief]
    groups = sorted(by_detector(results).items(), key=lambda item: -_or_least(_bound(0)(item[1])))
    rows = [(name, *(column.cell(mine) for column in columns)) for name, mine in groups]
    return Grid(("detector", *(column.head for column in columns)), rows)


def nab_scores(results: Sequence[Result], brief: bool = False) -> Grid | None:
    """NAB's three scores, tuned and without labels, the best first; None where the series are not NAB's.

    `brief` shows the standard profile alone.
    """
    profiles = {name: profile for name, profile in nab.PROFILES.items() if name == "standard" or not brief}
    rows: list[tuple[float, tuple[str, ...]]] = []
    for name, mine in by_detector(results).items():
        corpus = [one.nab for one in mine if one.nab is not None]
        if corpus:
            alarms = [nab.first_of_episodes(series) for series in corpus]
            tuned = [nab.tuned(corpus, profile)[0] for profile in profiles.values()]
            flagged = [nab.at_flags(some, profile) for some in (corpus, alarms) for profile in profiles.values()]
            rows.append((tuned[0], (name, *(f"{score:.1f}" for score in [*tuned, *flagged]))))
    if not rows:
        return None
    heads = [f"{kind}, {profile}" for kind in ("tuned", "deployed", "alarms") for profile in profiles]
    return Grid(("detector", *heads), [row for _, row in sorted(rows, key=lambda item: -item[0])])


def vus_by_series(results: Sequence[Result]) -> Grid:
    """VUS-PR of every detector on every series that has an anomaly."""
    detectors = list(by_detector(results))
    series = list(dict.fromkeys(one.series for one in results if one.vus == one.vus))
    value = {(one.detector, one.series): one.vus for one in results}
    rows = [
        (name, *(_shown(value.get((detector, name), math.nan), ".3f") for detector in detectors)) for name in series
    ]
    return Grid(("VUS-PR", *detectors), rows)


def every_series(results: Sequence[Result]) -> Grid:
    """One row a detector and series with everything that was measured, for other programs; empty where undefined."""
    rows = [tuple(_plain(field(one)) for field in SERIES_FIELDS.values()) for one in results]
    return Grid(tuple(SERIES_FIELDS), rows)


def markdown(grid: Grid) -> str:
    """The grid as a Markdown table; all columns but the first to the right."""
    lines = [grid.heads, ("---", *("---:" for _ in grid.heads[1:])), *grid.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(title: str, facts: Mapping[str, str], results: Sequence[Result], failed: Sequence[str]) -> str:
    """The page of results: facts, tables, what they mean, and what is missing."""
    parts = [f"# {title}", "\n".join(f"- {name}: {value}" for name, value in facts.items())]
    if failed:
        parts.append("\n".join(["**These gave no result:**", "", *(f"- {text}" for text in failed)]))
    if results:
        parts += [markdown(summary(results)), NOTES]
        if (of_nab := nab_scores(results)) is not None:
            parts += [markdown(of_nab), NAB_NOTES]
        parts.append(markdown(vus_by_series(results)))
    return "\n\n".join(parts) + "\n"


def _shown(value: float, digits: str) -> str:
    return "-" if value != value else format(value, digits)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.9g}"
    return str(value)


def _or_least(value: float) -> float:
    return -1.0 if value != value else value
