"""What receivers of alerts are sent: as their published schemas have it, whatever an alert says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector import schemas
from stream_detector.errors import ConfigError
from stream_detector.records import SEVERITIES, Alert
from stream_detector.settings import ForwardSettings
from stream_detector.streaming.forward import alertmanager, chat, delivery, pagerduty, receivers, text, webhook
from stream_detector.streaming.forward.told import Told
from stream_detector.streaming.wanted import Wanted, labels_of
from tests.alerts import alert

NOW = datetime(2026, 1, 10, tzinfo=UTC)
RFC3339 = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
LABEL_SET = {"type": "object", "additionalProperties": {"type": "string"}}
POSTABLE_ALERT = {
    "type": "object",
    "required": ["labels"],
    "additionalProperties": False,
    "properties": {
        "labels": {**LABEL_SET, "minProperties": 1, "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}},
        "annotations": {**LABEL_SET, "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}},
        "startsAt": RFC3339,
        "endsAt": RFC3339,
        "generatorURL": {"type": "string", "pattern": "^https?://[!-~]+$"},
    },
}
"""`postableAlert` of Alertmanager's OpenAPI description, with what it checks beyond it: the names of labels."""
PAGERDUTY_EVENT = {
    "type": "object",
    "required": ["routing_key", "event_action"],
    "properties": {
        "routing_key": {"type": "string"},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "client": {"type": "string"},
        "client_url": {"type": "string"},
        "links": {"type": "array", "items": {"type": "object", "required": ["href"]}},
        "payload": {
            "type": "object",
            "required": ["summary", "source", "severity"],
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": {"type": "string", "minLength": 1},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": RFC3339,
                "component": {"type": "string"},
                "group": {"type": "string"},
                "class": {"type": "string"},
                "custom_details": {"type": "object"},
            },
        },
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
}
"""The Events API v2 as PagerDuty describes it."""
ANY_ALERT = st.builds(
    alert,
    summary=st.text(max_size=1500),
    sensor_id=st.text(min_size=1),
    group=st.none() | st.text(min_size=1),
    labels=st.dictionaries(st.text(), st.text(), max_size=4),
    severity=st.sampled_from(SEVERITIES),
    event=st.sampled_from(["opened", "updated", "closed"]),
    status=st.sampled_from(["firing", "resolved"]),
    ends_at=st.none() | st.just("2026-01-09T05:00:00.250Z"),
    starts_at=st.sampled_from(["2026-01-09T04:10:00Z", "2031-01-09T04:10:00Z", "2026-01-09T05:10:00+01:00"]),
)


@given(ANY_ALERT, st.sampled_from(["", "https://console.example"]))
def test_alertmanager_takes_whatever_an_alert_says(one: Alert, console: str) -> None:
    """Names of labels are valid, ours are not overwritten, nothing begins in the future or ends before it begins."""
    posted = alertmanager.posted(one, NOW, console)
    jsonschema.validate(posted, POSTABLE_ALERT)
    assert posted["labels"]["alertname"] == one.kind
    assert posted["labels"]["severity"] == one.severity
    assert posted["startsAt"] <= "2026-01-10T00:00:00Z"
    assert posted["startsAt"] <= posted.get("endsAt", "9")
    assert ("endsAt" in posted) == (one.event == "closed" or one.status == "resolved")


@given(ANY_ALERT, st.sampled_from(["", "https://console.example"]))
def test_pagerduty_takes_whatever_an_alert_says(one: Alert, console: str) -> None:
    """The key of an incident is its id, in every step."""
    events = pagerduty.events(one, "key", console)
    for event in events:
        jsonschema.validate(event, PAGERDUTY_EVENT)
        assert event["dedup_key"] == one.alert_id
    assert (events[-1]["event_action"] == "resolve") == (one.event == "closed" or one.status == "resolved")
    assert (events[0]["event_action"] == "trigger") == (one.event != "closed")


@given(ANY_ALERT)
def test_a_webhook_is_a_cloud_event(one: Alert) -> None:
    """In structured mode, with the alert as data."""
    event = json.loads(webhook.event(one))
    assert event["specversion"] == "1.0"
    assert event["type"] == f"stream-detector.alert.{one.event}"
    assert (event["id"], event["datacontenttype"]) == (f"{one.alert_id}/{one.seq}", "application/json")
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)
    jsonschema.validate(event["data"], schemas.schema("alert"))
    assert event["data"]["labels"] == one.labels


