"""Measures of quality against answers worked out by hand, and against their published rules written plainly."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from stream_detector.evaluation.metrics import nab
from stream_detector.evaluation.metrics.affiliation import affiliation
from stream_detector.evaluation.metrics.buffer import USUAL, buffer_of
from stream_detector.evaluation.metrics.deployed import deployed
from stream_detector.evaluation.metrics.events import spans
from stream_detector.evaluation.metrics.nab import PROFILES, NabSeries, Profile
from stream_detector.evaluation.metrics.ranking import auc_pr, roc_auc, vus_pr
from stream_detector.evaluation.metrics.spread import mean_with_interval
from stream_detector.evaluation.results import lowest_where_missing


def marked(rows: int, *spans_of: tuple[int, int]) -> np.ndarray:
    """Rows of which those from first up to, without, last are marked."""
    found = np.zeros(rows, np.bool_)
    for first, last in spans_of:
        found[first:last] = True
    return found


def test_runs_of_marked_rows() -> None:
    """At both ends, of one row, and joined over a gap."""
    rows = marked(10, (0, 2), (4, 5), (9, 10))
    assert spans(rows).tolist() == [[0, 2], [4, 5], [9, 10]]
    assert spans(rows, gap=3).tolist() == [[0, 5], [9, 10]]
    assert spans(marked(4)).tolist() == []


def test_point_measures_of_a_score_worked_out_by_hand() -> None:
    """Falling: hit, false, hit. Precision at the hits 1 and 2/3; one of two pairs of hit and false is in order."""
    labels, score = np.array([True, False, True]), np.array([3.0, 2.0, 1.0])
    assert auc_pr(labels, score) == pytest.approx((1 + 2 / 3) / 2)
    assert roc_auc(labels, score) == pytest.approx(0.5)
    assert math.isnan(auc_pr(labels & False, score))
    assert math.isnan(roc_auc(labels | True, score))


def plain_vus(labels: np.ndarray, score: np.ndarray, buffer: int, levels: list[float]) -> float:
    """The published rule, one width, threshold, event and row after the other."""
    events, N, areas = spans(labels).tolist(), len(labels), []
    for width in range(buffer + 1):
        half = width // 2
        worth = labels.astype(float)
        for start, stop in events:
            for row in range(N):
                distance = max(start - row, row - (stop - 1))
                if 0 < distance <= half:
                    worth[row] += math.sqrt(1 - distance / width)
        worth = np.minimum(worth, 1.0)
        groups: list[list[int]] = []
        for start, stop in events:
            if groups and groups[-1][1] >= start - half:
                groups[-1][1] = stop - 1 + half
            else:
                groups.append([max(start - half, 0), stop - 1 + half])
        area = before = 0.0
        for level in levels:
            on = score >= level
            hits = float(worth[on].sum())
            slopes = float(worth[on & ~labels].sum())
            recall = min(hits / ((labels.sum() + labels.sum() + slopes) / 2), 1.0)
            recall *= sum(on[a : b + 1].any() for a, b in groups) / len(groups)
            area += (recall - before) * hits / on.sum()
            before = recall
        areas.append(area)
    return float(np.mean(areas))


@pytest.mark.parametrize("seed", range(12))
def test_vus_is_the_published_rule(seed: int) -> None:
    """With every threshold and with a few, with ties, with events near each other and at the ends."""
    rng = np.random.default_rng(seed)
    labels = marked(90, *((a, a + int(rng.integers(1, 9))) for a in rng.integers(0, 89, 4).tolist()))
    score = rng.normal(size=90) + 2 * labels * rng.random()
    score = np.round(score, 1) if seed % 2 else score
    every = sorted(set(score.tolist()), reverse=True)
    assert vus_pr(labels, score, 12) == pytest.approx(plain_vus(labels, score, 12, every))
    some = np.sort(score)[::-1][np.linspace(0, 89, 7).astype(int)].tolist()
    assert vus_pr(labels, score, 12, 7) == pytest.approx(plain_vus(labels, score, 12, some))


def test_vus_without_slopes_is_average_precision_times_events_found() -> None:
    """Two events; the first threshold finds one of them, in one of its two rows."""
    labels, score = marked(10, (2, 4), (6, 8)), np.array([0, 0, 9, 1, 0, 5, 8, 1, 0, 0.0])
    # Flagged one by one: a hit (recall 1/4, one of two events), a hit (1/2, both), a false one, both last hits (1).
    assert vus_pr(labels, score, 0) == pytest.approx(1 / 8 + 3 / 8 + 1 / 2 * 4 / 5)


def test_vus_of_known_scores() -> None:
    """Perfect is 1 where there is no slope, and little less with some; the worst is near 0; no event has none."""
    labels = marked(1000, (100, 150), (600, 640))
    assert vus_pr(labels, labels.astype(float), 0) == pytest.approx(1)
    assert 0.8 < vus_pr(labels, labels.astype(float), 20) < 1.0001
    assert vus_pr(labels, -labels.astype(float), 0) < 0.1
    assert math.isnan(vus_pr(labels & False, labels.astype(float), 5))
    flat = vus_pr(labels, np.ones(1000), 0)
    assert flat == pytest.approx(0.09)


def test_vus_of_chance_is_near_the_label_rate() -> None:
    """As far as slopes do not make the events wider."""
    labels = marked(20_000, *((a, a + 100) for a in range(500, 20_000, 1000)))
    score = np.random.default_rng(0).random(20_000)
    assert vus_pr(labels, score, 0) == pytest.approx(labels.mean(), abs=0.01)
    assert vus_pr(labels, score, 40) == pytest.approx(labels.mean(), abs=0.04)


def test_vus_depends_on_the_order_alone() -> None:
    """A rising change of the scores changes nothing."""
    rng = np.random.default_rng(2)
    labels, score = marked(300, (50, 70), (200, 201)), rng.normal(size=300)
    assert vus_pr(labels, score, 30) == vus_pr(labels, np.exp(3 * score), 30)


def test_rows_without_a_score_are_the_least_anomalous() -> None:
    """What is not judged is missed."""
    assert lowest_where_missing(np.array([np.nan, 2.0, -3.0])).argsort().tolist() == [0, 2, 1]
    assert lowest_where_missing(np.full(3, np.nan)).tolist() == [0, 0, 0]


def test_the_buffer_is_the_period() -> None:
    """Of a wave its period; of noise without one, or of nothing, what is usual."""
    rng = np.random.default_rng(0)
    wave = np.sin(2 * np.pi * np.arange(5000) / 50) + 0.1 * rng.normal(size=5000)
    assert buffer_of(wave) % 50 in (0, 1, 49)
    assert buffer_of(np.where(rng.random(5000) < 0.1, np.nan, wave)) % 50 in (0, 1, 49)
    assert buffer_of(np.ones(100)) == USUAL
    assert buffer_of(np.full(100, np.nan)) == USUAL
    assert buffer_of(np.arange(2.0)) == USUAL


def test_deployed_by_hand() -> None:
    """Three events, two found, one of them at once and one 4 rows late; two false episodes, one of two parts."""
    labels = marked(100, (10, 20), (40, 50), (70, 75))
    flags = marked(100, (10, 12), (44, 46), (46, 60), (30, 31), (85, 86), (95, 96))
    got = deployed(labels, flags, np.arange(100) * 2000)
    assert (got.events, got.delays, got.delays_ms) == (3, (0, 4), (0, 8000))
    assert got.recall == pytest.approx(2 / 3)
    assert (got.delay, got.delay_s) == (2, 4)
    assert got.false_episodes == 2  # 30 alone; 85 and 95 are 10 apart
    assert got.false_per_10k == 200
    assert got.false_per_day == pytest.approx(2 * 86_400 / 198)
    assert got.in_alarm == pytest.approx(21 / 100)
    assert got.f1 == pytest.approx(2 * 8 / (21 + 25))


def test_an_alarm_that_is_always_on_finds_everything() -> None:
    """Which is why the share of time in alarm stands beside recall; and nothing flagged finds nothing."""
    labels = marked(50, (10, 12), (30, 31))
    on = deployed(labels, np.ones(50, np.bool_), np.arange(50))
    assert (on.recall, on.in_alarm, on.false_episodes) == (1, 1, 0)
    off = deployed(labels, np.zeros(50, np.bool_), np.arange(50))
    assert (off.recall, off.f1, off.false_episodes) == (0, 0, 0)
    assert math.isnan(off.delay)
    assert math.isnan(deployed(labels & False, labels, np.arange(50)).recall)


def plain_affiliation(labels: np.ndarray, flags: np.ndarray) -> tuple[float, float]:
    """The chances of the definition, counted on a fine grid instead of worked out."""
    fine = 40
    moments = (np.arange(len(labels) * fine) + 0.5) / fine
    events = spans(labels)
    cuts = [0.0, *((a[1] + b[0]) / 2 for a, b in pairwise(events.tolist())), float(len(labels))]
    precision, recall = [], []
    for (start, stop), low, high in zip(events.tolist(), cuts[:-1], cuts[1:], strict=True):
        zone = moments[(moments > low) & (moments < high)]
        mine = zone[flags[zone.astype(int)]]
        if not len(mine):
            recall.append(0.0)
            continue
        away = np.maximum(np.maximum(start - zone, zone - stop), 0)
        of_mine = np.maximum(np.maximum(start - mine, mine - stop), 0)
        precision.append(float(np.mean([1.0 if d == 0 else (away > d).mean() for d in of_mine])))
        inside = zone[(zone > start) & (zone < stop)]
        nearest = np.abs(inside[:, None] - mine[None]).min(axis=1)
        # Flags fill their rows: what lies between two of the grid's moments of one flag is no distance.
        nearest[nearest <= 0.5 / fine] = 0
        recall.append(float(np.mean([(np.abs(zone - y) > d).mean() for y, d in zip(inside, nearest, strict=True)])))
    return float(np.mean(precision)), float(np.mean(recall))


@pytest.mark.parametrize("seed", range(12))
def test_affiliation_is_its_definition(seed: int) -> None:
    """To the fineness of a grid on which the chances are counted."""
    rng = np.random.default_rng(seed)
    labels = marked(40, (3, 6), (15, 16), (28, 36))
    flags = rng.random(40) < (0.15 if seed % 2 else 0.03)
    flags[rng.integers(40)] = True
    precision, recall, f1 = affiliation(labels, flags)
    assert (precision, recall) == pytest.approx(plain_affiliation(labels, flags), abs=0.03)
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_affiliation_by_hand() -> None:
    """Perfect is 1; no flag has recall 0; one flag at the far end of a zone is worth nearly nothing."""
    labels = marked(10, (0, 2))
    assert affiliation(labels, labels) == (1, 1, 1)
    precision, recall, f1 = affiliation(labels, labels & False)
    assert math.isnan(precision)
    assert (recall, f1) == (0, 0)
    # The event fills 0 to 2 of a zone of 10; the flag's middle is 7.5 behind it: a random one is further in 0.5 of 10.
    assert affiliation(labels, marked(10, (9, 10)))[0] == pytest.approx(0.05)
    # The event fills 6 to 8, the flag ends at 1: from a moment y, what is further than it lies within 0 to 1.
    assert affiliation(marked(10, (6, 8)), marked(10, (0, 1)))[1] == pytest.approx(0.1)
    assert math.isnan(affiliation(labels & False, labels)[2])


def nab_series(rows: int, windows: list[tuple[int, int]], flagged: list[int]) -> NabSeries:
    """A file with these windows, first and last row, whose flags are also its score."""
    flags = np.zeros(rows, np.bool_)
    flags[flagged] = True
    return NabSeries(flags.astype(float), flags, np.array(windows, np.int64).reshape(-1, 2))


def sigmoid(y: float) -> float:
    """NAB's, as published."""
    return -1.0 if y >= 3 else 2 / (1 + math.exp(5 * y)) - 1


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_nab_of_the_perfect_and_the_null_detector(profile: Profile) -> None:
    """100 with the first row of each window alone, 0 without any flag; by given flags and by the best threshold."""
    windows = [(200, 249), (600, 699)]
    perfect = [nab_series(1000, windows, [200, 600]), nab_series(400, [(100, 120)], [100])]
    assert nab.at_flags(perfect, profile) == pytest.approx(100)
    assert nab.tuned(perfect, profile)[0] == pytest.approx(100)
    null = [nab_series(1000, windows, []), nab_series(400, [(100, 120)], [])]
    assert nab.at_flags(null, profile) == 0
    assert nab.tuned(null, profile)[0] == 0  # one threshold flags all or nothing, and nothing is better
    assert math.isnan(nab.at_flags([nab_series(100, [], [50])], profile))


