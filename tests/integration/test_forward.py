"""Alerts reach receivers that err: nothing is lost, nothing comes out of order, nobody waits for another."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError

from stream_detector.local.server import free_ports
from stream_detector.records import Alert
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.envelope import alert_message
from stream_detector.streaming.topics import Message, produce, read_topic
from tests.alerts import alert
from tests.integration.commands import COMMAND, environment, fresh, run
from tests.integration.receivers import HANGS_S, Inbox, receiving
from tests.integration.test_health import totals
from tests.integration.workers import wait_until

README = (Path(__file__).parents[2] / "README.md").read_text()
QUICK = {
    "STREAM_DETECTOR_FORWARD__TIMEOUT": "1s",
    "STREAM_DETECTOR_FORWARD__GIVE_UP_AFTER": "1m",
    "STREAM_DETECTOR_FORWARD__PAGERDUTY_KEY": "the-key",
    "STREAM_DETECTOR_FORWARD__WEBHOOK_SECRET": "the-secret",
    "STREAM_DETECTOR_HTTP__PORT": "0",
}


def life(number: int, severity: str = "warning", steps: Sequence[str] = ("opened", "updated", "closed")) -> list[Alert]:
    """The steps of an incident of a sensor of its own."""
    return [
        alert(
            alert_id=f"incident-{number}",
            seq=seq,
            event=step,
            status="resolved" if step == "closed" else "firing",
            close_reason="recovered" if step == "closed" else None,
            ends_at="2026-01-09T05:00:00Z" if step == "closed" else None,
            sensor_id=f"pump-{number}",
            severity=severity,
        )
        for seq, step in enumerate(steps)
    ]


def tell(kafka: KafkaSettings, alerts: Sequence[Alert]) -> None:
    """Put alerts on their topic."""
    produce(kafka, [alert_message(one, kafka.alerts_topic) for one in alerts])


@contextmanager
def forwarding(
    kafka: KafkaSettings, kind: str, urls: Sequence[str], *options: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """The command, until the block ends; it must end well."""
    process = subprocess.Popen(
        [COMMAND, "forward", "--to", kind, *urls, *options],
        env={**environment(kafka), **QUICK, **variables},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.wait()


def groups(settings: KafkaSettings) -> list[str]:
    """Consumer groups of forwarders that have begun, and so have a place."""
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    try:
        found = [str(one["group_id"]) for one in admin.list_groups()]
    except CoordinatorLoadInProgressError:  # a broker that has just begun: it is asked again
        return []
    finally:
        admin.close()
    return [one for one in found if one.startswith(f"{settings.group_id}-forward") and "undelivered" not in one]


def wait_until_begun(settings: KafkaSettings, receivers: int = 1) -> None:
    """Wait until what is told from now on is forwarded."""
    wait_until(lambda: len(groups(settings)) == receivers, "the forwarder has begun")


def steps_of(kind: str, taken: Sequence[Any]) -> list[tuple[str, str]]:
    """(incident, what became of it) of each body that a receiver has taken, in order."""
    found = []
    for body in taken:
        if kind == "webhook":
            found.append((body["data"]["alert_id"], "over" if body["data"]["event"] == "closed" else "on"))
        elif kind == "pagerduty":
            found.append((body["dedup_key"], "over" if body["event_action"] == "resolve" else "on"))
        else:
            found += [(one["annotations"]["alert_id"], "over" if "endsAt" in one else "on") for one in body]
    return found


def assert_told_in_order(kind: str, taken: Sequence[Any], incidents: int) -> None:
    """Every incident was told on before it was over, and is over in the end."""
    found = steps_of(kind, taken)
    for number in range(incidents):
        mine = [what for incident, what in found if incident == f"incident-{number}"]
        assert mine[0] == "on", f"{number} was over before it was told"
        assert mine[-1] == "over"
        assert len([what for what, _ in itertools.groupby(mine)]) == 2, f"{number} came out of order: {mine}"


@pytest.mark.parametrize("kind", ["alertmanager", "pagerduty", "webhook"])
def test_a_receiver_that_errs_gets_all_in_order(kafka: str, topic: str, kind: str) -> None:
    """Busy, broken, hanging, and gone in the middle of an answer: each is tried again, and nothing overtakes."""
    settings = fresh(kafka, topic, partitions=2)
    moods: list[int | str] = [200, 500, "wait", 202, "hang", "drop", 503, 200, "drop", 408]
    with receiving(Inbox(moods=moods)) as box, forwarding(settings, kind, [box.url]):
        wait_until_begun(settings)
        tell(settings, [one for steps in zip(*map(life, range(8)), strict=True) for one in steps])
        wait_until(lambda: sum(what == "over" for _, what in steps_of(kind, box.taken)) >= 8, "all are over")
    assert_told_in_order(kind, box.taken, 8)
    assert not box.moods


def test_a_wish_to_wait_is_granted(kafka: str, topic: str) -> None:
    """The next attempt comes no sooner than Retry-After says."""
    settings = fresh(kafka, topic, partitions=1)
    with receiving(Inbox(moods=["wait"])) as box, forwarding(settings, "webhook", [box.url]):
        wait_until_begun(settings)
        tell(settings, life(0))
        wait_until(lambda: len(box.taken) == 3, "all is told")
    assert box.seen[1][0] - box.seen[0][0] >= 1.0


def test_what_is_refused_is_kept_with_what_follows_and_sent_again(kafka: str, topic: str) -> None:
    """Its incident's other steps wait behind it; other incidents do not. No redirect is followed."""
    settings = fresh(kafka, topic, partitions=1)
    with receiving(Inbox(moods=[400, 200, 200, 307])) as box:
        with forwarding(settings, "webhook", [box.url], "--name", "desk"):
            wait_until_begun(settings)
            tell(settings, [*life(0), *life(1)[:2], *life(2)[:1]])
            wait_until(lambda: len(kept(settings)) == 4, "four steps are kept")
        listed = run(settings, "forward", "--undelivered")
        assert [(one.split()[4], one.split()[5]) for one in listed.stdout.splitlines() if "desk" in one] == [
            ("0", "pump-0"),
            ("1", "pump-0"),
            ("2", "pump-0"),
            ("0", "pump-2"),
        ]
        assert "400" in listed.stdout
        assert steps_of("webhook", box.taken) == [("incident-1", "on")] * 2
        box.moods = [200, 500]
        tried = retry(settings, box.url)
        assert tried.returncode == 1
        assert "1 sent" in tried.stdout
        assert "500" in tried.stderr
        tried = retry(settings, box.url)
        assert (tried.returncode, tried.stderr) == (0, "")
        assert steps_of("webhook", box.taken)[2:] == [
            ("incident-0", "on"),
            ("incident-0", "on"),
            ("incident-0", "over"),
            ("incident-2", "on"),
        ]
        assert "nothing is undelivered" in run(settings, "forward", "--undelivered").stdout
        with forwarding(settings, "webhook", [box.url], "--name", "desk"):
            tell(settings, [life(1)[2], life(2)[2]])
            wait_until(lambda: len(box.taken) == 8, "the rest is told")
    assert steps_of("webhook", box.taken)[6:] == [("incident-1", "over"), ("incident-2", "over")]
    assert not any(path.endswith("elsewhere") for _, path, _, _ in box.seen)


