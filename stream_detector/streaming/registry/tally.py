"""What workers have counted of a shadow: its would-be alerts and the champion's, on the very same windows."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one process, or of several together.

    windows: scored by both. readings: scored steps of them. challenger, champion: anomalies that each opened in them.
    allowed: those that the budget grants for these readings. span_ms: event time that the sensors went through, added
    up. sensors: how many they are. fault: why the challenger cannot be run there, if it cannot.
    """

    trial: int
    windows: int = 0
    readings: int = 0
    challenger: int = 0
    champion: int = 0
    allowed: float = 0.0
    span_ms: int = 0
    sensors: int = 0
    fault: str | None = None

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            trial=self.trial,
            windows=self.windows + other.windows,
            readings=self.readings + other.readings,
            challenger=self.challenger + other.challenger,
            champion=self.champion + other.champion,
            allowed=self.allowed + other.allowed,
            span_ms=self.span_ms + other.span_ms,
            sensors=self.sensors + other.sensors,
            fault=self.fault or other.fault,
        )


def total(trial: int, tallies: Mapping[str, Tally]) -> Tally:
    """All of a trial together, by name `SLOT:PROCESS`; what was counted in another trial is left out.

    Processes of one slot came one after another, and had the same sensors.
    """
    found, sensors = Tally(trial=trial), dict[str, int]()
    for name, one in tallies.items():
        if one.trial == trial:
            slot = name.rpartition(":")[0]
            sensors[slot] = max(one.sensors, sensors.get(slot, 0))
            found = found.plus(one)
    return msgspec.structs.replace(found, sensors=sum(sensors.values()))
