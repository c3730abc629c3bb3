"""Answers to alerts in a file, one JSON record a line, and the records that they are made from."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from stream_detector.errors import DataError
from stream_detector.records import NAMESPACE, Alert, Feedback, Verdict, format_time, parse_time

Record = TypeVar("Record", Alert, Feedback)
SCORED = ("anomaly", "regime_change")
"""Kinds of alerts that rest on a threshold."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person says; times: of a maintenance."""

    verdict: Verdict
    times: tuple[str | None, str | None]
    note: str | None

    def to(self, steps: list[Alert]) -> Feedback:
        """The record of it, to an incident of these steps; raises DataError where it makes no sense."""
        kind = steps[0].kind
        if self.verdict in ("false_positive", "change_point") and kind not in SCORED:
            raise DataError(
                f"the alert {steps[0].alert_id} is of the kind {kind}, which rests on no threshold that this could "
                "change: answer --confirmed or --maintenance FROM TO, or see the settings under quality"
            )
        return answer(steps, self.verdict, begins=self.times[0], ends=self.times[1], note=self.note)


def answer(
    steps: Sequence[Alert], verdict: Verdict, *, begins: str | None = None, ends: str | None = None, note: str | None
) -> Feedback:
    """The answer to an incident, given the alerts that it has told so far; raises DataError for times it cannot use."""
    if (verdict == "maintenance") != (begins is not None and ends is not None):
        raise DataError("a maintenance needs its times, and nothing else does: --maintenance FROM TO")
    if begins is not None and ends is not None:
        begins, ends = (_time(moment) for moment in (begins, ends))
        if parse_time(begins) >= parse_time(ends):
            raise DataError(f"the maintenance ends at {ends}, before it begins at {begins}: give FROM, then TO")
    last = max(steps, key=lambda alert: alert.seq)
    parts = [last.alert_id, verdict, begins or "", ends or ""]
    return Feedback(
        feedback_id=str(uuid.uuid5(NAMESPACE, "\n".join(parts))),
        alert_id=last.alert_id,
        verdict=verdict,
        sensor_id=last.sensor_id,
        members=last.members,
        starts_at=last.starts_at,
        ends_at=last.ends_at,
        peak_score=last.peak_score,
        model=last.model,
        begins=begins,
        ends=ends,
        as_of=last.window.end,
        note=note,
    )


def find(alerts: Iterable[Alert], alert_id: str) -> list[Alert]:
    """The steps of one incident; raises DataError where there is none."""
    steps = [alert for alert in alerts if alert.alert_id == alert_id]
    if not steps:
        raise DataError(f"there is no alert with the id {alert_id!r}: copy the alert_id of one that was told")
    return steps


def read_alerts(path: Path) -> list[Alert]:
    """Alerts as `detect --output` wrote them; raises DataError that names the line."""
    return list(_lines(path, Alert))


def read_feedback(path: Path) -> list[Feedback]:
    """Answers, each once however often it stands in the file; raises DataError that names the line."""
    return list({record.feedback_id: record for record in _lines(path, Feedback)}.values())


def decode(line: bytes, kind: type[Record]) -> Record:
    """One record; raises DataError where it is not of this kind, or a time in it cannot be read."""
    try:
        record = msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"this is not a record of this kind ({error})") from error
    if isinstance(record, Feedback):
        for moment in (record.starts_at, record.ends_at, record.begins, record.ends, record.as_of):
            if moment is not None:
                _time(moment)
        if record.verdict == "maintenance" and not (record.begins and record.ends):
            raise DataError("a maintenance needs its times, begins and ends")
    return record


def _lines(path: Path, kind: type[Record]) -> Iterator[Record]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield decode(line, kind)
            except DataError as error:
                raise DataError(f"{path}, line {number}: {error}") from error


def _time(text: str) -> str:
    try:
        return format_time(parse_time(text))
    except (ValueError, OverflowError) as error:
        raise DataError(f"the time {text!r} cannot be read: write it like 2026-01-05T08:00:00Z") from error