def test_nab_by_hand() -> None:
    """A late hit and a repeat of it, a false flag before, just behind and far behind; probation does not count."""
    low_fn = PROFILES["low FN"]
    series = nab_series(1000, [(300, 399), (800, 809)], [0, 149, 150, 350, 351, 410, 790])
    hit = sigmoid(-50 / 100) / sigmoid(-1)
    raw = hit - 0.11 + 0.11 * sigmoid(11 / 99) + 0.11 * sigmoid(391 / 99) - 2
    assert nab.at_flags([series], low_fn) == pytest.approx(100 * (raw + 4) / (2 + 4))


def test_nab_probation_is_at_most_750_rows() -> None:
    """15 %, rounded down."""
    assert [nab.probation(rows) for rows in (7, 1127, 5000, 22_695)] == [1, 169, 750, 750]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("seed", range(5))
def test_nab_tuned_is_the_best_of_all_thresholds(seed: int, profile: Profile) -> None:
    """Trying every score of the corpus as threshold gives no better, and the one that is told gives the same."""
    rng = np.random.default_rng(seed)
    corpus = []
    for _ in range(3):
        a, b, c, d = np.sort(rng.choice(np.arange(40, 199), 4, replace=False)).tolist()
        score = np.round(rng.normal(size=200), 1 if seed % 2 else 6)
        score[[*range(30), 100]] = np.nan
        corpus.append(NabSeries(score, np.zeros(200, np.bool_), np.array([(a, b), (c, d)])))
    levels = np.unique(np.concatenate([series.score for series in corpus]))
    tried = {
        level: nab.at_flags([NabSeries(one.score, one.score >= level, one.windows) for one in corpus], profile)
        for level in levels[~np.isnan(levels)].tolist()
    }
    best, threshold = nab.tuned(corpus, profile)
    assert best == pytest.approx(max(0.0, *tried.values()))
    assert best == 0 or tried[threshold] == pytest.approx(best)


def test_nab_of_alarms_takes_the_first_of_each_episode() -> None:
    """Rows at most 10 apart are one."""
    first = nab.first_of_episodes(nab_series(100, [], [3, 4, 14, 30, 90]))
    assert np.flatnonzero(first.flags).tolist() == [3, 30, 90]


def test_interval_of_a_mean() -> None:
    """Holds the mean, is none for one series, leaves out what is undefined, and is the same on every call."""
    mean, low, high = mean_with_interval([0.1, 0.5, math.nan, 0.9])
    assert (mean, low < 0.5 < high) == (pytest.approx(0.5), True)
    assert mean_with_interval([0.1, 0.5, 0.9]) == (mean, low, high)
    assert mean_with_interval([0.4]) == (0.4, 0.4, 0.4)
    assert all(math.isnan(value) for value in mean_with_interval([math.nan]))
    many = mean_with_interval(np.random.default_rng(0).normal(size=400).tolist())
    assert many[2] - many[1] == pytest.approx(4 * 0.05, rel=0.15)  # four standard errors
