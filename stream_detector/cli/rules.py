"""The rules by which alerts come that rest on no score, with the numbers of the one at hand.

Knows the settings of today, which may be others than those of then.
"""

from __future__ import annotations

import numpy as np

from stream_detector.records import format_duration, parse_time
from stream_detector.settings import Settings, parse_duration
from stream_detector.streaming.retained import Kept
from stream_detector.streaming.retrace import Retraced


def rule(settings: Settings, found: Retraced) -> str:
    """By which rule an alert came that rests on no score, and its numbers; empty for the others."""
    first, kept, quality = found.first, found.kept, settings.quality
    start, end = parse_time(first.starts_at), parse_time(first.window.end)
    channel = first.channels[0] if first.channels else None
    if first.kind == "state_gap":
        return "the state of the partition was not in Redis when a worker took it over; no reading tells why"
    if first.kind == "sensor_silent":
        usual, away = _intervals(kept, start)
        return (
            f"no reading for quality.silent_after = {quality.silent_after:g} usual intervals, nor for 3 times its "
            f"longest absence; the usual interval is {usual}, the next reading came {away}"
        )
    if first.kind in ("value_stuck", "value_missing"):
        times = 0 if kept is None else int(((kept.time_ms >= start) & (kept.time_ms <= end)).sum())
        least = quality.stuck_after if first.kind == "value_stuck" else -(-quality.stuck_after // 2)
        name = channel.name if channel else "a channel"
        return (
            f"{name} was the same in {times:,} retained readings from {first.starts_at} to {first.window.end}; it "
            f"takes {least} (quality.stuck_after) and several times its longest run before"
        )
    if first.kind == "clock_skewed":
        aside = np.zeros((0, 2), np.int64) if kept is None else kept.aside
        most = format_duration(int((aside[:, 0] - aside[:, 1]).max())) if len(aside) else "none"
        return (
            f"readings dated more than quality.clock_ahead = {format_duration(parse_duration(quality.clock_ahead))} "
            f"after they arrived; {len(aside):,} of them are retained, the worst is ahead by {most}"
        )
    return ""


def _intervals(kept: Kept | None, last_ms: int) -> tuple[str, str]:
    """A sensor's usual interval before a reading, and when the next one came, in words."""
    if kept is None:
        return "not known", "at an unknown time"
    time_ms = np.sort(kept.time_ms)
    before, behind = time_ms[time_ms <= last_ms], time_ms[time_ms > last_ms]
    usual = format_duration(int(np.median(np.diff(before)))) if len(before) > 1 else "not known"
    return usual, f"after {format_duration(int(behind[0]) - last_ms)}" if len(behind) else "not yet"
