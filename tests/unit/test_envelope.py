"""Alerts and dead letters as messages."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.errors import DataError
from stream_detector.records import Alert, Channel, Interval, ModelInfo, Threshold
from stream_detector.streaming.envelope import DEAD_LETTER_HEADERS, alert_message, dead_letter, reason_of, restored
from stream_detector.streaming.topics import Record
from tests.alerts import alert

HEADERS = st.lists(
    st.tuples(st.sampled_from(["trace", *DEAD_LETTER_HEADERS]) | st.text(max_size=5), st.binary(max_size=9)), max_size=9
)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
CHANNELS = st.builds(Channel, TEXT, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.floats(0, 1))
ALERTS = st.builds(
    Alert,
    alert_id=st.uuids().map(str),
    seq=st.integers(0, 1000),
    kind=st.sampled_from(["anomaly", "sensor_silent"]),
    event=st.sampled_from(["opened", "updated", "closed"]),
    status=st.sampled_from(["firing", "resolved"]),
    close_reason=st.none() | st.just("recovered"),
    severity=st.sampled_from(["info", "critical"]),
    sensor_id=TEXT,
    group=st.none() | TEXT,
    members=st.lists(TEXT, max_size=3),
    labels=st.dictionaries(TEXT, TEXT, max_size=2),
    summary=TEXT,
    starts_at=st.just("2026-01-09T04:10:00Z"),
    ends_at=st.none() | st.just("2026-01-09T04:20:00Z"),
    window=st.just(Interval("2026-01-08T19:55:00Z", "2026-01-09T04:10:00Z")),
    detected_at=st.none() | st.just("2026-01-09T04:10:07Z"),
    score=NUMBERS,
    peak_score=NUMBERS,
    p_value=NUMBERS,
    threshold=st.none() | st.just(Threshold(6.4, "block-maximum", "sensor", "1 per 7d")),
    channels=st.lists(CHANNELS, max_size=2),
    model=st.none() | st.just(ModelInfo("encoder", "0f3a", "sha256:0f3a")),
)


def test_an_alert_is_a_cloud_event() -> None:
    """The attributes of CloudEvents are headers, the key is the sensor, the value is the alert."""
    message = alert_message(alert(), "alerts")
    assert (message.topic, message.key) == ("alerts", b"pump-7")
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"6f0b1c52-6d0e-5a53-9d57-3f1e0d1b6b0a/2",
        "ce_source": b"stream-detector",
        "ce_type": b"stream-detector.alert.updated",
        "ce_time": b"2026-01-09T04:12:03Z",
        "ce_subject": b"pump-7",
        "ce_dataschema": b"urn:stream-detector:alert:v1",
        "content-type": b"application/json",
    }


def test_what_varies_in_the_envelope() -> None:
    """A group is the key; odd ids and sources are encoded; without a clock the window's end is the time."""
    message = alert_message(alert(group="hall 3", sensor_id="pümp\n7%", detected_at=None), "alerts", "plant/hall 3")
    headers = dict(message.headers)
    assert message.key == b"hall 3"
    assert headers["ce_subject"].decode() == "pümp%0A7%25"
    assert headers["ce_source"] == b"plant/hall%203"
    assert headers["ce_time"] == b"2026-01-09T04:12:00Z"


@settings(deadline=None)
@given(ALERTS)
def test_an_alert_comes_back_from_its_bytes(given_alert: Alert) -> None:
    """What a reader decodes is what was told, and the same alert gives the same bytes."""
    message = alert_message(given_alert, "alerts")
    assert message.value is not None and msgspec.json.decode(message.value, type=Alert) == given_alert
    assert alert_message(given_alert, "alerts") == message
    assert message.key == (given_alert.group or given_alert.sensor_id).encode()
    subject = dict(message.headers)["ce_subject"].decode()
    assert subject.replace(" ", "").isprintable()


@settings(deadline=None)
@given(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=20), HEADERS, TEXT)
def test_a_dead_letter_comes_back_as_it_was(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], reason: str
) -> None:
    """Key, value and headers are untouched, even where these have our names or it died twice."""
    record = Record("readings", 3, 42, 1_767_571_200_000, key, value, headers)
    letter = dead_letter(record, reason, "dead-letters")
    assert (letter.topic, letter.key, letter.value) == ("dead-letters", key, value)
    assert letter.headers[: len(headers)] == headers
    said = [b"readings", b"3", b"42", b"1767571200000", reason.encode()]
    assert letter.headers[len(headers) :] == list(zip(DEAD_LETTER_HEADERS, said, strict=True))
    lies = Record("dead-letters", 0, 7, 0, letter.key, letter.value, letter.headers)
    assert reason_of(lies) == reason
    back = restored(lies)
    assert (back.topic, back.key, back.value, back.headers) == ("readings", key, value, headers)
    twice = dead_letter(lies, "wrong-type: again", "dead-letters")
    assert restored(Record("dead-letters", 0, 8, 0, twice.key, twice.value, twice.headers)).headers == letter.headers


def test_what_is_no_dead_letter_is_refused() -> None:
    """A message without our headers is named by its place."""
    with pytest.raises(DataError, match=r"readings/3, offset 42, is no dead letter .* x-origin-topic"):
        restored(Record("readings", 3, 42, 0, None, b"{}", [("x-reason", b"x")]))