@given(ANY_ALERT)
def test_words_for_people_stay_on_their_lines(one: Alert) -> None:
    """What an alert says cannot add lines, colours or bells."""
    assert text.title(one).isprintable()
    body = text.body(one, "https://console.example")
    assert all(line.isprintable() for line in body.split("\n"))
    assert body.endswith(f"https://console.example/incident?id={one.alert_id}")


def test_a_webhook_is_signed_as_the_standard_has_it() -> None:
    """A receiver computes it again from id, time and body; the example is the standard's own."""
    key = webhook.key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = webhook.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    plain = webhook.signature(webhook.key_of("word"), "a", 1, b"b")["webhook-signature"]
    assert plain == "v1," + base64.b64encode(hmac.new(b"word", b"a.1.b", hashlib.sha256).digest()).decode()
    with pytest.raises(ConfigError) as told:
        webhook.key_of("whsec_no base64!")
    assert "no base64!" not in str(told.value)


def test_the_code_of_the_readme_tells_genuine_webhooks() -> None:
    """One that was signed now is; one that was changed, or is old, is not."""
    code = (Path(__file__).parents[2] / "README.md").read_text().partition("<!-- verify -->\n```python\n")[2]
    found: dict[str, Any] = {}
    exec(code.partition("```")[0], found)  # noqa: S102 - the README's own
    now = int(time.time())
    signed = webhook.signature(b"key", "a.1", now, b"body")
    assert found["genuine"](signed, b"body", b"key")
    assert not found["genuine"](signed, b"bodies", b"key")
    assert not found["genuine"](webhook.signature(b"key", "a.1", now - 400, b"body"), b"body", b"key")


def test_a_severity_that_rises_ends_the_former_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one request: routes ask for the severity, and labels are what an alert is."""
    sent: list[list[dict[str, Any]]] = []
    monkeypatch.setattr(
        alertmanager, "post", lambda request, _: sent.append(json.loads(request.body)) or delivery.DELIVERED
    )
    receiver = alertmanager.Alertmanager("http://am:9093", 1, clock=lambda: NOW)
    mild, severe = alert(severity="warning"), alert(severity="critical", seq=3)
    receiver.send(severe, mild)
    receiver.send(severe, severe)
    (former, now), (again,) = sent
    assert (former["labels"]["severity"], former["endsAt"]) == ("warning", "2026-01-10T00:00:00Z")
    assert now == again
    assert "endsAt" not in now


def test_labels_of_ours_are_not_overwritten() -> None:
    """A label of the settings that has such a name gets another."""
    found = alertmanager.labels(alert(labels={"severity": "x", "line 3": "y", "9": "z", "empty": ""}))
    assert found == {
        "alertname": "anomaly",
        "sensor_id": "pump-7",
        "severity": "warning",
        "label_severity": "x",
        "line_3": "y",
        "label_9": "z",
    }


def test_what_is_told_once_resolves_itself() -> None:
    """A change of regime has no end: it is triggered and resolved, or stands for five minutes."""
    once = alert(kind="regime_change", event="opened", status="resolved", seq=0)
    assert [one["event_action"] for one in pagerduty.events(once, "key")] == ["trigger", "resolve"]
    assert alertmanager.posted(once, NOW)["endsAt"] == "2026-01-10T00:05:00Z"


def test_chat_is_told_of_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning, a higher severity, the end; and not each update. A failure is tried again."""
    receiver = chat.Chat("json://localhost:9", "https://console.example")
    told: list[tuple[str, str, str]] = []
    taken = [True]
    monkeypatch.setattr(
        receiver._service,
        "notify",
        lambda body, title, notify_type, body_format: told.append((title, notify_type, body)) or taken[0],
    )
    opened = alert(event="opened", seq=0)
    assert receiver.send(opened, None).delivered
    assert receiver.send(alert(), opened).delivered
    assert receiver.send(alert(severity="critical"), opened).delivered
    assert receiver.send(alert(event="closed", status="resolved", close_reason="recovered"), opened).delivered
    assert [(title[:10], level) for title, level, _ in told] == [
        ("[warning] ", "warning"),
        ("[critical]", "failure"),
        ("[warning] ", "success"),
    ]
    assert told[0][2].endswith(f"https://console.example/incident?id={opened.alert_id}")
    taken[0] = False
    outcome = receiver.send(opened, None)
    assert (outcome.delivered, outcome.refused) == (False, False)


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("99999999", 300, 300),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 300, 300),
    ],
)
def test_a_wish_to_wait_is_read(said: str, least: float, most: float) -> None:
    """Seconds or a date, within bounds."""
    found = delivery.wish(said)
    assert found is not None
    assert least <= found <= most


