"""Times as messages state them -> milliseconds since 1970-01-01 UTC, all of a batch together.

A number is milliseconds. Text is ISO 8601, or a number as text; it means what it means in a file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from stream_detector.records import Floats, Ints
from stream_detector.streaming.files.times import LAST_MS, Times, shown

Time = float | str
Letters: TypeAlias = npt.NDArray[np.uint8]
FORMS = {
    19: (0, ""),
    20: (0, "Z"),
    23: (3, ""),
    24: (3, "Z"),
    25: (0, "+00:00"),
    26: (6, ""),
    27: (6, "Z"),
    29: (3, "+00:00"),
    32: (6, "+00:00"),
}
"""Length of a time as nearly everyone writes it -> digits behind the second, and the zone."""
PARTS = ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))
"""Where year, month, day, hour, minute and second stand."""


class Clock:
    """Parses times, and remembers those that are not in a usual form."""

    def __init__(self) -> None:
        self._times = Times()

    def to_ms(self, times: list[Time]) -> Ints:
        """Milliseconds, (N,) for N times; -1 for what is no time in the years 1970 to 2200."""
        try:
            exact = np.frombuffer(struct.pack(f"{len(times)}d", *times))  # twice as quick as numpy's own way
        except struct.error:  # there is text among them
            exact = self._with_text(times)
        possible = (exact >= 0) & (exact <= LAST_MS)
        return np.where(possible, np.rint(exact), -1).astype(np.int64)

    def _with_text(self, times: list[Time]) -> Floats:
        if set(map(type, times)) == {str}:
            return self._of_text(cast("list[str]", times))
        exact = np.array([np.nan if isinstance(time, str) else time for time in times], np.float64)
        texts = [(i, time) for i, time in enumerate(times) if isinstance(time, str)]
        exact[[i for i, _ in texts]] = self._of_text([text for _, text in texts])
        return exact

    def _of_text(self, texts: list[str]) -> Floats:
        exact = in_usual_forms(texts)
        others = np.flatnonzero(np.isnan(exact))
        if len(others):
            exact[others], _ = self._times.parse([texts[i].strip() for i in others.tolist()])
        return exact


def in_usual_forms(texts: Sequence[str]) -> Floats:
    """Milliseconds of each text, (N,); NaN for one that is in none of the usual forms."""
    exact = np.full(len(texts), np.nan)
    length = np.fromiter(map(len, texts), np.int64, len(texts))
    start = np.cumsum(length) - length
    letters = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8)
    for one in np.unique(length).tolist():
        if one in FORMS:
            rows = np.flatnonzero(length == one)
            exact[rows] = _in_form(letters[start[rows] + np.arange(one)[:, None]], *FORMS[one])
    return exact


def _in_form(letters: Letters, fraction: int, zone: str) -> Floats:
    """Milliseconds of texts (N,) whose letters are the columns; NaN for one that is not of this form."""
    before = "0000-00-00T00:00:00" + ("." if fraction else "")
    form = np.frombuffer((before + "0" * fraction + zone).encode(), np.uint8)
    is_digit = form == ord("0")
    is_digit[len(before) + fraction :] = False
    digits = letters - np.uint8(ord("0"))  # what is no digit wraps round to a large number
    fits = (digits[is_digit] <= 9).all(axis=0) & (letters[~is_digit] == form[~is_digit, None]).all(axis=0)
    year, month, day, hour, minute, second = (_number(digits[start:end]) for start, end in PARTS)
    micros = _number(digits[20 : 20 + fraction]) * 10 ** (6 - fraction)
    months = np.clip((year - 1970) * 12 + month - 1, 0, 12_000)
    first, after = (m.astype("M8[M]").astype("M8[D]").astype(np.int64) for m in (months, months + 1))
    fits &= (year >= 1970) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= after - first)
    fits &= (hour < 24) & (minute < 60) & (second < 60)
    seconds = (first + day - 1) * 86_400 + hour * 3_600 + minute * 60 + second
    return np.where(fits, (seconds * 1_000_000 + micros) / 1_000, np.nan)


def _number(digits: Letters) -> Ints:
    """The numbers (N,) of digits (D, N)."""
    value = np.zeros(digits.shape[1], np.int64)
    for digit in digits:
        value = value * 10 + digit
    return value


def fault(time: Time) -> str:
    """Why this is no usable time, for one that `to_ms` gave -1 for."""
    if isinstance(time, str):
        return f"bad-time: the timestamp {shown(time)} is neither ISO 8601, nor a number, of the years 1970 to 2200"
    hint = "; send milliseconds, not micro- or nanoseconds" if time > LAST_MS else ""
    return f"bad-time: the timestamp {time:.17g} is not within the years 1970 to 2200{hint}"
