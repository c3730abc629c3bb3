"""An alert for tests that care for some of its fields only."""

from __future__ import annotations

import msgspec

from stream_detector.records import Alert


def alert(**changes: object) -> Alert:
    """An alert with what matters here."""
    plain = {
        "alert_id": "6f0b1c52-6d0e-5a53-9d57-3f1e0d1b6b0a",
        "seq": 2,
        "kind": "anomaly",
        "event": "updated",
        "status": "firing",
        "close_reason": None,
        "severity": "warning",
        "sensor_id": "pump-7",
        "group": None,
        "members": [],
        "labels": {},
        "summary": "pump-7: vibration is high",
        "starts_at": "2026-01-09T04:10:00Z",
        "ends_at": None,
        "window": {"start": "2026-01-08T19:55:00Z", "end": "2026-01-09T04:12:00Z"},
        "detected_at": "2026-01-09T04:12:03Z",
        "score": 9.13,
        "peak_score": 9.13,
        "p_value": 2.1e-05,
        "threshold": None,
        "channels": [],
        "model": None,
    }
    return msgspec.convert({**plain, **changes}, Alert)
