"""A bounded sample of readings for training, whatever is put in.

Which sensors are kept depends on a hash of their ids: the same ones every time, so that refreshed weights know the
sensors that the former knew. Every sensor gets the same share of the readings, its latest ones; what a sensor does not
need is left to the others. Knows one set of channels, and not where readings come from.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence

import numpy as np

from stream_detector.records import Floats, Ints, Readings
from stream_detector.training import sample
from stream_detector.training.sample import History

SLACK = 2
"""So many times the readings that are to be kept are held at most, besides the latest batch."""


class Reservoir:
    """Readings of at most `sensors` sensors, at most `readings` in all.

    least: a share of fewer readings is of no use; rather than that, fewer sensors are kept. crowded_out: there were
    more sensors than are kept.
    """

    def __init__(self, channels: tuple[str, ...], sensors: int, readings: int, least: int = 1) -> None:
        self.channels = channels
        self._least = least
        self.crowded_out = False
        self._most_sensors, self._most_readings = sensors, readings
        self._code_of: dict[str, int] = {}
        self._ids: list[str] = []
        self._worst: list[tuple[int, str]] = []  # a heap of kept sensors, the one to go first in front
        self._parts: list[Readings] = []
        self._held = 0

    def add(self, sensor_ids: Sequence[str], readings: Readings) -> None:
        """Take readings in, in arrival order; their sensors count in `sensor_ids`."""
        codes = np.array([self._code(sensor_id) for sensor_id in sensor_ids], np.int64)
        kept = readings[codes[readings.sensor] >= 0]
        if len(kept):
            self._parts.append(Readings(codes[kept.sensor], kept.time_ms, kept.values))
            self._held += len(kept)
        if self._held > SLACK * self._most_readings:
            self._shrink()

    def history(self) -> History:
        """What is kept, in time order."""
        self._shrink()
        whole = self._parts[0] if self._parts else _nothing(len(self.channels))
        order = np.argsort(whole.time_ms, kind="stable")
        used, sensor = np.unique(whole.sensor[order], return_inverse=True)
        ids = [self._ids[code] for code in used.tolist()]
        return History(Readings(sensor, whole.time_ms[order], whole.values[order]), ids, self.channels)

    def _code(self, sensor_id: str) -> int:
        """The number of a kept sensor; -1 for one that is not."""
        code = self._code_of.get(sensor_id)
        if code is not None:
            return code
        entry = (-rank(sensor_id), sensor_id)
        if len(self._worst) >= self._most_sensors:
            self.crowded_out = True
            if entry < self._worst[0]:
                return -1
            _, gone = heapq.heappushpop(self._worst, entry)
            self._code_of.pop(gone)
        else:
            heapq.heappush(self._worst, entry)
        self._code_of[sensor_id] = len(self._ids)
        self._ids.append(sensor_id)
        return len(self._ids) - 1

    def _shrink(self) -> None:
        """Forget sensors that were crowded out, and of each other one what is beyond its share."""
        if not self._parts:
            return
        sensor, time_ms = (np.concatenate([getattr(p, name) for p in self._parts]) for name in ("sensor", "time_ms"))
        whole = Readings(sensor, time_ms, np.concatenate([p.values for p in self._parts]))
        self._crowd_out(np.bincount(whole.sensor, minlength=len(self._ids)))
        # Numbers are given anew, so that those of the sensors that are gone take no room.
        kept = sorted(self._code_of.items(), key=lambda one: one[1])
        number = np.full(len(self._ids), -1, np.int64)
        number[[code for _, code in kept]] = np.arange(len(kept))
        self._ids = [sensor_id for sensor_id, _ in kept]
        self._code_of = {sensor_id: i for i, sensor_id in enumerate(self._ids)}
        mine = number[whole.sensor] >= 0
        whole = Readings(number[whole.sensor[mine]], whole.time_ms[mine], whole.values[mine])
        whole = sample.tail(whole, share(np.bincount(whole.sensor), self._most_readings)) if len(whole) else whole
        self._parts, self._held = [whole], len(whole)

    def _crowd_out(self, counts: Ints) -> None:
        """Keep fewer sensors where each one's share would be too small. counts: readings held by number."""
        kept = counts[list(self._code_of.values())]
        if int(kept.sum()) <= self._most_readings or share(kept, self._most_readings) >= self._least:
            return
        self._most_sensors = max(1, self._most_readings // self._least)
        while len(self._worst) > self._most_sensors:
            self._code_of.pop(heapq.heappop(self._worst)[1])
            self.crowded_out = True


def rank(sensor_id: str) -> int:
    """A number that has nothing to do with what the sensor is; the sensors with the smallest are kept."""
    return int.from_bytes(hashlib.blake2b(sensor_id.encode(), digest_size=8).digest(), "big")


def share(counts: Ints, most: int) -> int:
    """The largest share for each such that all together take at most `most`; at least 1. counts: (S,) what is there."""
    if int(counts.sum()) <= most:
        return max(int(counts.max(initial=1)), 1)
    ranked = np.sort(counts)
    taken = np.cumsum(ranked) - ranked
    each = (most - taken) // np.arange(len(ranked), 0, -1)
    return max(int(each[np.argmax(each < ranked)]), 1)


def _nothing(channels: int) -> Readings:
    none = np.zeros(0, np.int64)
    values: Floats = np.zeros((0, channels))
    return Readings(none, none, values)
