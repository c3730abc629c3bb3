"""A fleet moment by moment, dated from a given time on: what simulated sensors would say now and from now on.

Time can be squeezed: at pace 300 a plant lives five minutes in a second, and its readings are dated a second apart.
It knows neither a clock nor where readings go; when a moment has come is for the caller to see.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stream_detector.errors import ConfigError
from stream_detector.records import Floats
from stream_detector.simulate.fields import FIELDS
from stream_detector.simulate.fleet import Fault, Fleet, simulate

PREFIX = "simulated-"
"""What the ids of live sensors begin with: beside real ones nobody must mistake them."""
CLEAN_ROWS, CLEAN_SHARE = 300, 0.3
"""Readings of each sensor before its first fault, at most such a share of all."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What all sensors say at one time: values (S, C) with NaN for missing; and the faults that begin with it."""

    time_ms: int
    sensor_ids: tuple[str, ...]
    channels: tuple[str, ...]
    values: Floats
    begins: tuple[Fault, ...]


def live(
    field: str,
    sensors: int,
    rows: int,
    seed: int,
    faults_per_sensor: float,
    begin_ms: int,
    pace: float = 1.0,
    endless: bool = False,
) -> Iterator[Moment]:
    """Moments of a fleet from `begin_ms` on, `rows` of them; `endless` has the same machines begin again and again.

    Their days go on where they were, only the chance repeats. Raises ConfigError before the first moment.
    """
    known = FIELDS.get(field)
    if known is not None and not 0 < pace <= known.interval_ms:
        raise ConfigError(
            f"the pace of {field} must be above 0 and at most {known.interval_ms}, not {pace:g}: readings are dated "
            "a millisecond apart at least"
        )
    clean = min(CLEAN_SHARE, CLEAN_ROWS / rows) if rows > 0 else 0.0
    first = simulate(field, sensors, rows, seed, faults_per_sensor, clean, begin_ms)

    def moments() -> Iterator[Moment]:
        yield from _moments(first, begin_ms, pace)
        start_ms = begin_ms
        while endless:
            start_ms += rows * first.interval_ms
            again = simulate(field, sensors, rows, seed, faults_per_sensor, clean, start_ms)
            yield from _moments(again, begin_ms, pace)

    return moments()


def _moments(fleet: Fleet, begin_ms: int, pace: float) -> Iterator[Moment]:
    """The fleet's rows, one after the other, with its own times squeezed towards `begin_ms`."""

    def dated(time_ms: int) -> int:
        return begin_ms + round((time_ms - begin_ms) / pace)

    begins: dict[int, list[Fault]] = defaultdict(list)
    for fault in fleet.faults:
        named = replace(
            fault,
            sensor_id=PREFIX + fault.sensor_id,
            start_ms=dated(fault.start_ms),
            end_ms=dated(fault.end_ms),
        )
        begins[fault.start_ms].append(named)
    sensor_ids = tuple(PREFIX + series.sensor_id for series in fleet.series)
    values = np.stack([series.values for series in fleet.series])  # (S, T, C)
    for row, time_ms in enumerate(fleet.series[0].time_ms.tolist()):
        yield Moment(
            dated(time_ms), sensor_ids, fleet.series[0].channels, values[:, row], tuple(begins.get(time_ms, ()))
        )
