"""The false-alarm budget and spans of time, in the words that their owner uses."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
WORDS = {"minute": "m", "hour": "h", "day": "d", "week": "w"}
BUDGET = re.compile(r"(\d+(?:\.\d+)?|one|two) per (?:(\d+(?:\.\d+)?) ?)?(ms|s|m|h|d|w|minute|hour|day|week|reading)s?")
DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d|w|minute|hour|day|week)s?")
SENSITIVITIES = {"low": "1 per 30d", "normal": "1 per 7d", "high": "1 per 1d"}
"""The budgets that one word stands for: the more sensitive, the more false alerts are accepted."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many false alerts of one sensor its owner accepts: `alerts` in `period_ms`, or in `readings`.

    Exactly one of `period_ms` and `readings` is set. `text` is what the user wrote.
    """

    alerts: float
    period_ms: float | None
    readings: float | None
    text: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `1 per 7d`, `2 per 12h`, `one per week` or `1 per 5000 readings`; raises ValueError."""
        found = BUDGET.fullmatch(" ".join(text.lower().split()))
        alerts = {"one": 1.0, "two": 2.0}.get(found[1]) or float(found[1]) if found else 0.0
        amount = float(found[2] or 1) if found else 0.0
        if not found or alerts <= 0 or amount <= 0:
            raise ValueError(
                f"the budget {text!r} cannot be read: write it like '1 per 7d' (ms, s, m, h, d, w) or "
                f"'1 per 5000 readings'"
            )
        if found[3] == "reading":
            return cls(alerts, None, amount, text.strip())
        return cls(alerts, amount * UNITS_MS[WORDS.get(found[3], found[3])], None, text.strip())


def parse_duration(text: str) -> int:
    """Milliseconds of a span like `5m`, `90 s` or `1 hour`; raises ValueError."""
    found = DURATION.fullmatch(" ".join(text.lower().split()))
    if not found:
        raise ValueError(f"the span {text!r} cannot be read: write it like '5m' (ms, s, m, h, d, w)")
    return round(float(found[1]) * UNITS_MS[WORDS.get(found[2], found[2])])
