"""The text of a time -> milliseconds since 1970-01-01 UTC.

ISO 8601 text says its own unit. A number does not, and its unit is judged from all numbers of a file together:
so parsing is one step, `Times.parse`, and scaling another, `to_ms`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from stream_detector.records import Bools, Floats, Ints, parse_time

MS_OF = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
TIME_UNITS = ("auto", *MS_OF)
LEAST_OF = {"ns": 1e17, "us": 1e14, "ms": 1e11, "s": 1e8}
"""The least number that is taken for a time in that unit; a smaller one counts milliseconds from 0."""
LAST_MS = parse_time("2200-12-31T23:59:59.999")
LARGEST = LAST_MS / MS_OF["ns"]
"""No unit makes a larger number a time before 2201."""
OUTLIERS = 100
"""One number in so many may be out of the way (a broken row) and does not decide the unit."""
CACHED = 200_000


def numbers(texts: Sequence[str]) -> Floats | None:
    """The texts as numbers, or None when one of them is none; infinities and NaN are left to the caller."""
    if "_" in "".join(texts):  # Python reads 1_000 as a number; no writer of data means that
        return None
    try:
        return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        return None


def number(text: str) -> float | None:
    """One text as a number, by the rule of `numbers`."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


class Times:
    """Parses times, and remembers those that it has seen: the sensors of a fleet share theirs."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def parse(self, texts: Sequence[str]) -> tuple[Floats, Bools]:
        """Value and kind of each text, (N,) each.

        The value is in milliseconds for ISO 8601 text, as written for a number (the kind is True), and NaN or
        infinite for anything else.
        """
        found = numbers(texts)
        if found is not None:
            return found, np.ones(len(texts), np.bool_)
        if len(self._seen) > CACHED:
            self._seen.clear()
        value = np.fromiter(map(self._iso_ms, texts), np.float64, len(texts))
        numeric = np.zeros(len(texts), np.bool_)
        for i in np.flatnonzero(np.isnan(value)).tolist():
            read = number(texts[i])
            numeric[i] = read is not None
            value[i] = math.nan if read is None else read
        return value, numeric

    def _iso_ms(self, text: str) -> float:
        known = self._seen.get(text)
        if known is not None:
            return known
        try:
            # Digits alone would pass as a date like 20240131, and must mean the same whatever stands beside them.
            value = math.nan if text.isdigit() else float(parse_time(text))
        except (ValueError, OverflowError):
            value = math.nan
        self._seen[text] = value
        return value


def to_ms(value: Floats, numeric: Bools, unit: str) -> tuple[Ints, Bools]:
    """Milliseconds, and whether they lie in the years 1970 to 2200 (0 where not), from what `Times.parse` gave."""
    factor = MS_OF[_judged(value[numeric]) if unit == "auto" else unit]
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.rint(np.where(numeric, value * factor, value))
        possible: Bools = (exact >= 0) & (exact <= LAST_MS)
    return np.where(possible, exact, 0).astype(np.int64), possible


def _judged(found: Floats) -> str:
    """The unit that the largest of the numbers speak for."""
    size = np.sort(np.abs(found[np.abs(found) <= LARGEST]))
    if not len(size):
        return "ms"
    largest = size[-1 - len(size) // OUTLIERS]
    return next((unit for unit, least in LEAST_OF.items() if largest >= least), "ms")


def shown(texts: Iterable[str] | str) -> str:
    """Input quoted in a message, kept short."""
    if isinstance(texts, str):
        return repr(texts if len(texts) <= 40 else texts[:37] + "...")
    given = list(texts)
    return ", ".join(shown(text) for text in given[:12]) + (" ..." if len(given) > 12 else "")
