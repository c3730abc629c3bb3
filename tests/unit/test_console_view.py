"""What the console shows: incidents kept, filtered, ordered, folded and put in words; who may answer. No browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np
import pytest
from pydantic import SecretStr, ValidationError
from starlette.types import Receive, Scope, Send

from stream_detector.console import chart, incidents, phrases, view
from stream_detector.console.auth import COOKIE, HEADERS, LASTS_S, Gate, Guard, read_token
from stream_detector.console.chart import Shade
from stream_detector.console.incidents import Answer, Book, Incident
from stream_detector.console.view import Filters
from stream_detector.errors import ConfigError
from stream_detector.records import Alert, Channel, Feedback, Interval, ModelInfo, Threshold, format_time
from stream_detector.settings import ConsoleSettings
from stream_detector.streaming.sensor_history import Columns

BEGIN_MS = 1_760_000_000_000


def alert(name: str = "pump-1", seq: int = 0, minute: int = 0, **changed: Any) -> Alert:
    """A step of an incident of a sensor."""
    at = format_time(BEGIN_MS + 60_000 * minute)
    known = {
        "alert_id": f"id-{name}-{changed.pop('begun', minute)}",
        "seq": seq,
        "kind": "anomaly",
        "event": "opened" if seq == 0 else "updated",
        "status": "firing",
        "close_reason": None,
        "severity": "warning",
        "sensor_id": name,
        "labels": {},
        "summary": f"{name}: value is 7 where 1 to 3 was expected",
        "starts_at": at,
        "ends_at": None,
        "window": Interval(at, at),
        "detected_at": at,
        "score": 9.0,
        "peak_score": 9.0,
        "p_value": 1e-5,
        "threshold": Threshold(4.0, "block-maximum", "sensor", "1 per 7d"),
        "channels": [Channel("value", 7.0, 2.0, 1.0, 3.0, 0.7)],
        "model": ModelInfo("encoder", "1", "sha256:1"),
    }
    return Alert(**{**known, **changed})


def closed(of: Alert, reason: str = "recovered") -> Alert:
    """The end of an incident."""
    ends = {"event": "closed", "status": "resolved", "close_reason": reason, "ends_at": of.window.end}
    return msgspec.structs.replace(of, seq=of.seq + 1, summary=f"{of.sensor_id} is back to normal", **ends)


def book(*alerts: Alert) -> Book:
    """All of these, taken in in this order."""
    made = Book()
    for one in alerts:
        made.take(one)
    return made


def shown(made: Book, **filters: str) -> list[str]:
    """The sensors of the incidents that are shown, in order."""
    return [one.last.sensor_id for one in Filters.read(filters).some(made.all())]


def test_a_step_that_comes_twice_counts_once_and_an_end_moves_the_incident() -> None:
    """Readers that are given a step again, as after a seek, see no other incident for it."""
    first = alert()
    made = book(first, first, closed(first), first)
    assert [step.event for step in made.closed[first.alert_id].steps] == ["opened", "closed"]
    assert not made.open
    before = made.number
    made.take(first)
    assert made.number == before


def test_the_worst_stand_first_and_then_the_newest() -> None:
    """Severity is that of the worst step, not of the latest."""
    worse = alert("b", severity="critical")
    calmer = alert("b", 1, severity="info", begun=0)
    made = book(alert("a", minute=5), worse, calmer, alert("c", minute=9))
    assert shown(made) == ["b", "c", "a"]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed incidents go first out of memory; of a long one its beginning and its latest steps stay."""
    monkeypatch.setattr(incidents, "MOST_CLOSED", 3)
    monkeypatch.setattr(incidents, "MOST_STEPS", 4)
    made = book(*(closed(alert(str(i), minute=i)) for i in range(9)))
    assert [one.last.sensor_id for one in made.closed.values()] == ["6", "7", "8"]
    for seq in range(9):
        made.take(alert("long", seq, begun=0))
    assert [step.seq for step in made.open["id-long-0"].steps] == [0, 6, 7, 8]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["hall-1", "fan-2", "pump-1"]),
        ({"sensor": "pump"}, ["pump-1"]),
        ({"sensor": "*-[12]"}, ["hall-1", "fan-2", "pump-1"]),
        ({"sensor": "FAN-?"}, ["fan-2"]),
        ({"sensor": "hall"}, ["hall-1"]),
        ({"sensor": "member-9"}, ["hall-1"]),
        ({"label": "line"}, ["fan-2", "pump-1"]),
        ({"label": "line=3"}, ["fan-2"]),
        ({"severity": "error"}, ["hall-1"]),
        ({"since": "90m"}, ["hall-1", "fan-2"]),
        ({"until": format_time(BEGIN_MS + 60_000)}, ["pump-1"]),
        ({"state": "closed"}, ["gone"]),
        ({"state": "all", "sensor": "gone"}, ["gone"]),
        ({"severity": "worst", "state": "odd", "since": "soon"}, ["hall-1", "fan-2", "pump-1"]),
    ],
)
def test_filters_narrow_down(filters: dict[str, str], found: list[str]) -> None:
    """By sensor, group or member, label, severity, time in event time, and state."""
    gone = alert("gone", minute=1)
    made = book(
        alert("pump-1", labels={"line": "2"}),
        alert("fan-2", minute=50, labels={"line": "3"}),
        alert("hall-1", minute=100, group="hall", members=["hall-1", "member-9"], severity="error"),
        gone,
        closed(gone),
    )
    assert shown(made, **filters) == found


