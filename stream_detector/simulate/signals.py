"""Healthy signals of the three fields, as arrays.

A function here takes the times of a series and a source of chance, draws one sensor's own character from it,
and returns (T, C) values, unrounded, in the channels' physical units. Daily cycles, operating modes, bursts and
slow drifts are part of normal life. It knows nothing of faults, limits or files.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from stream_detector.records import Floats, Ints

SECOND = 1_000.0
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def plant(time_ms: Ints, rng: np.random.Generator) -> Floats:
    """A machine's temperature (C), vibration (mm/s), current (A) and pressure (bar), (T, 4)."""
    T, step = len(time_ms), _step(time_ms)
    load, duty = _load(time_ms, rng)
    ambient = rng.uniform(16, 24) + rng.uniform(2, 4) * np.sin(2 * np.pi * (time_ms / DAY - 0.375))
    ambient += 1.5 * wander(rng, T, step, 2 * DAY)
    warmth = lag(load, step, rng.uniform(15, 40) * MINUTE)
    temperature = ambient + rng.uniform(25, 40) * warmth + 0.3 * wander(rng, T, step, 20 * MINUTE)
    wear = 1 + 0.08 * wander(rng, T, step, 5 * DAY)
    vibration = wear * (rng.uniform(0.6, 1.0) + rng.uniform(1.8, 2.8) * load**2)
    vibration *= np.exp(0.06 * wander(rng, T, step, 8 * MINUTE))
    current = rng.uniform(3, 5) + rng.uniform(12, 20) * load + 0.2 * wander(rng, T, step, 5 * MINUTE)
    pressure = rng.uniform(6, 8) - rng.uniform(0.6, 1.2) * load + 0.12 * duty
    pressure += 0.03 * wander(rng, T, step, 10 * MINUTE) + 0.05 * wander(rng, T, step, 3 * DAY)
    return np.column_stack([temperature, vibration, current, pressure])


def payments(time_ms: Ints, rng: np.random.Generator) -> Floats:
    """An account's transactions, their amount (in its currency) and the declined ones per interval, (T, 3).

    Counts are negative binomial (a Poisson whose rate is gamma distributed) about a daily and weekly rhythm,
    amounts sums of log-normals, declined ones binomial.
    """
    T, step = len(time_ms), _step(time_ms)
    rate = np.exp(rng.uniform(np.log(3), np.log(25))) * step / (5 * MINUTE)
    rate = rate * _opening_hours(time_ms, rng) * _bursts(time_ms, rng)
    rate *= np.exp(0.15 * wander(rng, T, step, 4 * HOUR))
    shape = rng.uniform(10, 30)
    transactions = rng.poisson(rate * rng.gamma(shape, 1 / shape, T))
    tickets = rng.lognormal(np.log(rng.uniform(15, 60)), rng.uniform(0.4, 0.7), int(transactions.sum()))
    amount = np.bincount(np.repeat(np.arange(T), transactions), weights=tickets, minlength=T)
    declined = rng.binomial(transactions, rng.uniform(0.02, 0.06))
    return np.column_stack([transactions, amount, declined]).astype(np.float64)


def patients(time_ms: Ints, rng: np.random.Generator) -> Floats:
    """A patient's ECG (mV), respiration (relative), arterial pressure (mmHg) and SpO2 (%), (T, 4).

    The ECG is a sum of Gaussian bumps per beat (McSharry et al., 2003, A dynamical model for generating
    synthetic electrocardiogram signals); breathing modulates the heart rate, the pressure follows each beat.
    """
    T, step = len(time_ms), _step(time_ms)
    seconds = (time_ms - time_ms[0]) / SECOND
    pace = (1 + 0.06 * wander(rng, T, step, 8 * SECOND)) / rng.uniform(3.2, 5.0)
    phase = 2 * np.pi * (np.cumsum(pace) * step / SECOND + rng.random())
    depth = 1 + 0.1 * wander(rng, T, step, 15 * SECOND)
    respiration = depth * (np.sin(phase) + 0.15 * np.sin(2 * phase)) + 0.02 * rng.standard_normal(T)
    beats = _beats(seconds, phase, rng)
    ecg = _per_beat(seconds, beats, _ecg_bumps(step, rng)) * (1 + 0.04 * np.sin(phase))
    ecg += 0.04 * np.sin(phase - 0.5) + 0.03 * wander(rng, T, step, 4 * SECOND)
    ecg += 0.012 * rng.standard_normal(T)
    pulse = _per_beat(seconds, beats, [(0.26, 1.0, 0.075), (0.40, 0.55, 0.09), (0.58, 0.25, 0.13)])
    level = rng.uniform(68, 82) + 1.5 * np.sin(phase + 1) + 2.0 * wander(rng, T, step, 20 * SECOND)
    pressure = level + rng.uniform(36, 48) * pulse + 0.4 * rng.standard_normal(T)
    spo2 = rng.uniform(96, 98) + 0.4 * wander(rng, T, step, 40 * SECOND) + 0.08 * rng.standard_normal(T)
    return np.column_stack([ecg, respiration, pressure, spo2])


def wander(rng: np.random.Generator, rows: int, step_ms: float, memory_ms: float) -> Floats:
    """AR(1) noise of mean 0 and variance 1, (rows,), whose correlation falls to 1/e in `memory_ms`."""
    keep = float(np.exp(-step_ms / memory_ms))
    noise = rng.standard_normal(rows)
    noise[1:] *= np.sqrt(1 - keep**2)
    return np.fromiter(accumulate(noise.tolist(), lambda past, new: keep * past + new), np.float64, rows)


