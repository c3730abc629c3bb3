"""The event that says that a partition's state was lost and built anew from what Kafka still had."""

from __future__ import annotations

import uuid

from stream_detector.records import NAMESPACE, Alert, Interval, format_time
from stream_detector.streaming.intake import Batch


def state_gap(topic: str, batch: Batch, partition: int, told_until: int) -> Alert:
    """Told once, with the first batch of the rebuilt partition: from here on its sensors warm up again."""
    mine = batch.partition == partition
    start = format_time(int(batch.timestamp_ms[mine][0]))
    end = format_time(int(batch.timestamp_ms[mine][-1]))
    place = f"{topic}/{partition}"
    return Alert(
        alert_id=str(uuid.uuid5(NAMESPACE, f"state_gap\n{place}\n{told_until}")),
        seq=0,
        kind="state_gap",
        event="opened",
        status="resolved",
        close_reason=None,
        severity="warning",
        sensor_id=place,
        labels={},
        summary=f"the state of {place} was lost: its sensors were warmed up again from offset "
        f"{int(batch.offset[mine][0])}, and what was told up to {told_until} is not told again",
        starts_at=start,
        ends_at=start,
        window=Interval(start, end),
        detected_at=None,
        score=None,
        peak_score=None,
        p_value=None,
        threshold=None,
        channels=[],
        model=None,
    )