def test_filters_go_into_an_address_and_come_back() -> None:
    """A link that is sent shows the same; what is as usual is left out of it."""
    filters = Filters(sensor='<b> & "pump"', label="line=3", since="6h", state="all")
    assert Filters.read(dict(parse_qsl(filters.query[1:]))) == filters
    assert not set('<>" ') & set(filters.query)
    assert Filters().query == ""
    assert Filters.read({"sensor": "x" * 5000}).sensor == "x" * view.LONGEST
    assert "soon" in Filters(since="soon").problem


def test_incidents_of_a_group_are_folded_behind_the_worst() -> None:
    """Those that go on at once; one may ask to see them all. Those of the past are other stories."""
    parts = [alert(name, group="line-3", members=[name], minute=i) for i, name in enumerate("abc")]
    worst = alert("d", severity="critical", group="line-3", members=["d"])
    made = book(*parts, worst, alert("alone"))
    several = Filters().some(made.all())
    folded = view.rows(several)
    assert [(row.title, row.folded) for row in folded] == [("line-3 · 1 sensor", 3), ("alone", 0)]
    assert len(view.rows(several, frozenset({"line-3"}))) == 5
    for one in (*parts, worst):
        made.take(closed(one))
    assert [row.folded for row in view.rows(Filters(state="closed").some(made.all()))] == [0, 0, 0, 0]


def test_why_is_one_sentence() -> None:
    """What came, what was expected, and against which threshold; of other kinds, what they say themselves."""
    assert phrases.why(Incident([alert()], 1)) == (
        "value is 7 where 1 to 3 was expected, which is 70% of the score; the score 9 exceeds this sensor's own "
        "threshold of 4 (budget 1 per 7d); a normal reading scores so high once in 100,000 times."
    )
    silent = alert(kind="sensor_silent", channels=[], score=None, summary="pump-1 has stopped sending readings")
    assert phrases.why(Incident([silent], 1)) == "pump-1 has stopped sending readings."


