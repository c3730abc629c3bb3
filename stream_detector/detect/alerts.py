"""From changes of incidents to alert records, in words and numbers a person can use."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.detect.due import Due
from stream_detector.detect.incidents import Change
from stream_detector.detect.scoring import Scored
from stream_detector.detect.thresholds import Decisions
from stream_detector.records import (
    SEVERITIES,
    Alert,
    Channel,
    Interval,
    ModelInfo,
    Threshold,
    format_duration,
    format_time,
)

NAMESPACE = uuid.UUID("6f0b1c52-6d0e-5a53-9d57-3f1e0d1b6b0a")
SHOWN = 8
"""Channels that an alert names at most, those with the largest part of the score first."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one step of the detector scored and decided."""

    due: Due
    scored: Scored
    decisions: Decisions


@dataclass(frozen=True, slots=True)
class AlertWriter:
    """What all alerts of a profile have in common."""

    source: str
    channels: tuple[str, ...]
    method: str
    budget: str
    model: ModelInfo

    def write(self, changes: Sequence[Change], sensor_ids: Sequence[str], judged: Judged) -> list[Alert]:
        """One record a change. `detected_at` stays empty: only the caller knows a clock."""
        return [self._alert(c, sensor_ids[int(judged.due.sensor[c.window])], judged) for c in changes]

    def _alert(self, change: Change, sensor_id: str, judged: Judged) -> Alert:
        due, scored, decided = judged.due, judged.scored, judged.decisions
        at = (change.window, change.step)
        channels = self._channels(at, scored)
        return Alert(
            alert_id=alert_id(self.source, sensor_id, change.start_ms),
            seq=change.seq,
            kind="anomaly",
            event=change.event,
            status="resolved" if change.event == "closed" else "firing",
            close_reason=change.close_reason,
            severity=SEVERITIES[change.severity],
            sensor_id=sensor_id,
            labels={},
            summary=_summary(sensor_id, change, channels),
            starts_at=format_time(change.start_ms),
            ends_at=None if change.end_ms is None else format_time(change.end_ms),
            window=Interval(
                format_time(int(due.start_ms[change.window])), format_time(int(due.time_ms[change.window, -1]))
            ),
            detected_at=None,
            score=_short(scored.score[at]),
            peak_score=_short(change.peak),
            p_value=_short(decided.p_value[at]),
            threshold=Threshold(
                value=_short(decided.threshold[at]),
                method=self.method,
                scope="sensor" if decided.scope[at] else "fleet",
                budget=self.budget,
            ),
            channels=channels,
            model=self.model,
        )

    def _channels(self, at: tuple[int, int], scored: Scored) -> list[Channel]:
        parts = scored.contribution[at]
        whole = float(np.abs(parts).sum()) or 1.0
        return [
            Channel(
                name=self.channels[c],
                actual=_shown(scored.actual[at][c]),
                expected=_shown(scored.expected[at][c]),
                lower=_shown(scored.lower[at][c]),
                upper=_shown(scored.upper[at][c]),
                contribution=_short(parts[c] / whole),
            )
            for c in np.argsort(-parts, kind="stable")[:SHOWN].tolist()
        ]


def alert_id(source: str, sensor_id: str, start_ms: int) -> str:
    """The incident's id, from event data only: a replay gives the same."""
    return str(uuid.uuid5(NAMESPACE, f"{source}\n{sensor_id}\n{start_ms}"))


def _summary(sensor_id: str, change: Change, channels: Sequence[Channel]) -> str:
    if change.event == "closed":
        lasted = format_duration((change.end_ms or change.start_ms) - change.start_ms)
        how = "is back to normal" if change.close_reason == "recovered" else "stays different: taken as the new normal"
        return f"{sensor_id} {how} after {lasted}"
    worst = channels[0]
    if worst.actual is None:
        return f"{sensor_id}: {worst.name} is missing where {worst.expected:g} was expected"
    return (
        f"{sensor_id}: {worst.name} is {worst.actual:g} where {worst.lower:g} to {worst.upper:g} was expected"
        if worst.lower is not None and worst.upper is not None and not worst.lower <= worst.actual <= worst.upper
        else f"{sensor_id}: {worst.name} at {worst.actual:g} does not behave as expected"
    )


def _short(value: float) -> float:
    """Six significant digits: what is printed is what is compared."""
    return float(f"{float(value):.6g}")


def _shown(value: float) -> float | None:
    return _short(value) if np.isfinite(value) else None
