"""Which alerts somebody asks for: by sensor, severity, kind and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import get_args

from stream_detector.errors import ConfigError
from stream_detector.records import SEVERITIES, Alert, Kind

KINDS: tuple[str, ...] = get_args(Kind)
LEVELS: tuple[str, ...] = SEVERITIES


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which alerts are asked for; raises ConfigError for a level or a kind that there is not.

    sensor: pattern of a sensor, a group or a member. severity: at least so severe. labels: pattern of the value, by
    name; a label that is not there matches nothing.
    """

    sensor: str | None = None
    severity: str | None = None
    kind: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.severity is not None and self.severity not in SEVERITIES:
            raise ConfigError(f"there is no severity {self.severity!r}: choose one of {', '.join(SEVERITIES)}")
        if self.kind is not None and self.kind not in KINDS:
            raise ConfigError(f"there is no kind of alert {self.kind!r}: choose one of {', '.join(KINDS)}")

    def has(self, alert: Alert) -> bool:
        """Whether an alert is asked for; of a group, the pattern may name the group or any member."""
        if self.kind is not None and alert.kind != self.kind:
            return False
        if self.severity is not None and LEVELS.index(alert.severity) < LEVELS.index(self.severity):
            return False
        if any(
            name not in alert.labels or not fnmatchcase(alert.labels[name], pattern)
            for name, pattern in self.labels.items()
        ):
            return False
        pattern, names = self.sensor, (alert.sensor_id, alert.group or alert.sensor_id, *alert.members)
        return pattern is None or any(fnmatchcase(name, pattern) for name in names)


def labels_of(words: Sequence[str]) -> dict[str, str]:
    """Patterns by label from words like `line=3*`; raises ConfigError for another form."""
    found = {}
    for word in words:
        name, equals, pattern = word.partition("=")
        if not name or not equals:
            raise ConfigError(f"the label {word!r} is to be written like line=3, with * for any text")
        found[name] = pattern
    return found