def test_times_and_counts_in_words() -> None:
    """Ages, spans and numbers as a person says them; another program's times are shown as they are."""
    assert (phrases.age(0.4), phrases.age(75), phrases.age(7200)) == ("just now", "1 min 15 s ago", "2 h ago")
    assert (phrases.big(3), phrases.big(12_345), phrases.big(2_500_000), phrases.big(0.4)) == (
        "3",
        "12.3 k",
        "2.5 M",
        "0.4",
    )
    assert phrases.clock("whenever") == "whenever"
    assert phrases.clock("2026-01-05T08:00:00Z") == "2026-01-05 08:00:00 UTC"
    odd = alert(starts_at="whenever")
    assert view.rows([Incident([odd], 1)])[0].when == "whenever, just begun"


def test_an_answer_is_said_to_be_taken_only_when_it_is() -> None:
    """Sent, taken, or not to be known."""
    record = Feedback(feedback_id="1", alert_id="2", verdict="false_positive", sensor_id="pump-1")
    answer = Answer(record, 0, 5, BEGIN_MS)
    said = [phrases.answer_words(answer, taken) for taken in (True, False, None)]
    assert said[0] == "false alarm: taken by the worker"
    assert "not taken it yet" in said[1]
    assert "cannot be seen" in said[2]


NASTY = "<script>alert(1)</script>"


def columns(count: int, channels: tuple[str, ...] = ("value",)) -> Columns:
    """Readings with a band, of which the first hundred are not scored."""
    time_ms = BEGIN_MS + 1000 * np.arange(count)
    values = np.sin(np.arange(count) / 9)[:, None].repeat(len(channels), axis=1)
    scored = values[100:]
    return Columns(
        channels, time_ms, values, time_ms[100:], np.abs(scored[:, 0]), np.full(count - 100, np.inf),
        scored, scored - 1, scored + 1, np.ones_like(scored) * np.arange(1, len(channels) + 1),
    )  # fmt: skip


def keys_of(value: Any) -> set[str]:
    """All keys anywhere in options."""
    if isinstance(value, dict):
        return set(value) | {key for one in value.values() for key in keys_of(one)}
    return {key for one in value for key in keys_of(one)} if isinstance(value, list) else set()


def test_a_picture_holds_names_as_values_only() -> None:
    """A key with a colon would be run, a tooltip of HTML would be markup: neither is ever there."""
    made = chart.options(f":{NASTY}")
    chart.fill(made, columns(300, (f":{NASTY}",)), 0, [Shade(BEGIN_MS, None, 3)], (0.0, 1.0))
    assert not [key for key in keys_of(made) if key.startswith(":") or "<" in key]
    assert made["tooltip"]["renderMode"] == "richText"
    assert "formatter" not in keys_of(made)
    json.dumps(made, allow_nan=False)


def test_a_long_history_is_drawn_with_few_points_and_the_part_looked_at_in_full() -> None:
    """However much there is; and no spike is lost."""
    many = columns(150_000)
    many.values[140_000] = 1000.0
    made = chart.options("value")
    chart.fill(made, many, 0, [], (0.0, 1.0))
    lines = [one["data"] for one in made["series"]]
    assert all(len(one) <= 2 * chart.POINTS for one in lines)
    assert max(value for _, value in lines[3]) == 1000.0
    view_part = chart.part(many, int(many.time_ms[500]), int(many.time_ms[600]))
    chart.fill(made, many, 0, [], view_part)
    drawn = {moment for moment, _ in made["series"][3]["data"]}
    assert set(many.time_ms[400:650].tolist()) <= drawn


def test_the_channels_are_ordered_by_their_share() -> None:
    """And the shares are of one whole."""
    assert chart.shares(columns(200, ("a", "b", "c"))) == [("c", 0.5), ("b", pytest.approx(1 / 3)), ("a", 1 / 6)]


