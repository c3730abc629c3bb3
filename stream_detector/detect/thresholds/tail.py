"""How deep in the tail a normalised score lies: the generalised Pareto fit and the depth curve.

Pure mathematics on arrays; knows neither sensors nor budgets.

Depth is y = -ln P(a step of the fleet lies above r). A sensor like the fleet has exponentially distributed
depths whatever the shape of its tail, so thresholds can be moved from one probability to another by adding to
the depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from stream_detector.records import Floats, Floats32, Ints

Column: TypeAlias = npt.NDArray[np.floating]

LOWEST = -8.0
"""Normalised scores below this are all alike: depth 0, p-value 1."""
CELLS = 1024
"""Cells of the table that stands in for a search over the knots in the body of the distribution."""
GRID = 30
"""Points of the profile likelihood's grid; Zhang and Stephens take 20 + sqrt(n)."""
SHAPE_PRIOR = 10.0
"""Excesses that a shape of 0 is worth: in logarithms of scores, 0 is a Pareto tail of the scores themselves."""
SHAPE_RANGE = (-0.25, 0.5)
"""The fitted shape is kept within: outside, a curve would end at a finite score or run away from every score."""


def fit_pareto(excess: Floats, count: Ints) -> tuple[Floats, Floats]:
    """Shape and scale of generalised Pareto distributions, one a row.

    excess: (n, M) what lies above the threshold, > 0; unused places hold 0. count: (n,) used places, at least 2.
    Returns shape (n,), positive for heavy tails, and scale (n,) in the units of `excess`.
    Source: Zhang and Stephens (2009), "A new and efficient estimation method for the generalized Pareto
    distribution", Technometrics 51(3): a weighted mean over a fixed grid, no root finding.
    """
    M = excess.shape[1]
    largest = excess.max(axis=1)
    unit = np.where(largest > 0, largest, 1.0)[:, None]
    x = np.sort(excess / unit, axis=1)
    quartile = np.take_along_axis(x, (M - count + (count + 2) // 4 - 1)[:, None], axis=1)
    quartile = np.maximum(quartile, 1e-9)
    grid = 1 - np.sqrt(GRID / (np.arange(1, GRID + 1) - 0.5))
    theta = 1.0 + 1e-9 + grid[None] / (3 * quartile)  # the largest x is 1 in these units
    theta = np.where(np.abs(theta) < 1e-9, 1e-9, theta)
    theta = np.minimum(theta, 1 - 1e-9)
    shape = _mean_log(theta, x, count)
    likelihood = count[:, None] * (np.log(-theta / shape) - shape - 1)
    weight = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    best = (weight * theta).sum(axis=1) / weight.sum(axis=1)
    best = np.where(np.abs(best) < 1e-9, 1e-9, best)
    fitted = _mean_log(best[:, None], x, count)[:, 0]
    return fitted, -fitted / best * unit[:, 0]


def _mean_log(theta: Floats, x: Floats, count: Ints) -> Floats:
    """Mean over the used places of ln(1 - theta x): (n, G) for theta (n, G) and x (n, M)."""
    total = np.zeros_like(theta)
    for j in range(x.shape[1]):  # one place after another: the order of the sum is then the same for every n
        total += np.log1p(-theta * x[:, j : j + 1])
    mean: Floats = total / count[:, None]
    return np.where(mean == 0, -1e-300, mean)


@dataclass(frozen=True)
class DepthCurve:
    """The map between normalised scores r and depths y, both ways.

    r, y: (J,) knots, strictly rising; straight in between and beyond the last, depth y[0] before the first.
    """

    r: Floats
    y: Floats
    _top: float = field(init=False)
    _per_cell: float = field(init=False)
    _start: Floats = field(init=False)
    _slope: Floats = field(init=False)

    def __post_init__(self) -> None:
        # The table reaches a little into the tail; what lies beyond is rare and searched.
        top = float(np.interp(self.y[len(self.y) // 2], self.y, self.r))
        edges = np.linspace(self.r[0], top, CELLS + 1)
        depth = np.interp(edges, self.r, self.y)
        slope = np.diff(depth) / np.diff(edges)
        object.__setattr__(self, "_top", top)
        object.__setattr__(self, "_per_cell", CELLS / (top - self.r[0]))
        object.__setattr__(self, "_slope", slope)
        object.__setattr__(self, "_start", depth[:-1] - slope * edges[:-1])

    def depth(self, r: Column) -> Floats:
        """Depth of normalised scores: r (n,) finite -> y (n,) float64, never falling with r."""
        at: Floats = np.maximum(r, self.r[0]).astype(np.float64)
        y: Floats = at - self.r[0]
        y *= self._per_cell
        np.minimum(y, CELLS - 1.0, out=y)
        cell = y.astype(np.intp)
        np.take(self._slope, cell, out=y, mode="clip")
        y *= at
        y += self._start[cell]
        far = np.flatnonzero(at >= self._top)
        if len(far):
            y[far] = _line(at[far], self.r, self.y)
        return y

    def score(self, y: Floats) -> Floats32:
        """Normalised score at depths y (n,); the inverse of `depth` up to rounding."""
        return _line(np.maximum(y, self.y[0]), self.y, self.r).astype(np.float32)


def _line(at: Floats, x: Floats, y: Floats) -> Floats:
    """Piecewise linear interpolation that goes on straight beyond the last knot."""
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    found: Floats = np.where(at > x[-1], y[-1] + slope * (at - x[-1]), np.interp(at, x, y))
    return found


def pareto_knots(shape: float, scale: float) -> tuple[Floats, Floats]:
    """Knots of a generalised Pareto tail: depth beyond the threshold, and how far beyond it that is."""
    t = np.concatenate([np.arange(0.25, 20, 0.25), np.arange(20, 82, 2.0)])
    return t, scale * (np.expm1(shape * t) / shape if abs(shape) > 1e-6 else t)


def rising(r: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Knots made strictly rising in both: of several at one place the deepest stays."""
    order = np.lexsort((y, r))
    r, y = r[order], np.maximum.accumulate(y[order])
    last = np.append(np.diff(r) > 1e-9 * np.maximum(1, np.abs(r[1:])), True)
    r, y = r[last], y[last]
    first = np.insert(np.diff(y) > 1e-12, 0, True)
    return r[first], y[first]
