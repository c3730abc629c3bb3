"""Which settings hold for a sensor: the entries of `[[sensors]]` whose pattern fits its id, the first one first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from stream_detector.settings.detector import SensorSettings

TOKEN = re.compile(r"\*+|\[!?\]?[^]]*\]|.", re.DOTALL)
"""One part of a pattern: any text, one letter of a class, or one letter."""
NO_BUDGET = ("fixed", "quantile")
"""Thresholds that take the place of a budget."""
WILD = frozenset("*?[")
OTHER = "\ufffe"
"""Stands for all letters that no pattern names."""
STRICTNESS = "how rare an alert must be"
REMEMBERED = 1 << 17
"""Sensors whose settings are kept at hand."""


class Overrides:
    """For each key, the first entry that fits the sensor and sets it counts; labels are gathered key by key.

    A budget, a sensitivity and a threshold that keeps none are three ways to set the same thing: the first one counts.
    Raises ValueError when an entry can never have its say, since one before it fits all its sensors.
    """

    def __init__(self, entries: Sequence[SensorSettings] = ()) -> None:
        self.entries = tuple(entries)
        _refuse_contradictions(self.entries)
        self.of = lru_cache(REMEMBERED)(self._of)
        """What holds for a sensor, by its id; a key that no entry sets is None."""

    def __bool__(self) -> bool:
        return bool(self.entries)

    def _of(self, sensor_id: str) -> SensorSettings:
        merged: dict[str, Any] = {"match": sensor_id or "*", "labels": {}}
        for entry in self.entries:
            if fnmatchcase(sensor_id, entry.match):
                said = _said(entry)
                merged["labels"] = {**said.pop("labels", {}), **merged["labels"]}
                if _strictness(merged):
                    said = {key: value for key, value in said.items() if key not in _strictness(said)}
                merged = {**said, **merged}
        return SensorSettings(**merged)


def _strictness(said: Mapping[str, Any]) -> list[str]:
    """The keys among these that say how rare an alert must be."""
    keys = [key for key in ("budget", "sensitivity") if key in said]
    return keys + ["threshold"] * str(said.get("threshold", "")).startswith(NO_BUDGET)


def _said(entry: SensorSettings) -> dict[str, Any]:
    """The keys that an entry sets."""
    said = entry.model_dump(exclude_unset=True, exclude_none=True)
    del said["match"]
    return said


def _refuse_contradictions(entries: Sequence[SensorSettings]) -> None:
    for i, later in enumerate(entries):
        for j, earlier in enumerate(entries[:i]):
            if not _covers(earlier.match, later.match):
                continue
            first, second = _flat(earlier), _flat(later)
            for key in second:
                if key in first and first[key] != second[key]:
                    told = _strictness(second)[0] if key == STRICTNESS else key
                    raise ValueError(
                        f"the {told} of [[sensors]] entry {i + 1} (match {later.match!r}) can never apply, since entry "
                        f"{j + 1} (match {earlier.match!r}) comes before it and sets another: put the narrower "
                        f"pattern first, or leave one out"
                    )


def _flat(entry: SensorSettings) -> dict[str, Any]:
    said = _said(entry)
    labels = {f"label {name}": value for name, value in said.pop("labels", {}).items()}
    for key in _strictness(said):
        said[STRICTNESS] = f"{key} {said[key]}"
    return {**said, **labels}


def _covers(wide: str, narrow: str) -> bool:
    """Whether one pattern fits all that another fits.

    Goes along both at once, letter by letter, with all places of the wide one that the text so far can lead to: one
    that ends at none of its ends is a text that it does not fit.
    """
    if not WILD & set(narrow):
        return fnmatchcase(narrow, wide)
    if "[" not in narrow and not fnmatchcase(narrow.replace("*", "").replace("?", OTHER), wide):
        return False
    near = {chr(ord(letter) + step) for letter in {*wide, *narrow} for step in (-1, 0, 1) if ord(letter) + step > 0}
    letters = sorted(near | {OTHER})
    short, long = _tokens(narrow, letters), _tokens(wide, letters)
    todo = [(0, _reach(long, {0}))]
    seen = set(todo)
    while todo:
        at, places = todo.pop()
        if len(short) in _reach(short, {at}) and len(long) not in places:
            return False
        for step in _reach(short, {at}) - {len(short)}:
            for letter in short[step][0]:
                state = (step if short[step][1] else step + 1, _read(long, places, letter))
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
    return True


def _tokens(pattern: str, letters: Sequence[str]) -> list[tuple[frozenset[str], bool]]:
    """The parts of a pattern: which of the letters each takes, and whether it takes any number of them."""
    found = []
    for part in TOKEN.findall(pattern):
        star = part.startswith("*")
        taken = (x for x in letters if star or fnmatchcase(x, part))
        found.append((frozenset(taken if WILD & set(part) else part), star))
    return found


def _reach(tokens: Sequence[tuple[frozenset[str], bool]], places: Iterable[int]) -> frozenset[int]:
    """These places, and those behind them that are reached without a letter."""
    reached = set(places)
    for place in list(reached):
        while place < len(tokens) and tokens[place][1]:
            place += 1
            reached.add(place)
    return frozenset(reached)


def _read(tokens: Sequence[tuple[frozenset[str], bool]], places: Iterable[int], letter: str) -> frozenset[int]:
    """The places after one more letter."""
    steps = [place for place in places if place < len(tokens) and letter in tokens[place][0]]
    return _reach(tokens, (place if tokens[place][1] else place + 1 for place in steps))
