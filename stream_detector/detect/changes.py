"""What there is to tell of a sensor: one change of one incident, before it is put in words."""

from __future__ import annotations

from dataclasses import dataclass

from stream_detector.records import CloseReason, Event, Kind


@dataclass(frozen=True, slots=True)
class Change:
    """An incident opened, got worse, or closed.

    position: index, in the batch, of the reading at which it came out. sensor: row in the table. at: due window
    and step whose score comes with it, if one does. window_ms: the readings it rests on, first and last.
    channel: index of the channel that is stuck. value: what it is stuck at, or by how many ms a clock is ahead.
    leader, members: ids of the sensor that opened the group's incident and of all that take part in it.
    """

    position: int
    sensor: int
    kind: Kind
    event: Event
    close_reason: CloseReason | None
    seq: int
    start_ms: int
    end_ms: int | None
    severity: int
    window_ms: tuple[int, int]
    peak: float | None = None
    at: tuple[int, int] | None = None
    channel: int | None = None
    value: float | None = None
    leader: str | None = None
    members: tuple[str, ...] = ()
