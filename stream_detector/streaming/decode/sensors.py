"""The sensors that a decoder has met: their numbers, and their channels.

A number (code) is given to each sensor id as it is met, so that everything behind is arithmetic on numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Sequence
from itertools import repeat

import numpy as np

from stream_detector.records import Ints
from stream_detector.streaming.decode.limits import check_name

ChannelsOf = Callable[[str, tuple[str, ...]], tuple[str, ...]]
REMEMBERED = 2_000_000
"""Sensors that are remembered at most: ids that are made up must not fill the memory."""


class Sensors:
    """Numbers sensors. A sensor's channels are asked for once, and remembered by the index of their tuple."""

    def __init__(self, channels_of: ChannelsOf) -> None:
        self._channels_of = channels_of
        self.forget(None)

    def forget(self, sensor_ids: Collection[str] | None) -> None:
        """Ask anew for the channels of these sensors, or of all, when they are met again."""
        if sensor_ids is None:
            self._codes: dict[str, int] = {}
            self.ids: list[str] = []
            self._profile = array("q")
            self.profiles: list[tuple[str, ...]] = []
            self._profile_of: dict[tuple[str, ...], int] = {}
            return
        gone = set(sensor_ids)
        self._codes = {text: code for text, code in self._codes.items() if self.ids[code] not in gone}

    def forget_if_too_many(self) -> None:
        """Begin anew when more are remembered than fit; to be called when no code is in use."""
        if len(self.ids) > REMEMBERED:
            self.forget(None)

    def codes(self, texts: Sequence[str]) -> Ints:
        """The number of each sensor, (N,); -1 for one that was not met."""
        try:
            return np.fromiter(map(self._codes.__getitem__, texts), np.int64, len(texts))  # quicker than `get`
        except KeyError:
            return np.fromiter(map(self._codes.get, texts, repeat(-1)), np.int64, len(texts))

    def profile(self, codes: Ints) -> Ints:
        """Index into `profiles` of each sensor, (N,)."""
        profile: Ints = np.frombuffer(self._profile, np.int64)[codes]
        return profile

    def meet(self, text: str, offered: tuple[str, ...]) -> bool:
        """Number a sensor; False where it is known. Raises UnusableError, or what `channels_of` raises."""
        if text in self._codes:
            return False
        check_name(text, "bad-sensor-id", "the sensor_id")
        sensor_id = text.strip()
        code = self._codes.get(sensor_id)
        if code is None:
            channels = self._channels_of(sensor_id, offered)
            profile = self._profile_of.setdefault(channels, len(self.profiles))
            if profile == len(self.profiles):
                self.profiles.append(channels)
            code = self._codes[sensor_id] = len(self.ids)
            self.ids.append(sensor_id)
            self._profile.append(profile)
        self._codes[text] = code
        return True

    def unmeet(self, texts: Sequence[str]) -> None:
        """Take it back that these were met."""
        for text in texts:
            for one in (text, text.strip()):
                self._codes.pop(one, None)