def kept(settings: KafkaSettings) -> list[object]:
    """What lies in the topic of undelivered steps."""
    return list(read_topic(settings, settings.undelivered_topic))


def retry(settings: KafkaSettings, url: str) -> subprocess.CompletedProcess[str]:
    """Send again what is undelivered."""
    return subprocess.run(
        [COMMAND, "forward", "--to", "webhook", url, "--name", "desk", "--retry"],
        env={**environment(settings), **QUICK},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_receiver_that_hangs_keeps_no_other_waiting(kafka: str, topic: str) -> None:
    """Both in one process; the numbers tell who is behind, and name no address."""
    settings = fresh(kafka, topic, partitions=1)
    (port,) = free_ports(1)
    with receiving(Inbox(always="hang")) as stuck, receiving() as well:
        urls = [f"{stuck.url}/secret-token", well.url]
        with forwarding(settings, "webhook", urls, STREAM_DETECTOR_HTTP__PORT=str(port)) as process:
            wait_until_begun(settings, 2)
            tell(settings, [*life(0), *life(1)])
            wait_until(lambda: len(well.taken) == 6, "the other has all")
            assert not stuck.taken
            counted = totals(port)
            assert sum(value for name, value in counted.items() if "forward_delivered_total" in name) == 6
            wait_until(
                lambda: sum(v for n, v in totals(port).items() if "forward_retries_total" in n) > 0, "it is tried again"
            )
            assert sum(v for n, v in totals(port).items() if "forward_behind_messages" in n) > 0
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=30)[1]
    assert "trying again" in said
    assert "secret-token" not in said
    assert "the-secret" not in said


