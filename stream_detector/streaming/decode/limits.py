"""What the decoder is given and gives back, and why a message may be unusable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_detector.records import Floats, Ints

NAME_CHARS = 512
"""The longest name of a sensor or a channel, in characters."""
CONTROL = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one message may hold: `message_bytes`, `channels` of one sensor, and `readings`."""

    message_bytes: int = 1_048_576
    channels: int = 64
    readings: int = 100_000


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of sensors with the same channels, in arrival order; N readings, C channels.

    sensor_ids: the sensors among them, each once.
    sensor: (N,) index into `sensor_ids`.
    time_ms: (N,) milliseconds since 1970-01-01 UTC.
    values: (N, C) NaN is a missing value; never infinite.
    message: (N,) index of the message that held the reading.
    rank: (N,) its place among the readings of its message; None where all of a message are here, in their order.
    """

    channels: tuple[str, ...]
    sensor_ids: list[str]
    sensor: Ints
    time_ms: Ints
    values: Floats
    message: Ints
    rank: Ints | None = None

    def __len__(self) -> int:
        return len(self.sensor)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that cannot be used, by its index, and why: one sentence behind a short stable word."""

    message: int
    reason: str

    @property
    def slug(self) -> str:
        """The stable word: `invalid-json`, `bad-time`, ..."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One entry of columns for each distinct tuple of channels; rejected messages in their order."""

    columns: list[Columns]
    rejected: list[Rejected]


class UnusableError(Exception):
    """Why a message cannot be used; it never leaves the decoder."""


def ranks(message: Ints) -> Ints:
    """The place of each reading (N,) among those of its message, where these follow each other."""
    first = np.flatnonzero(np.diff(message, prepend=-1))
    return np.arange(len(message)) - np.repeat(first, np.diff(np.append(first, len(message))))


def check_name(name: str, slug: str, what: str) -> None:
    """Refuse a sensor's or a channel's name that is empty, too long or not plain text; raises UnusableError."""
    if not name.strip():
        raise UnusableError(f"{slug}: {what} is empty")
    if len(name) > NAME_CHARS:
        raise UnusableError(f"{slug}: {what} has {len(name):,} characters, more than {NAME_CHARS}")
    if not CONTROL.isdisjoint(name):
        raise UnusableError(f"{slug}: {what} {name[:40]!r} holds control characters")
