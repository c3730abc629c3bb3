"""Fleets: healthy signals of many sensors with faults put in at known times.

Every sensor has its own random generator, spawned from the seed, so a sensor is the same whatever the number of
sensors beside it. It knows no files and no detector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from stream_detector.errors import ConfigError
from stream_detector.records import Bools, Floats, Ints, format_time
from stream_detector.simulate.faults import INJECTORS, KINDS, deviation, draw_length, draw_magnitude
from stream_detector.simulate.fields import FIELDS, Field

MONDAY_MS = 1_767_571_200_000  # 2026-01-05T00:00:00Z
LEAST_GAP = 60  # rows between two faults of a sensor, at least
MOST_GAP = 400
LEAST_ROOM = 10  # rows that a fault must be able to last
TRIES = 12  # places looked at for a fault that would not show while the channel rests


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the first and the last reading that it affects, and how strong it is.

    magnitude: signed, in the channel's own deviations; for frequency_change the speed's factor; 1 for kinds
    without size.
    """

    sensor_id: str
    kind: str
    channels: tuple[str, ...]
    start_ms: int
    end_ms: int
    magnitude: float


@dataclass(frozen=True, slots=True)
class Series:
    """One sensor's readings: time_ms (T,), values (T, C) with NaN for missing, label (T,) True in a fault."""

    sensor_id: str
    time_ms: Ints
    channels: tuple[str, ...]
    values: Floats
    label: Bools


@dataclass(frozen=True, slots=True)
class Fleet:
    """The sensors of one field and everything that went wrong with them, in order of sensor and time."""

    field: str
    interval_ms: int
    seed: int
    series: list[Series]
    faults: list[Fault]


def simulate(
    field: str = "plant",
    sensors: int = 5,
    rows: int = 4000,
    seed: int = 0,
    faults_per_sensor: float = 2.0,
    clean: float = 0.3,
    start_ms: int = MONDAY_MS,
    interval_ms: int | None = None,
) -> Fleet:
    """Simulate `sensors` series of `rows` readings; the first `clean` share of each is free of faults.

    The same arguments give the same fleet, and a larger fleet begins with the same sensors. Kinds are dealt
    in turn, so a fleet with as many faults as the field has kinds has them all.
    """
    spec = _checked(field, sensors, rows, seed, faults_per_sensor, clean, start_ms, interval_ms)
    step_ms = spec.interval_ms if interval_ms is None else interval_ms
    time_ms = start_ms + step_ms * np.arange(rows, dtype=np.int64)
    first = int(np.ceil(clean * rows))
    dealer, counter, *seeds = np.random.SeedSequence([seed, *field.encode()]).spawn(sensors + 2)
    kinds = _deal_kinds(spec, np.random.default_rng(dealer))
    counts = _count_faults(sensors, faults_per_sensor, np.random.default_rng(counter))
    fleet = Fleet(field, step_ms, seed, [], [])
    for i, own in enumerate(seeds):
        sensor_id = f"{spec.noun}-{i + 1:03d}"
        count = min(int(counts[i]), _capacity(rows - first))
        series, faults = _sensor(sensor_id, spec, time_ms, first, list(islice(kinds, count)), own)
        fleet.series.append(series)
        fleet.faults.extend(faults)
    return fleet


def _checked(
    field: str,
    sensors: int,
    rows: int,
    seed: int,
    faults_per_sensor: float,
    clean: float,
    start_ms: int,
    interval_ms: int | None,
) -> Field:
    """The field of that name, when all arguments can be used; ConfigError otherwise."""
    spec = FIELDS.get(field)
    if spec is None:
        raise ConfigError(f"the field {field!r} is not known; use one of {', '.join(FIELDS)}")
    step_ms = spec.interval_ms if interval_ms is None else interval_ms
    if sensors < 1 or rows < 1:
        raise ConfigError(f"sensors and rows must be at least 1, not {sensors} and {rows}")
    if seed < 0:
        raise ConfigError(f"the seed must be 0 or more, not {seed}")
    if not 0 <= clean < 1:
        raise ConfigError(f"the clean share must be at least 0 and below 1, not {clean}")
    if not 1 <= step_ms <= spec.longest_interval_ms:
        limit = spec.longest_interval_ms
        raise ConfigError(f"the interval of {field} must be between 1 and {limit} ms, not {step_ms}")
    if not 0 <= faults_per_sensor < np.inf:
        raise ConfigError(f"the faults per sensor must be 0 or more, not {faults_per_sensor}")
    try:
        format_time(start_ms), format_time(start_ms + step_ms * rows)
    except OverflowError as error:
        raise ConfigError("the times must lie between the years 1 and 9999; use an earlier start") from error
    room = _capacity(rows - int(np.ceil(clean * rows)))
    if faults_per_sensor > room:
        raise ConfigError(
            f"{faults_per_sensor:g} faults per sensor do not fit into {rows} rows with a clean share of {clean:g}, "
            f"at most {room} do; use more rows or fewer faults"
        )
    return spec


def _capacity(rows: int) -> int:
    """How many faults that many rows can hold at a healthy distance."""
    return rows // (LEAST_GAP + LEAST_ROOM)


