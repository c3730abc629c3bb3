"""The fleet in numbers, looked at now and then. Knows nothing of pages and threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from stream_detector.settings import Settings
from stream_detector.streaming.overlook import InUse, Overview, overlook, readings_a_message, weights_in_use
from stream_detector.streaming.registry import Registry
from stream_detector.streaming.store import Store
from stream_detector.streaming.topic_reader import TopicReader

RATE_OVER_S = 12.0
SAMPLE_EVERY_S = 20.0
WEIGHTS_EVERY_S = 60.0
HOUR_MS = 3_600_000
COUNTED = 200
"""Dead letters that are counted one by one; of more, only about how many is told."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the fleet does. rate: readings a second, None while it is not known. lag: messages that wait.

    quiet_s, stuck_s: for how long nothing has come in, and for how long nothing was taken in though something waits.
    dead_letters: of the last hour; about: no more than about so many.
    """

    known: bool = False
    sensors: int = 0
    rate: float | None = None
    lag: int = 0
    quiet_s: float = 0.0
    stuck_s: float = 0.0
    dead_letters: int = 0
    about: bool = False
    weights: tuple[InUse, ...] = ()
    watermark_ms: int | None = None
    heard: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


class Numbers:
    """Asks broker and store; one for as long as it is watched."""

    def __init__(self, settings: Settings, registry: Registry, store: Store) -> None:
        self._settings, self._registry, self._store = settings, registry, store
        self._ends: deque[tuple[float, int]] = deque()
        self._moved = self._taken_at = time.monotonic()
        self._taken = -1
        self._sample: tuple[float, float] = (0.0, 1.0)
        self._weights: tuple[float, frozenset[str], tuple[InUse, ...]] = (0.0, frozenset(), ())
        self._dead: tuple[object, int, bool] = (None, 0, False)

    def look(self, reader: TopicReader) -> Fleet:
        """The numbers as they are now; raises TransportError or StoreError."""
        bounds = reader.bounds(self._settings.kafka.readings_topic)
        seen = overlook(self._settings, self._store, bounds)
        now, total, taken = time.monotonic(), sum(end for _, end in bounds.values()), sum(seen.taken.values())
        if not self._ends or total != self._ends[-1][1]:
            self._moved = now
        if taken != self._taken:
            self._taken, self._taken_at = taken, now
        self._ends.append((now, total))
        while len(self._ends) > 2 and now - self._ends[0][0] > RATE_OVER_S:
            self._ends.popleft()
        lag = sum(max(0, end - max(first, seen.taken.get(p, first))) for p, (first, end) in bounds.items())
        dead, about = self._dead_letters(reader)
        return Fleet(
            known=True,
            sensors=seen.sensors,
            rate=self._rate(reader, bounds, now),
            lag=lag,
            quiet_s=now - self._moved,
            stuck_s=now - self._taken_at if lag else 0.0,
            dead_letters=dead,
            about=about,
            weights=self._in_use(seen, now),
            watermark_ms=seen.watermark_ms,
            heard=seen.heard,
        )

    def _rate(self, reader: TopicReader, bounds: Mapping[int, tuple[int, int]], now: float) -> float | None:
        (then, before), (_, total) = self._ends[0], self._ends[-1]
        if now - then < 1:
            return None
        if total > before and now - self._sample[0] > SAMPLE_EVERY_S:
            self._sample = now, readings_a_message(reader, self._settings.kafka.readings_topic, bounds)
        return max(0, total - before) / (now - then) * self._sample[1]

    def _in_use(self, seen: Overview, now: float) -> tuple[InUse, ...]:
        looked, digests, found = self._weights
        if digests != seen.digests or now - looked > WEIGHTS_EVERY_S:
            found = tuple(weights_in_use(self._settings, self._registry, seen))
            self._weights = now, seen.digests, found
        return found

    def _dead_letters(self, reader: TopicReader) -> tuple[int, bool]:
        """Those of the last hour. Offsets count the marks of transactions too, so a few are counted one by one."""
        topic = self._settings.kafka.dead_letters_topic
        if not reader.has(topic):
            return 0, False
        bounds, since = reader.bounds(topic), reader.offsets_at(topic, round(time.time() * 1000) - HOUR_MS)
        ranges = {p: (max(first, since.get(p, end)), end) for p, (first, end) in bounds.items()}
        if self._dead[0] != ranges:
            most = sum(end - begin for begin, end in ranges.values())
            if most > COUNTED:
                self._dead = ranges, most, True
            else:
                self._dead = ranges, sum(len(one.values) for one in reader.between(topic, ranges)), False
        return self._dead[1], self._dead[2]