def lag(values: Floats, step_ms: float, memory_ms: float) -> Floats:
    """What a first-order system with the time constant `memory_ms` makes of its input, (T,)."""
    keep = float(np.exp(-step_ms / memory_ms))
    follow = accumulate(values.tolist(), lambda past, new: keep * past + (1 - keep) * new)
    return np.fromiter(follow, np.float64, len(values))


def _step(time_ms: Ints) -> float:
    """The interval in milliseconds; any will do for a single row."""
    return float(time_ms[1] - time_ms[0]) if len(time_ms) > 1 else SECOND


def _hour(time_ms: Ints) -> Floats:
    """The hour of the day in UTC, 0 <= h < 24."""
    return time_ms % int(DAY) / HOUR


def _weekend(time_ms: Ints) -> Floats:
    """1 on Saturday and Sunday, else 0; 1970-01-01 was a Thursday."""
    return ((time_ms // int(DAY) + 3) % 7 >= 5).astype(np.float64)


def _load(time_ms: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A machine's load (0..1.2) by shifts, operating modes and its own duty cycle, and that cycle (-1..1)."""
    T, step = len(time_ms), _step(time_ms)
    hour = _hour(time_ms)
    shift = 0.5 * (np.tanh(hour - 6) - np.tanh(hour - 22)) * (1 - rng.uniform(0.2, 0.5) * _weekend(time_ms))
    modes = rng.choice([0.7, 0.85, 1.0], size=int(T * step / (12 * HOUR)) + 1)
    ends = np.cumsum(12 * HOUR + rng.exponential(24 * HOUR, len(modes)))
    mode = modes[np.minimum(np.searchsorted(ends, time_ms - time_ms[0]), len(modes) - 1)]
    periods = rng.uniform(2, 4) * HOUR * (1 + 0.05 * wander(rng, T, step, 12 * HOUR))
    duty = np.tanh(2 * np.sin(2 * np.pi * (np.cumsum(step / periods) + rng.random())))
    load = lag(mode, step, 20 * MINUTE) * (rng.uniform(0.4, 0.5) + rng.uniform(0.2, 0.35) * shift)
    load += 0.08 * duty + 0.025 * wander(rng, T, step, 30 * MINUTE)
    return np.clip(load, 0.05, 1.2), duty


def _opening_hours(time_ms: Ints, rng: np.random.Generator) -> Floats:
    """The rhythm of an account's business, about 0.01 at night and 1 at its peak; weekends are its own."""
    hour = _hour(time_ms)
    noon, evening = rng.uniform(11, 13.5), rng.uniform(17, 19.5)
    day = np.exp(-(((hour - noon) / 2.8) ** 2)) + rng.uniform(0.5, 1.0) * np.exp(-(((hour - evening) / 2.2) ** 2))
    weekend = rng.choice([0.35, 0.6, 1.5])
    return (0.01 + day) * np.where(_weekend(time_ms) > 0, weekend, 1.0)


def _bursts(time_ms: Ints, rng: np.random.Generator) -> Floats:
    """Normal rushes of half an hour or so, about one a day: a factor >= 1 on the rate."""
    T, step = len(time_ms), _step(time_ms)
    begins = rng.random(T) < step / DAY
    size = np.where(begins, rng.uniform(0.4, 1.2, T), 0.0)
    keep = float(np.exp(-step / (25 * MINUTE)))
    return 1 + np.fromiter(accumulate(size.tolist(), lambda past, new: keep * past + new), np.float64, T)


def _beats(seconds: Floats, breath: Floats, rng: np.random.Generator) -> Floats:
    """Times of the R peaks in seconds, from before the first reading to past the last one."""
    mean = rng.uniform(0.75, 1.0)
    count = int(seconds[-1] / (0.6 * mean)) + 8
    rough = np.arange(count) * mean
    swing = 0.035 * np.sin(np.interp(rough, seconds, breath))
    slow = 0.025 * wander(rng, count, 1.0, 8.0) + 0.006 * rng.standard_normal(count)
    intervals: Floats = mean * np.maximum(1 + swing + slow, 0.6)
    return np.cumsum(intervals) - 3 * mean + rng.random() * mean


def _ecg_bumps(step_ms: float, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """The P, Q, R, S and T waves as (seconds after the R peak, mV, width in seconds)."""
    # A monitor's low-pass filter: narrower waves than the sampling would flicker from beat to beat.
    narrow = max(0.012, 0.7 * step_ms / SECOND)
    tall = rng.uniform(0.9, 1.3)
    return [
        (-0.17, rng.uniform(0.10, 0.18), max(0.025, narrow)),
        (-0.035 - narrow / 2, -0.12 * tall, narrow),
        (0.0, tall, narrow),
        (0.035 + narrow / 2, -0.22 * tall, narrow),
        (0.27, rng.uniform(0.22, 0.35), 0.05),
    ]


def _per_beat(seconds: Floats, beats: Floats, bumps: list[tuple[float, float, float]]) -> Floats:
    """The sum over beats of Gaussian bumps `(offset, height, width)`, (T,); the three nearest beats count."""
    nearest = np.clip(np.searchsorted(beats, seconds), 2, len(beats) - 1)
    total = np.zeros(len(seconds))
    for shift in (-2, -1, 0):
        since = seconds - beats[nearest + shift]
        for offset, height, width in bumps:
            total += height * np.exp(-0.5 * ((since - offset) / width) ** 2)
    return total