def test_the_token_opens_and_nothing_else_does() -> None:
    """A cookie is good for a time, for this token only, and until it is given back."""
    now = [1000.0]
    gate = Gate("the-token", lambda: now[0])
    assert gate.right("the-token")
    assert not any(gate.right(wrong) for wrong in ("", "the-toke", "the-token ", "THE-TOKEN", "\udcff", "é" * 9))
    held = {COOKIE: gate.cookie()}
    assert gate.knows(held)
    assert not Gate("other-token", lambda: now[0]).knows(held)
    until, salt, signature = held[COOKIE].split(".")
    later = str(int(until) + 9)
    for forged in ("", "..", f"{later}.{salt}.{signature}", f"{until}..{signature}", f"{until}.{salt}.é", signature):
        assert not gate.knows({COOKIE: forged})
    now[0] += LASTS_S + 1
    assert not gate.knows(held)
    now[0] = 1000.0
    gate.forget(held)
    assert not gate.knows(held)
    assert gate.knows({COOKIE: gate.cookie()})


def test_without_a_token_nobody_gets_in() -> None:
    """An empty token is none, and what it would sign is worth nothing."""
    gate = Gate("")
    assert not gate.possible
    assert not gate.right("")
    assert not gate.knows({COOKIE: gate.cookie()})


def test_the_token_comes_from_the_setting_or_a_file_and_is_never_printed(tmp_path: Path) -> None:
    """Short ones are refused, without saying them."""
    place = tmp_path / "token"
    place.write_text("from-a-file\n")
    assert read_token(ConsoleSettings(token=SecretStr("a-long-token"))) == "a-long-token"
    assert read_token(ConsoleSettings(token_file=place)) == "from-a-file"
    assert read_token(ConsoleSettings()) == ""
    assert "a-long-token" not in repr(ConsoleSettings(token=SecretStr("a-long-token")))
    place.write_text("short")
    for wrong in (place, tmp_path / "absent"):
        with pytest.raises(ConfigError, match="token_file"):
            read_token(ConsoleSettings(token_file=wrong))
    with pytest.raises(ValidationError, match="at least 8") as refused:
        ConsoleSettings(token=SecretStr("tiny"))
    assert "tiny" not in str(refused.value)
    with pytest.raises(ValidationError, match="leave one out"):
        ConsoleSettings(token=SecretStr("a-long-token"), token_file=place)


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that lets everything in."""
    kind = "http.response.start" if scope["type"] == "http" else "websocket.accept"
    await send({"type": kind, "status": 200, "headers": []})


def told(kind: str, method: str = "GET", **headers: str) -> MutableMapping[str, Any]:
    """What the guard answers first to a request, or to a connection, of such headers."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": f"{kind}.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    given = {"host": "localhost:8090", **headers}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": kind, "method": method, "path": "/", "headers": raw}
    asyncio.run(Guard(everything, ("localhost", "127.0.0.1", "::1"))(scope, receive, send))
    return sent[0]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"host": "localhost"}, 200),
        ("GET", {"host": "[::1]:8090"}, 200),
        ("GET", {"host": "evil.example"}, 403),
        ("GET", {"host": "localhost.evil.example:8090"}, 403),
        ("GET", {"host": ""}, 403),
        ("GET", {"host": "[::1"}, 403),
        ("GET", {"origin": "http://evil.example"}, 200),
        ("POST", {"origin": "http://localhost:8090"}, 200),
        ("POST", {}, 200),
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"origin": "http://[evil"}, 403),
        ("POST", {"origin": "http://localhost:9999"}, 403),
    ],
)
def test_other_names_and_other_pages_are_turned_away(method: str, headers: dict[str, str], status: int) -> None:
    """A page elsewhere may send a browser here, but not with a name of its own, and not to do anything."""
    answer = told("http", method, **headers)
    assert answer["status"] == status
    if status == 200:
        assert {(name.lower().encode(), value.encode()) for name, value in HEADERS.items()} <= set(answer["headers"])


def test_a_connection_from_another_page_is_closed() -> None:
    """What a page does comes over it."""
    assert told("websocket", origin="http://localhost:8090")["type"] == "websocket.accept"
    assert told("websocket", origin="http://evil.example")["type"] == "websocket.close"