def test_a_kill_loses_nothing(kafka: str, topic: str) -> None:
    """Killed again and again in the middle, with a receiver that errs: every step arrives, in order."""
    settings = fresh(kafka, topic, partitions=2)
    incidents = 60
    with receiving(Inbox(moods=[500 if i % 7 == 0 else 200 for i in range(150)])) as box:
        with forwarding(settings, "pagerduty", [box.url]):
            wait_until_begun(settings)
        tell(settings, [one for steps in zip(*map(life, range(incidents)), strict=True) for one in steps])
        for enough in (20, 60, 100):
            process = subprocess.Popen(
                [COMMAND, "forward", "--to", "pagerduty", box.url],
                env={**environment(settings), **QUICK},
                stderr=subprocess.DEVNULL,
            )
            wait_until(lambda enough=enough: len(box.taken) >= enough, "some are told")
            process.kill()
            process.wait()
        with forwarding(settings, "pagerduty", [box.url]):
            wait_until(
                lambda: len({i for i, what in steps_of("pagerduty", box.taken) if what == "over"}) == incidents,
                "all are over",
            )
    first = {}
    for place, step in enumerate(steps_of("pagerduty", box.taken)):
        first.setdefault(step, place)
    for number in range(incidents):
        assert first[f"incident-{number}", "on"] < first[f"incident-{number}", "over"]


def test_a_new_receiver_is_told_what_is_open(kafka: str, topic: str) -> None:
    """And not what is over; with --from-beginning all."""
    settings = fresh(kafka, topic, partitions=1)
    tell(settings, [*life(0), *life(1)[:2]])
    with receiving() as late, receiving() as thorough:
        with forwarding(settings, "pagerduty", [late.url]):
            wait_until(lambda: len(late.taken) == 1, "what is open is told")
            tell(settings, life(1)[2:])
            wait_until(lambda: len(late.taken) == 2, "and its end")
        with forwarding(settings, "pagerduty", [thorough.url], "--from-beginning"):
            wait_until(lambda: len(thorough.taken) == 6, "all is told")
    assert steps_of("pagerduty", late.taken) == [("incident-1", "on"), ("incident-1", "over")]


def test_filters_follow_an_incident_to_its_end(kafka: str, topic: str) -> None:
    """One that becomes severe enough is told from then on; one that never does is not ended either."""
    settings = fresh(kafka, topic, partitions=1)
    rising = [*life(0, "info")[:1], *life(0, "error")[1:]]
    with receiving() as box, forwarding(settings, "webhook", [box.url], "--severity", "error", "--sensor", "pump-*"):
        wait_until_begun(settings)
        tell(settings, [*rising, *life(1, "info"), *life(2, "critical")])
        wait_until(lambda: len(box.taken) == 5, "what is asked for is told")
        time.sleep(0.5)
    assert steps_of("webhook", box.taken) == [
        ("incident-0", "on"),
        ("incident-0", "over"),
        ("incident-2", "on"),
        ("incident-2", "on"),
        ("incident-2", "over"),
    ]