@pytest.mark.parametrize("said", [None, "", "soon", "-5", "1.5", "٣"])
def test_a_wish_that_cannot_be_read_is_none(said: str | None) -> None:
    """Our own pause counts then."""
    assert delivery.wish(said) is None


def test_pauses_grow_up_to_a_bound_and_differ() -> None:
    """Twice as long each time, a minute at most, by chance up to a half shorter; a wish wins where it is longer."""
    for failures, whole in ((1, 0.5), (2, 1.0), (5, 8.0), (50, 60.0)):
        found = [delivery.pause(failures, None) for _ in range(50)]
        assert whole / 2 <= min(found) < max(found) <= whole
    assert delivery.pause(1, 20.0) == 20.0


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "host:9093", "http://", "http://h:0/", "http://a b", "http://h:x/", "//h"]
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    """Without showing what may be secret in it."""
    with pytest.raises(ConfigError):
        delivery.checked(url)
    secret = url.replace("//", "//user:pass@", 1) + "/token?key=hidden"
    shown = delivery.shown(secret)
    assert not any(word in shown for word in ("user", "pass", "token", "hidden"))


def test_requests_do_not_show_their_address() -> None:
    """Also where one is printed by accident."""
    assert "token" not in repr(delivery.Request("https://host/token", b"", {"Authorization": "token"}))


def test_secrets_come_from_files_and_are_not_shown(tmp_path: Path) -> None:
    """One of the two ways each; a file that cannot be read is named."""
    file = tmp_path / "urls"
    file.write_text("https://a/x\nhttps://b/y\n")
    settings = ForwardSettings(urls_file=file)
    assert receivers.addresses("webhook", (), settings) == ["https://a/x", "https://b/y"]
    assert receivers.addresses("webhook", ["https://c"], settings) == ["https://c"]
    assert receivers.addresses("pagerduty", (), ForwardSettings()) == [pagerduty.URL]
    with pytest.raises(ConfigError, match="give its URL"):
        receivers.addresses("webhook", (), ForwardSettings())
    with pytest.raises(ConfigError, match=r"forward\.urls_file"):
        receivers.addresses("webhook", (), ForwardSettings(urls_file=tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.write_text(" \n")
    with pytest.raises(ConfigError, match="is empty"):
        receivers.build("webhook", "https://a", ForwardSettings(webhook_secret_file=empty))
    with pytest.raises(ValueError, match="leave one out"):
        ForwardSettings.model_validate({"urls": "https://a/hidden", "urls_file": file})
    with pytest.raises(ConfigError, match="routing key"):
        receivers.build("pagerduty", pagerduty.URL, ForwardSettings())
    with pytest.raises(ConfigError, match="Apprise does not know"):
        receivers.build("apprise", "nothing://known", ForwardSettings())


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["opened", "updated", "closed"]), st.sampled_from(SEVERITIES)),
    max_size=30,
)


@given(STEPS, st.sampled_from(SEVERITIES))
def test_an_end_is_told_only_of_what_was_told(steps: Sequence[tuple[int, str, str]], least: str) -> None:
    """Whatever the order of steps: who hears of an end has heard of a beginning, and hears all in between."""
    told = Told(Wanted(severity=least))
    known: set[str] = set()
    for number, event, severity in steps:
        one = alert(
            alert_id=str(number), event=event, severity=severity, status="resolved" if event == "closed" else "firing"
        )
        severe = SEVERITIES.index(one.severity) >= SEVERITIES.index(least)
        assert told.asks_for(one) == (one.alert_id in known or (severe and event != "closed"))
        if told.asks_for(one):
            told.note(one)
            (known.discard if event == "closed" else known.add)(one.alert_id)
        assert {open_one.alert_id for open_one in told.going_on} == known


def test_labels_are_asked_for_by_pattern() -> None:
    """All that are named must be there and fit."""
    wanted = Wanted(labels=labels_of(["line=3*", "site=north"]))
    assert wanted.has(alert(labels={"line": "31", "site": "north"}))
    assert not wanted.has(alert(labels={"line": "41", "site": "north"}))
    assert not wanted.has(alert(labels={"line": "31"}))
    with pytest.raises(ConfigError):
        labels_of(["line"])
