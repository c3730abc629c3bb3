"""Weights on trial: a real detector over recent readings, as they came and with faults planted in copies of them.

The detector first takes in a lead, so that its thresholds stand where production would have them; weights that are to
follow others take over in the middle of it, when sensors that nobody knew are warm, by the same swap that a worker
makes, so that what a swap costs for a while is not held against them. The lead is the first half of the late readings,
and earlier ones only where that is too short: what weights were trained on may be what is wrong with them. Every trial
on the same readings plants the same faults. A fault is found when an incident opens in it and none opens there without
it, so that alarms everywhere find nothing. Knows nothing of who wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_detector.detect.changes import Change
from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.detect.quality import Batch, QualityRules
from stream_detector.detect.state import State
from stream_detector.detect.thresholds.calibration import WARM_UP
from stream_detector.models.artifact import Artifact
from stream_detector.records import Floats, Ints, Readings
from stream_detector.settings import Overrides
from stream_detector.simulate import INJECTORS, draw_length, draw_magnitude
from stream_detector.training import sample
from stream_detector.training.sample import History

FAULTS = 96
"""Faults that are planted."""
KINDS = ("spike", "level_shift", "drift", "frequency_change", "correlation_break")
"""Those that a score must find; what is stuck or missing is found without one."""
LEAD_WINDOWS = 3
JUDGED_SHARE = 0.5
"""Of the late readings, the last; the others are the lead."""
LEAST_ROOM = 32
"""Judged readings that a sensor must have to be given a fault."""
MOST_JUDGED = 20_000
"""Readings judged as they came, over as many sensors as fit in."""
ALARMS = ("anomaly", "regime_change")
ONLY_SCORES = QualityRules(silent_after=0, stuck_after=0)


@dataclass(frozen=True, slots=True)
class Ground:
    """What a trial runs over: each sensor's lead, then the readings that are judged; both in time order."""

    lead: Readings
    judged: Readings
    sensor_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault in a copy of one sensor's judged readings, which ends with it. time_ms: (T,). values: (T, C)."""

    kind: str
    sensor: int
    time_ms: Ints
    values: Floats
    start_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Incidents in the readings as they came, also those open from the start, and which planted faults opened one."""

    alarms: int
    found: tuple[bool, ...]


def ground(early: History, late: Readings, window: int) -> Ground:
    """The lead and the judged readings of as many sensors as fit in."""
    settling, judged = sample.split(late, 1 - JUDGED_SHARE)
    counts = np.bincount(judged.sensor, minlength=len(early.sensor_ids))
    chosen = (counts > 0) & (np.cumsum(counts) - counts < MOST_JUDGED)
    before = early.readings
    lead = Readings(
        np.concatenate([before.sensor, settling.sensor]),
        np.concatenate([before.time_ms, settling.time_ms]),
        np.concatenate([before.values, settling.values]),
    )
    lead = sample.tail(lead, max(LEAD_WINDOWS * window, 2 * (WARM_UP + window)))
    return Ground(lead[chosen[lead.sensor]], judged[chosen[judged.sensor]], early.sensor_ids)


def plant(over: Ground, count: int = FAULTS, seed: int = 0) -> list[Planted]:
    """Faults of all kinds in turn; none where no sensor has room for one."""
    chance = np.random.default_rng(seed)
    lead, judged = (_by_sensor(part, len(over.sensor_ids)) for part in (over.lead, over.judged))
    roomy = [i for i, rows in enumerate(judged) if len(rows) >= LEAST_ROOM]
    kinds = KINDS if over.judged.values.shape[1] > 1 else KINDS[:-1]
    planted: list[Planted] = []
    for number in range(count if roomy else 0):
        sensor, kind = int(chance.choice(roomy)), kinds[number % len(kinds)]
        rows, before = judged[sensor], len(lead[sensor])
        length = min(draw_length(kind, chance), len(rows) // 2)
        start = int(chance.integers(len(rows) - length))
        values = np.concatenate([over.lead.values[lead[sensor]], over.judged.values[rows]])
        channel = int(chance.integers(values.shape[1]))
        magnitude = draw_magnitude(kind, chance)
        faulty = INJECTORS[kind](values, before + start, length, [channel], magnitude, chance)[before:]
        time_ms = over.judged.time_ms[rows]
        end = start + length
        planted.append(Planted(kind, sensor, time_ms[:end], faulty[:end], int(time_ms[start])))
    return planted


class Trial:
    """A detector that has taken in the lead."""

    def __init__(
        self, artifact: Artifact, options: DetectorOptions, over: Ground, pulse: Callable[[], None] = lambda: None
    ) -> None:
        self._over = over
        alone = replace(options, quality=ONLY_SCORES, overrides=Overrides())
        self._detector = Detector(artifact, alone, pulse)
        self._rows = self._detector.sensors(over.sensor_ids)
        before, self._settling = sample.split(over.lead, 0.5)
        self._middle = self._after(before)
        self._start = self._after(self._settling)

    def succeed(self, artifact: Artifact) -> None:
        """Go back to the middle of the lead and let other weights take over there; raises ArtifactError."""
        self._detector.table.state[self._rows] = self._middle
        self._detector.swap(artifact)
        self._start = self._after(self._settling)

    def _after(self, readings: Readings) -> State:
        """The sensors' rows when these readings were taken in."""
        for _ in self._feed(readings):
            pass
        return self._detector.table.state_of(self._rows)

    def run(self, faults: Sequence[Planted]) -> Outcome:
        """Judge the readings as they came, and each copy with a fault in it."""
        self._detector.table.state[self._rows] = self._start
        alarms = [change for change in self._feed(self._over.judged) if _opened(change)]
        times: dict[int, list[int]] = {}
        for change in alarms:
            times.setdefault(change.sensor, []).append(change.start_ms)
        found = self._found(faults)
        for i, one in enumerate(faults):
            own = times.get(int(self._rows[one.sensor]), ())
            found[i] &= not any(one.start_ms <= moment <= one.time_ms[-1] for moment in own)
        already_open = int(np.count_nonzero(self._start["in_open"]))
        return Outcome(already_open + len(alarms), tuple(found))

    def _found(self, faults: Sequence[Planted]) -> list[bool]:
        """Every copy is a sensor of its own, in a partition of its own, and begins where the lead has ended."""
        if not faults:
            return []
        table, names = self._detector.table, self._over.sensor_ids
        rows = np.array(
            [self._detector.sensors([names[one.sensor]], 1 + i)[0] for i, one in enumerate(faults)], np.int64
        )
        table.state[rows] = self._start[[one.sensor for one in faults]]
        readings = Readings(
            np.repeat(rows, [len(one.time_ms) for one in faults]),
            np.concatenate([one.time_ms for one in faults]),
            np.concatenate([one.values for one in faults]),
        )
        begins = {int(row): one.start_ms for row, one in zip(rows, faults, strict=True)}
        found = {
            change.sensor
            for change in self._feed(readings)
            if _opened(change) and change.start_ms >= begins[change.sensor]
        }
        return [int(row) in found for row in rows]

    def _feed(self, readings: Readings) -> Iterator[Change]:
        detector = self._detector
        for start in range(0, len(readings), sample.BATCH):
            part = readings[start : start + sample.BATCH]
            passage = detector.watermarks.advance(detector.table.partition[part.sensor], part.time_ms)
            yield from detector.judge(Batch(part, np.arange(len(part)), passage))


def _opened(change: Change) -> bool:
    return change.event == "opened" and change.kind in ALARMS


def _by_sensor(readings: Readings, sensors: int) -> list[Ints]:
    """Which readings are each sensor's, in order."""
    order = np.argsort(readings.sensor, kind="stable")
    return np.split(order, np.cumsum(np.bincount(readings.sensor, minlength=sensors))[:-1])
