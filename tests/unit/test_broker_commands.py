"""What the commands on a broker print: alerts that are asked for, and letters, whatever they say."""

from __future__ import annotations

import logging

import msgspec
import pytest

from stream_detector.cli.alerts import Outages, Wanted
from stream_detector.cli.letters import Letter, Newest, as_object, beginning, moment, number
from stream_detector.cli.pipe import visible
from stream_detector.errors import ConfigError
from stream_detector.records import Alert, Interval
from stream_detector.streaming.topics import Record


def alert(**changes: object) -> Alert:
    """An alert with what is asked for."""
    plain = {field.name: None for field in msgspec.structs.fields(Alert)}
    given = {"kind": "anomaly", "severity": "warning", "sensor_id": "pump-7", "members": []}
    return Alert(**{**plain, "window": Interval("", ""), **given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "changes", "has"),
    [
        (Wanted(), {}, True),
        (Wanted(severity="warning"), {}, True),
        (Wanted(severity="error"), {}, False),
        (Wanted(severity="info"), {"severity": "critical"}, True),
        (Wanted(kind="anomaly"), {}, True),
        (Wanted(kind="value_stuck"), {}, False),
        (Wanted(sensor="pump-*"), {}, True),
        (Wanted(sensor="PUMP-*"), {}, False),
        (Wanted(sensor="pump"), {}, False),
        (Wanted(sensor="hall*"), {"group": "hall 3"}, True),
        (Wanted(sensor="fan-1"), {"group": "hall 3", "members": ["fan-1", "pump-7"]}, True),
        (Wanted(sensor="fan-2"), {"group": "hall 3", "members": ["fan-1", "pump-7"]}, False),
        (Wanted(sensor="pump-*", severity="error"), {"severity": "error", "sensor_id": "fan"}, False),
    ],
)
def test_which_alerts_are_asked_for(wanted: Wanted, changes: dict[str, object], has: bool) -> None:
    """Severity is a lowest level, kind a word, the sensor a pattern in which capitals count."""
    assert wanted.has(alert(**changes)) is has


def test_words_that_there_are_not() -> None:
    """A level or kind that there is not is refused with those that there are."""
    with pytest.raises(ConfigError, match="no severity 'bad': choose one of info, warning, error, critical"):
        Wanted(severity="bad")
    with pytest.raises(ConfigError, match="no kind of alert 'bad': choose one of anomaly"):
        Wanted(kind="bad")


def test_an_outage_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """However often the client tries."""
    log, told = logging.getLogger("test-outages"), Outages("host:9092")
    log.addHandler(told)
    for attempt in range(3):
        log.error("Connection failed: %s", attempt)
    log.removeHandler(told)
    assert capsys.readouterr().err == "Kafka at host:9092 is away: waiting, and going on when it is back\n"


def test_what_would_steer_the_terminal_is_written_out() -> None:
    """Control characters, line ends, and marks that turn the direction of text; letters stay."""
    assert visible("pümp 7 [red]\x1b[31m\r\n\x9b\u202e\ud800") == "pümp 7 [red]\\x1b[31m\\r\\n\\x9b\\u202e\\ud800"


def test_the_beginning_of_bytes() -> None:
    """One short printable line of any bytes."""
    assert beginning(None) == "(no value)"
    assert beginning(b'{"a": 1}') == '{"a": 1}'
    assert beginning(b"\xff\n\x00") == "\\xff\\n\\x00"
    for value in (b"a" * 161, b"\xff" * 10_000, b"a" * 160 + b"b" * 481):
        assert len(beginning(value)) == 163 and beginning(value).endswith("...")


def test_numbers_and_times_of_headers() -> None:
    """What is no number, or no time, stays as it is."""
    assert [number(said) for said in ("12", "-1", "x", "-", "", "٣", "9" * 5000)] == [
        12,
        -1,
        "x",
        "-",
        "",
        "٣",
        "9" * 5000,
    ]
    assert [moment(at) for at in (0, -1, "x", 1 << 62)] == [
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "x",
        str(1 << 62),
    ]


def letter(timestamp_ms: int, offset: int = 0, **headers: str) -> Letter:
    """A letter with what its headers say."""
    said = {"topic": "readings", "partition": "1", "offset": "2", "timestamp": "3", **headers}
    record = Record(
        "dead-letters",
        0,
        offset,
        timestamp_ms,
        b"\xff",
        b"text",
        [(f"x-origin-{k}", v.encode()) for k, v in said.items()],
    )
    return Letter(record, "bad-time: x", False)


def test_the_latest_letters() -> None:
    """So many of them, the oldest first; letters of one time in the order in which they lie."""
    newest = Newest(3)
    for at, offset in ((5, 0), (1, 1), (9, 2), (9, 3), (2, 4)):
        newest.add(letter(at, offset))
    assert [(one.record.timestamp_ms, one.record.offset) for one in newest.all()] == [(5, 0), (9, 2), (9, 3)]
    none = Newest(0)
    none.add(letter(1))
    assert none.all() == []


def test_a_letter_as_an_object() -> None:
    """Bytes that are no text are base64 under another name; a forged header stays as it is."""
    assert as_object(letter(0, 4, partition="far away")) == {
        "reason": "bad-time: x",
        "origin": {"topic": "readings", "partition": "far away", "offset": 2, "timestamp": "1970-01-01T00:00:00.003Z"},
        "timestamp": "1970-01-01T00:00:00Z",
        "partition": 0,
        "offset": 4,
        "replayed": False,
        "key_base64": "/w==",
        "value": "text",
    }