def _deal_kinds(spec: Field, rng: np.random.Generator) -> Iterator[str]:
    """Every kind that makes sense in the field once, in random order, and again, without end."""
    kinds = [kind for kind in KINDS if any(kind in channel.kinds for channel in spec.channels)]
    while True:
        yield from (kinds[i] for i in rng.permutation(len(kinds)))


def _count_faults(sensors: int, faults_per_sensor: float, rng: np.random.Generator) -> Ints:
    """How many faults each sensor gets, (S,): the mean as asked, some more, some fewer, some none.

    What a sensor gets more its neighbour gets less, so that small fleets keep their total.
    """
    drawn = rng.random((sensors, 2))
    more = np.floor(drawn[::2, 1] * 3) - 1 if faults_per_sensor >= 1 else np.zeros((sensors + 1) // 2)
    paired = np.column_stack([more, -more]).ravel()[:sensors]
    counts: Ints = (np.floor(faults_per_sensor + drawn[:, 0]) + paired).astype(np.int64)
    return counts


def _sensor(
    sensor_id: str, spec: Field, time_ms: Ints, first: int, kinds: list[str], seed: np.random.SeedSequence
) -> tuple[Series, list[Fault]]:
    """One sensor's series with a fault of each of `kinds`, one after the other, none before row `first`."""
    signal_rng, fault_rng = (np.random.default_rng(child) for child in seed.spawn(2))
    healthy = spec.signals(time_ms, signal_rng)
    values, label, faults = healthy.copy(), np.zeros(len(time_ms), dtype=bool), []
    slot = (len(time_ms) - first) // max(len(kinds), 1)
    for n, kind in enumerate(kinds):
        chosen = _choose_channels(kind, spec, fault_rng)
        direction = next((d for c in chosen if (d := spec.channels[c].direction)), 0)
        magnitude = draw_magnitude(kind, fault_rng, direction)
        start, length = _place(kind, healthy, chosen, first + n * slot, slot, fault_rng)
        # Faults are put into the healthy values: another fault nearby must not change what counts as normal.
        faulty = INJECTORS[kind](healthy, start, length, chosen, magnitude, fault_rng)
        span = slice(start, start + length)
        values[span] = faulty[span]
        if kind in ("level_shift", "drift"):
            _scatter(values[span], healthy[span], chosen, spec, fault_rng)
        label[span] = True
        names = tuple(spec.channels[c].name for c in chosen)
        ends = int(time_ms[start]), int(time_ms[start + length - 1])
        faults.append(Fault(sensor_id, kind, names, *ends, magnitude))
    names = tuple(channel.name for channel in spec.channels)
    return Series(sensor_id, time_ms, names, spec.finish(values), label), faults


def _choose_channels(kind: str, spec: Field, rng: np.random.Generator) -> list[int]:
    """The columns that a fault changes: often one, sometimes more; as many as make sense for the kind."""
    open_to = [c for c, channel in enumerate(spec.channels) if kind in channel.kinds]
    if kind in spec.joint:
        return open_to
    if kind == "correlation_break" or rng.random() < 0.5:  # two channels that leave together stay coupled
        return [int(rng.choice(open_to))]
    if kind == "dropout":
        return open_to
    return sorted(int(c) for c in rng.choice(open_to, size=rng.integers(1, len(open_to) + 1), replace=False))


def _place(
    kind: str, healthy: Floats, channels: list[int], begin: int, slot: int, rng: np.random.Generator
) -> tuple[int, int]:
    """First row and length of a fault inside its slot, whose end stays healthy."""
    gap = int(np.clip(slot // 2, LEAST_GAP, MOST_GAP))
    length = min(draw_length(kind, rng), slot - gap)
    starts = begin + rng.integers(0, slot - gap - length + 1, TRIES)
    if kind not in ("stuck", "frequency_change", "correlation_break"):
        return int(starts[0]), length
    # These show only while the channel moves: no one sees a count of zero that is stuck at night.
    moving = [_movement(healthy, channels, int(s), length) for s in starts]
    lively = [s for s, m in zip(starts, moving, strict=True) if m > 0.5]
    return int(lively[0] if lively else starts[int(np.argmax(moving))]), length


def _scatter(faulty: Floats, healthy: Floats, channels: list[int], spec: Field, rng: np.random.Generator) -> None:
    """Let what a fault adds to sums of events arrive in events too, in place: gamma distributed about its mean.

    More payments are still payments, one by one; a constant on top of them would be a flat line at night.
    """
    for c in channels:
        event = spec.channels[c].event
        if event:
            more = np.maximum(faulty[:, c] - healthy[:, c], 1e-9)
            faulty[:, c] = healthy[:, c] + rng.gamma(more / event, event)


def _movement(healthy: Floats, channels: list[int], start: int, length: int) -> float:
    """How much the least lively of the channels moves in a span, in its own deviations; higher is livelier."""
    return min(
        float(np.std(healthy[start : start + length, c])) / deviation(healthy[:, c], start, length) for c in channels
    )