def test_alertmanager_hears_again_of_what_goes_on(kafka: str, topic: str) -> None:
    """Before it takes it for over; also after a restart, and no longer when it is over."""
    settings = fresh(kafka, topic, partitions=1)
    quick = {"STREAM_DETECTOR_FORWARD__RENEW_EVERY": "300ms"}
    with receiving() as box:
        with forwarding(settings, "alertmanager", [box.url], **quick):
            wait_until_begun(settings)
            tell(settings, life(0)[:1])
            wait_until(lambda: len(box.taken) >= 3, "it is told again")
        before = len(box.taken)
        with forwarding(settings, "alertmanager", [box.url], **quick):
            wait_until(lambda: len(box.taken) >= before + 2, "it is told again after a restart")
            tell(settings, life(0)[2:])
            wait_until(lambda: steps_of("alertmanager", box.taken)[-1][1] == "over", "it is over")
            done = len(box.taken)
            time.sleep(1.5)
            assert len(box.taken) == done
    assert {path for _, path, _, _ in box.seen} == {"/api/v2/alerts"}


def test_what_is_no_alert_is_passed_over(kafka: str, topic: str) -> None:
    """It is said in the log, and the rest goes on."""
    settings = fresh(kafka, topic, partitions=1)
    with receiving() as box, forwarding(settings, "webhook", [box.url]) as process:
        wait_until_begun(settings)
        odd = [b"", b"no json", json.dumps({"alert_id": "x", "version": 9}).encode()]
        produce(settings, [Message(settings.alerts_topic, None, value) for value in odd])
        tell(settings, life(0))
        wait_until(lambda: len(box.taken) == 3, "the rest is told")
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
    assert said.count("is no alert that this version reads") == 3


def test_wrong_use_is_said_in_a_sentence(kafka: str, topic: str) -> None:
    """With exit code 2."""
    settings = fresh(kafka, topic, partitions=1)
    for arguments, words in (
        (("forward",), "say where to forward"),
        (("forward", "--to", "webhook"), "forward.urls_file"),
        (("forward", "--to", "webhook", "ftp://u:pw@host/x"), "ftp://host"),
        (("forward", "--to", "pagerduty"), "routing key"),
        (("forward", "--to", "webhook", "http://a", "http://b", "--name", "one"), "--name is for one"),
        (("forward", "--to", "webhook", "http://a", "--label", "x"), "line=3"),
        (("forward", "--to", "webhook", "http://a", "--severity", "bad"), "no severity"),
    ):
        done = run(settings, *arguments)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert "pw" not in done.stderr


def test_the_process_outlasts_hangs(kafka: str, topic: str) -> None:
    """A time-out is one attempt, not the end of the connection to the broker."""
    assert HANGS_S > 1
    settings = fresh(kafka, topic, partitions=1)
    with receiving(Inbox(moods=["hang"] * 2)) as box, forwarding(settings, "webhook", [box.url]):
        wait_until_begun(settings)
        tell(settings, life(0))
        wait_until(lambda: len(box.taken) == 3, "all is told")


def test_people_are_told_through_apprise(kafka: str, topic: str) -> None:
    """Of the beginning and the end, in words; a service that fails is asked again."""
    settings = fresh(kafka, topic, partitions=1)
    with receiving(Inbox(moods=[500])) as box, forwarding(settings, "apprise", [box.url.replace("http", "json", 1)]):
        wait_until_begun(settings)
        tell(settings, life(0))
        wait_until(lambda: len(box.taken) == 2, "people are told")
    assert [one["type"] for one in box.taken] == ["warning", "success"]
    assert box.taken[0]["title"] == "[warning] pump-7: vibration is high"
    assert "since 2026-01-09T04:10:00Z" in box.taken[0]["message"]


def test_the_ten_lines_of_the_readme_print_what_begins(kafka: str, topic: str) -> None:
    """Run as they stand, but for address, topic and group."""
    settings = fresh(kafka, topic, partitions=1)
    tell(settings, [*life(0), *life(1, "info"), *life(2)])
    code = README.partition("<!-- subscribe -->\n```python\n")[2].partition("```")[0]
    assert 0 < len(code.splitlines()) <= 10
    for given, mine in (("localhost:9092", kafka), ('"alerts"', f'"{settings.alerts_topic}"'), ("my-desk", topic)):
        assert given in code
        code = code.replace(given, mine)
    process = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2)]
    finally:
        process.kill()
        process.communicate()
    assert said == ["2026-01-09T04:10:00Z pump-7: vibration is high\n"] * 2
