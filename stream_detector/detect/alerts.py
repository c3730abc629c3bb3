"""From changes of incidents to alert records, in numbers a person can use; `summary` has the words."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.detect import summary
from stream_detector.detect.changes import Change
from stream_detector.detect.due import Due
from stream_detector.detect.scoring import Scored
from stream_detector.detect.thresholds import Decisions
from stream_detector.records import (
    NAMESPACE,
    SEVERITIES,
    Alert,
    Channel,
    Interval,
    ModelInfo,
    Threshold,
    format_time,
)
from stream_detector.settings import Overrides

SHOWN = 8
"""Channels that an alert names at most, those with the largest part of the score first."""


@dataclass(frozen=True, slots=True)
class Evidence:
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
    overrides: Overrides

    def write(self, change: Change, sensor_id: str, evidence: Evidence | None) -> Alert:
        """The record of one change. `detected_at` stays empty: only the caller knows a clock."""
        lead = change.leader or sensor_id
        own = self.overrides.of(lead)
        of_group = own.group if change.leader else None
        channels = self._channels(change, evidence)
        score, p_value, threshold = self._scores(change, evidence)
        return Alert(
            alert_id=alert_id(self.source, lead, change, self.channels, of_group),
            seq=change.seq,
            kind=change.kind,
            event=change.event,
            status="firing" if change.end_ms is None else "resolved",
            close_reason=change.close_reason,
            severity=SEVERITIES[change.severity],
            sensor_id=lead,
            group=of_group,
            members=list(change.members),
            labels=dict(own.labels),
            summary=summary.of(change, sensor_id, channels, of_group),
            starts_at=format_time(change.start_ms),
            ends_at=None if change.end_ms is None else format_time(change.end_ms),
            window=Interval(*(format_time(moment) for moment in change.window_ms)),
            detected_at=None,
            score=score,
            peak_score=None if change.peak is None else short(change.peak),
            p_value=p_value,
            threshold=threshold,
            channels=channels,
            model=self.model if change.kind in ("anomaly", "regime_change") else None,
        )

    def _scores(self, change: Change, evidence: Evidence | None) -> tuple[float | None, float | None, Threshold | None]:
        if change.at is None or evidence is None:
            return None, None, None
        decided = evidence.decisions
        threshold = Threshold(
            value=short(decided.threshold[change.at]),
            method=self.method,
            scope="sensor" if decided.scope[change.at] else "fleet",
            budget=self.budget,
        )
        return short(evidence.scored.score[change.at]), short(decided.p_value[change.at]), threshold

    def _channels(self, change: Change, evidence: Evidence | None) -> list[Channel]:
        if change.channel is not None:
            value = _shown(np.nan if change.value is None else change.value)
            return [Channel(self.channels[change.channel], value, None, None, None, 1.0)]
        if change.at is None or evidence is None:
            return []
        at, scored = change.at, evidence.scored
        parts = scored.contribution[at]
        whole = float(np.abs(parts).sum()) or 1.0
        return [
            Channel(
                name=self.channels[c],
                actual=_shown(scored.actual[at][c]),
                expected=_shown(scored.expected[at][c]),
                lower=_shown(scored.lower[at][c]),
                upper=_shown(scored.upper[at][c]),
                contribution=short(parts[c] / whole),
            )
            for c in np.argsort(-parts, kind="stable")[:SHOWN].tolist()
        ]


def alert_id(source: str, sensor_id: str, change: Change, channels: Sequence[str], group: str | None = None) -> str:
    """The incident's id, from event data only: a replay gives the same."""
    parts = [source, sensor_id, str(change.start_ms)]
    if group is not None:
        parts += ["group", group]
    if change.kind != "anomaly":
        parts += [change.kind, *([] if change.channel is None else [channels[change.channel]])]
    return str(uuid.uuid5(NAMESPACE, "\n".join(parts)))


def short(value: float) -> float:
    """Six significant digits: what is printed is what is compared."""
    return float(f"{float(value):.6g}")


def _shown(value: float) -> float | None:
    return short(value) if np.isfinite(value) else None
