"""Sensors that somebody looks at now: their readings and scores, fetched and followed in a thread each.

A sensor is followed for as long as a page asks for it. Knows nothing of pages.
"""

from __future__ import annotations

import threading
import time

from stream_detector.errors import StreamDetectorError
from stream_detector.settings import Settings
from stream_detector.streaming.registry import open_registry
from stream_detector.streaming.sensor_history import MESSAGES, Columns, SensorHistory
from stream_detector.streaming.topic_reader import TopicReader

MOST = 8
"""Sensors that are followed at once."""
UNASKED_S = 30.0
EVERY_S = 1.0
STATE_EVERY_S = 3.0
AFTER_FAILURE_S = 2.0


class Viewed:
    """One sensor. number: rises with everything new. problem: why there is nothing, or nothing new."""

    def __init__(self, settings: Settings, sensor_id: str, messages: int) -> None:
        self.sensor_id, self.messages = sensor_id, messages
        self.number, self.loading, self.problem = 0, True, ""
        self.columns: Columns | None = None
        self.threshold: tuple[float, bool] | None = None
        self.model = self.why_no_scores = self.store_away = ""
        self.skipped = 0
        self._settings = settings
        self.asked_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensor", daemon=True)
        self._thread.start()

    @property
    def going(self) -> bool:
        """Whether it is still followed."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Follow it no longer."""
        self._stop.set()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s) and self._wanted():
            try:
                self._follow()
            except StreamDetectorError as error:
                self.problem, self.loading, pause_s = str(error), False, AFTER_FAILURE_S
                self.number += 1

    def _follow(self) -> None:
        """Fetch it, and go on until nobody asks any more."""
        history = SensorHistory(self._settings, self.sensor_id, self.messages)
        history.fetch()
        self._show(history, "they are being computed")  # the readings can be seen meanwhile
        with open_registry(self._settings) as registry:
            history.score(registry)
        self.threshold = history.threshold()
        self._show(history)
        state_s = time.monotonic()
        with TopicReader(self._settings.kafka) as reader:
            while not self._stop.wait(EVERY_S) and self._wanted():
                if history.partition is None:
                    return  # it may have begun to send by now
                new = history.advance(reader)
                if new or time.monotonic() - state_s > STATE_EVERY_S:
                    before, state_s = self.threshold, time.monotonic()
                    self.threshold = history.threshold()
                    new = new or self.threshold != before
                if new or self.problem or history.store_away != self.store_away:
                    self._show(history)

    def _show(self, history: SensorHistory, why_no_scores: str = "") -> None:
        self.columns = history.columns
        self.model, self.skipped = history.model, history.skipped
        self.why_no_scores, self.store_away = history.why_no_scores or why_no_scores, history.store_away
        self.problem, self.loading = "", False
        self.number += 1

    def _wanted(self) -> bool:
        return time.monotonic() - self.asked_s < UNASKED_S


class Histories:
    """All sensors that are looked at."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._viewed: dict[tuple[str, int], Viewed] = {}

    def of(self, sensor_id: str, messages: int = MESSAGES) -> Viewed | None:
        """The sensor, followed from now on; None while too many others are. To be asked again and again."""
        self._viewed = {key: one for key, one in self._viewed.items() if one.going}
        found = self._viewed.get((sensor_id, messages))
        if found is None:
            if len(self._viewed) >= MOST:
                return None
            found = self._viewed[sensor_id, messages] = Viewed(self._settings, sensor_id, messages)
        found.asked_s = time.monotonic()
        return found

    def stop(self) -> None:
        """Follow none any longer."""
        for one in self._viewed.values():
            one.end()
