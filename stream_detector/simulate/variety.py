"""Healthy signals of every kind that sensors know, one channel each, for weights that have to know them all.

Unlike those of the three fields they stand for nothing: no units, no calendar, only forms. A function here draws one
signal's character and returns (T,) values. Knows nothing of sensors or faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.random import Generator

from stream_detector.records import Floats
from stream_detector.simulate.signals import wander

SHORTEST, LONGEST = 6.0, 400.0
"""Steps of a period."""


def seasonal(rng: Generator, rows: int) -> Floats:
    """A sum of a few waves with their overtones, each with a size that wanders."""
    total = np.zeros(rows)
    for _ in range(rng.integers(1, 4)):
        total += rng.exponential() * _swell(rng, rows) * _wave(rng, _phase(rng, rows, _period(rng)))
    return total


def seasonal_trend(rng: Generator, rows: int) -> Floats:
    """The same on a level that rises or falls in straight pieces."""
    slopes = np.repeat(rng.standard_normal(-(-rows // 250)) / 100, 250)[:rows]
    return seasonal(rng, rows) + np.cumsum(slopes)


def walk(rng: Generator, rows: int) -> Floats:
    """A random walk that is held back, loosely or tightly."""
    return wander(rng, rows, 1.0, _between(rng, 5, 2000))


def noise(rng: Generator, rows: int) -> Floats:
    """Independent values, bell-shaped, heavy-tailed or skewed."""
    draw = rng.integers(3)
    if draw == 0:
        return rng.standard_normal(rows)
    return rng.standard_t(rng.uniform(3, 8), rows) if draw == 1 else rng.gamma(rng.uniform(0.7, 5), size=rows)


def beats(rng: Generator, rows: int) -> Floats:
    """Like a heart: a pulse of a few bumps, over and over, at a pace that wanders a little."""
    phase = _phase(rng, rows, _between(rng, 12, 150), unrest=0.03) % 1
    total = np.zeros(rows)
    for _ in range(rng.integers(2, 6)):
        total += rng.standard_normal() * np.exp(
            -0.5 * ((phase - rng.uniform(0.1, 0.9)) / _between(rng, 0.01, 0.1)) ** 2
        )
    return total


def bursts(rng: Generator, rows: int) -> Floats:
    """Quiet, with rushes that begin at once and die away."""
    begins = rng.random(rows) < 1 / _between(rng, 20, 400)
    fading = np.exp(-np.arange(200) / _between(rng, 1, 40))
    rushes: Floats = np.convolve(np.where(begins, rng.lognormal(0, 0.6, rows), 0.0), fading)[:rows]
    return rushes


def counts(rng: Generator, rows: int) -> Floats:
    """Counted events about a daily rhythm."""
    rate = _between(rng, 0.5, 40) * np.exp(0.7 * _wave(rng, _phase(rng, rows, _period(rng))))
    return rng.poisson(rate).astype(np.float64)


def counter(rng: Generator, rows: int) -> Floats:
    """Counts up, and begins again when full."""
    steps = rng.poisson(_between(rng, 0.5, 20), rows)
    full = _between(rng, 20, 400) * max(float(steps.mean()), 1.0)
    return np.asarray(np.cumsum(steps) % full, np.float64)


def regimes(rng: Generator, rows: int) -> Floats:
    """Levels, each held for a while; the way between them is short."""
    levels = rng.standard_normal(rng.integers(2, 6))
    begins = rng.random(rows) < 1 / _between(rng, 30, 500)
    held = rng.choice(levels, rows)[np.maximum.accumulate(np.where(begins, np.arange(rows), 0))]
    width = int(rng.integers(1, 8))
    return np.convolve(held, np.full(width, 1 / width), mode="same")


def switching(rng: Generator, rows: int) -> Floats:
    """On and off by turns, as a controller does."""
    share = rng.uniform(0.1, 0.9)
    return (_phase(rng, rows, _period(rng), unrest=0.02) % 1 < share).astype(np.float64)


def sawtooth(rng: Generator, rows: int) -> Floats:
    """Rises slowly and falls at once, or the other way round."""
    phase = _phase(rng, rows, _period(rng), unrest=0.01) % 1
    return np.asarray(phase if rng.random() < 0.5 else 1 - phase) ** rng.uniform(0.5, 2)


KINDS: Mapping[str, Callable[[Generator, int], Floats]] = {
    kind.__name__: kind
    for kind in (seasonal, seasonal_trend, walk, noise, beats, bursts, counts, counter, regimes, switching, sawtooth)
}


def signal(kind: str, rng: Generator, rows: int) -> Floats:
    """A signal of the kind, often with some noise, at times rounded coarsely or with another kind below it: (rows,)."""
    values = KINDS[kind](rng, rows)
    values = values / max(float(values.std()), 1e-9)
    if rng.random() < 0.3:
        other = KINDS[rng.choice(list(KINDS))](rng, rows)
        values = values + rng.uniform(0.1, 0.6) * other / max(float(other.std()), 1e-9)
    if rng.random() < 0.8:
        values = values + _between(rng, 0.01, 0.4) * rng.standard_normal(rows)
    return np.round(values, 1) if rng.random() < 0.2 else values


def _between(rng: Generator, low: float, high: float) -> float:
    """As often in each octave."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _period(rng: Generator) -> float:
    return _between(rng, SHORTEST, LONGEST)


def _phase(rng: Generator, rows: int, period: float, unrest: float = 0.0) -> Floats:
    """Turns since some moment, at a pace that wanders by the share `unrest`."""
    pace = 1 + unrest * wander(rng, rows, 1.0, 3 * period)
    return np.cumsum(pace / period) + rng.random()


def _wave(rng: Generator, phase: Floats) -> Floats:
    """A wave with two overtones of random size."""
    sizes = np.array([1.0, *rng.uniform(0, 0.6, 2)])
    turns = phase[:, None] * np.arange(1, 4) + rng.random(3)
    return np.asarray(np.sin(2 * np.pi * turns) @ sizes)


def _swell(rng: Generator, rows: int) -> Floats:
    """A size that wanders slowly about 1."""
    return np.exp(rng.uniform(0, 0.3) * wander(rng, rows, 1.0, 1000.0))
