"""Faults as pure functions on arrays: every injector returns a copy in which only its span has changed.

An injector takes `(values, start, length, channels, magnitude, rng)`: values (T, C) float64, the first row and
the number of rows of the span (inside the array), the columns to change, a signed magnitude, and a source of
chance. It works as well on a window of real readings as on a simulated series, because sizes are measured in the
channel's own deviation around the span. It knows neither channel names nor physical limits; NaN in the input is
a missing value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from stream_detector.records import Floats

Injector: TypeAlias = Callable[[Floats, int, int, Sequence[int], float, np.random.Generator], Floats]

REACH = 300  # rows on either side of a span that tell what is normal there; a day of 5-minute readings
CANDIDATES = 16  # other times that a decoupled channel may take its order from
SPIKE_DECAY = 0.5  # what is left of a spike one reading later


def deviation(values: Floats, start: int, length: int) -> float:
    """How far one channel normally varies around a span: the 5 %..95 % range of the rows beside it, over 3.29.

    values: (T,) one channel, in its own unit, and so is the result; always > 0. For Gaussian values it is the
    standard deviation. A channel that hardly moves falls back to that one, then to 5 % of its level.
    """
    around = _surroundings(values, start, length)
    low, high = np.quantile(around, (0.05, 0.95))
    scale = (high - low) / 3.29 or np.std(around) or abs(np.median(around)) / 20
    return float(scale) or 1.0


def spike(
    values: Floats, start: int, length: int, channels: Sequence[int], magnitude: float, rng: np.random.Generator
) -> Floats:
    """The first reading leaves the range beside it by `magnitude` deviations; the next ones fall back."""
    changed = values.copy()
    fade = SPIKE_DECAY ** np.arange(length)
    for c in channels:
        around = _surroundings(values[:, c], start, length)
        edge = around.max() if magnitude >= 0 else around.min()
        peak = edge + magnitude * deviation(values[:, c], start, length)
        span = values[start : start + length, c]
        changed[start : start + length, c] = span + (peak - span) * fade
    return changed


def level_shift(
    values: Floats, start: int, length: int, channels: Sequence[int], magnitude: float, rng: np.random.Generator
) -> Floats:
    """The channel sits `magnitude` deviations away from where it was, and comes back."""
    changed = values.copy()
    for c in channels:
        changed[start : start + length, c] += magnitude * deviation(values[:, c], start, length)
    return changed


def drift(
    values: Floats, start: int, length: int, channels: Sequence[int], magnitude: float, rng: np.random.Generator
) -> Floats:
    """The channel creeps away in a straight line, to `magnitude` deviations at the last reading."""
    changed = values.copy()
    ramp = np.arange(1, length + 1) / length
    for c in channels:
        changed[start : start + length, c] += ramp * magnitude * deviation(values[:, c], start, length)
    return changed


def frequency_change(
    values: Floats, start: int, length: int, channels: Sequence[int], magnitude: float, rng: np.random.Generator
) -> Floats:
    """The channel's rhythm runs `magnitude` (> 0) times as fast about its level: the spectrum moves, the range stays.

    What the channel does around the span's middle is squeezed or stretched, mirrored at the array's ends; its
    level, the mean over as many rows as the span has, goes on as it was. No value leaves the array's range.
    """
    changed = values.copy()
    last = len(values) - 1
    if last < 1:
        return changed
    rows = np.arange(start, start + length)
    middle = start + (length - 1) / 2
    source = np.mod(middle + magnitude * (rows - middle), 2 * last)
    source = np.where(source > last, 2 * last - source, source)
    for c in channels:
        level = _level(values[:, c], length)
        rhythm = np.interp(source, np.arange(last + 1), values[:, c] - level)
        known = values[np.isfinite(values[:, c]), c]
        if len(known):
            changed[start : start + length, c] = np.clip(level[rows] + rhythm, known.min(), known.max())
    return changed


def stuck(
    values: Floats, start: int, length: int, channels: Sequence[int], magnitude: float, rng: np.random.Generator
) -> Floats:
    """The channel repeats its last value from before the span; `magnitude` is not used."""
    changed = values.copy()
    for c in channels:
        before = values[:start, c]
        known = before[np.isfinite(before)]
        held = known[-1] if len(known) else np.median(_surroundings(values[:, c], start, length))
        changed[start : start + length, c] = held
    return changed


def dropout(
    values: Floats, start: int, length: int, channels: Sequence[int], magnitude: float, rng: np.random.Generator
) -> Floats:
    """The values are missing (NaN); `magnitude` is not used."""
    changed = values.copy()
    changed[start : start + length, list(channels)] = np.nan
    return changed


def correlation_break(
    values: Floats, start: int, length: int, channels: Sequence[int], magnitude: float, rng: np.random.Generator
) -> Floats:
    """The channel goes its own way: its values in the span stay, but come in the order of another time.

    The marginal distribution in the span is exactly the old one and the rhythm is the channel's own; only the
    relation to the other channels goes. Of several other times the one least like the span is taken.
    `magnitude` is not used.
    """
    changed = values.copy()
    for c in channels:
        span = values[start : start + length, c]
        known = np.isfinite(span)
        patterns = [np.nan_to_num(p)[known] for p in _other_times(values[:, c], start, length, rng)]
        source = min(patterns, key=lambda pattern: _likeness(pattern, span[known]))
        ranks = np.argsort(np.argsort(source, kind="stable"), kind="stable")
        changed[start : start + length, c][known] = np.sort(span[known])[ranks]
    return changed


INJECTORS: dict[str, Injector] = {
    "spike": spike,
    "level_shift": level_shift,
    "drift": drift,
    "frequency_change": frequency_change,
    "stuck": stuck,
    "dropout": dropout,
    "correlation_break": correlation_break,
}
KINDS = tuple(INJECTORS)

# Rows that a fault of each kind lasts, both ends included.
LENGTHS: dict[str, tuple[int, int]] = {
    "spike": (1, 3),
    "level_shift": (60, 200),
    "drift": (100, 300),
    "frequency_change": (80, 200),
    "stuck": (40, 150),
    "dropout": (10, 60),
    "correlation_break": (80, 200),
}

# In deviations, but for frequency_change, where it is the factor of the speed. Kinds that have no size say 1.
MAGNITUDES: dict[str, tuple[float, float]] = {
    "spike": (2.0, 6.0),
    "level_shift": (2.0, 4.0),
    "drift": (2.5, 5.0),
    "frequency_change": (1.6, 2.5),
    "stuck": (1.0, 1.0),
    "dropout": (1.0, 1.0),
    "correlation_break": (1.0, 1.0),
}


def draw_length(kind: str, rng: np.random.Generator) -> int:
    """A usual length of a fault of this kind, in rows."""
    low, high = LENGTHS[kind]
    return int(rng.integers(low, high + 1))


def draw_magnitude(kind: str, rng: np.random.Generator, direction: int = 0) -> float:
    """A usual magnitude, visible and not absurd; `direction` -1 or 1 fixes its sign, 0 leaves it open."""
    size = float(rng.uniform(*MAGNITUDES[kind]))
    up = bool(rng.integers(2)) if direction == 0 else direction > 0
    if kind == "frequency_change":
        return round(size if up else 1 / size, 3)
    signed = kind in ("spike", "level_shift", "drift")
    return round(-size if signed and not up else size, 3)


def _surroundings(values: Floats, start: int, length: int) -> Floats:
    """The known values beside a span; those in it if there are none beside; 0 if there are none at all."""
    beside = np.concatenate([values[max(0, start - REACH) : start], values[start + length :][:REACH]])
    for rows in (beside, values[start : start + length]):
        known = rows[np.isfinite(rows)]
        if len(known):
            return known
    return np.zeros(1)


def _level(values: Floats, width: int) -> Floats:
    """The mean of the known values in `width` rows about each row, (T,); NaN where none is known."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    first = np.maximum(np.arange(len(values)) - width // 2, 0)
    end = np.minimum(first + width, len(values))
    total = counts[end] - counts[first]
    level = np.full(len(values), np.nan)
    np.divide(sums[end] - sums[first], total, out=level, where=total > 0)
    return level


def _other_times(values: Floats, start: int, length: int, rng: np.random.Generator) -> list[Floats]:
    """Stretches as long as the span that do not overlap it; the span backwards where the array has no room."""
    starts = [s for s in range(len(values) - length + 1) if s + length <= start or s >= start + length]
    if not starts:
        return [values[start : start + length][::-1]]
    chosen = rng.choice(starts, size=min(CANDIDATES, len(starts)), replace=False)
    return [values[s : s + length] for s in chosen]


def _likeness(one: Floats, other: Floats) -> float:
    """The correlation of two stretches; 1 where one of them is constant and so tells no order of its own."""
    if len(one) == 0:
        return 1.0
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / scale if scale > 0 else 1.0
