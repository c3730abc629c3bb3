"""`stream-detector alerts` against a real broker."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from stream_detector.local import LocalKafka
from stream_detector.records import Alert
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.envelope import alert_message
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.topics import ensure_topics, produce
from tests import alerts
from tests.integration.commands import PATIENCE_S, fresh, run, start


@pytest.fixture
def settings(kafka: str, topic: str) -> KafkaSettings:
    """Topics with one partition: what is printed has one order."""
    return fresh(kafka, topic, partitions=1)


alert = partial(
    alerts.alert,
    summary="pump-7: vibration is 7.2 where 1.9 to 3.4 was expected",
    detected_at="2026-01-10T00:00:00Z",
)


def tell(settings: KafkaSettings, *alerts: Alert) -> list[str]:
    """Send alerts; their records as text."""
    messages = [alert_message(one, settings.alerts_topic) for one in alerts]
    produce(settings, messages)
    return [(message.value or b"").decode() for message in messages]


@contextmanager
def following(settings: KafkaSettings, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, once it says that it follows; killed at the end if it is still there."""
    process = start(settings, "alerts", *arguments)
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(f"following {settings.alerts_topic} on Kafka at ")
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line that is printed; the whole test has a time limit."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_a_line_an_alert(settings: KafkaSettings) -> None:
    """Event time, severity, event, sensor or group, summary, lasting; what is no alert is named and passed."""
    tell(
        settings,
        alert(),
        alert(event="opened", severity="error", group="hall 3", members=["a", "b"], summary="hall 3: 2 sensors, hot"),
        alert(
            event="closed",
            status="resolved",
            close_reason="recovered",
            ends_at="2026-01-09T04:11:30Z",
            summary="pump-7 is back to normal after 1 min 30 s",
        ),
        alert(kind="sensor_silent", severity="info", summary="pump-7 has stopped sending readings"),
    )
    produce(
        settings, [Message(settings.alerts_topic, None, b'{"alert_id": 3}'), Message(settings.alerts_topic, b"k", None)]
    )
    tell(settings, alert(sensor_id="[red]x\x1b[2J", summary="[red]x\x1b[2J: \u202e[bold]:smile: a\nb"))
    done = run(settings, "alerts", "--no-follow")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "2026-01-09T04:12:00Z  warning   updated  pump-7  vibration is 7.2 where 1.9 to 3.4 was expected  (for 2 min)",
        "2026-01-09T04:12:00Z  error     opened   hall 3 (2 sensors)  2 sensors, hot  (for 2 min)",
        "2026-01-09T04:12:00Z  warning   closed   pump-7  is back to normal after 1 min 30 s",
        "2026-01-09T04:12:00Z  info      updated  pump-7  has stopped sending readings  [sensor_silent]  (for 2 min)",
        "2026-01-09T04:12:00Z  warning   updated  [red]x\\x1b[2J  \\u202e[bold]:smile: a\\nb  (for 2 min)",
    ]
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{settings.alerts_topic}/0, offset 4: no alert, passed over (")
    assert second.startswith(f"{settings.alerts_topic}/0, offset 5: no alert, passed over (")


def test_the_records_as_they_are_and_only_those_asked_for(settings: KafkaSettings) -> None:
    """--json prints the bytes that were sent; sensor, severity and kind must all fit."""
    wanted = alert(sensor_id="line-1", severity="critical", summary="ü\n")
    group = alert(sensor_id="pump-9", severity="error", group="hall", members=["line-2", "pump-9"])
    others = (
        alert(sensor_id="pump-1", severity="critical"),
        alert(sensor_id="line-1", severity="warning"),
        alert(sensor_id="line-1", severity="critical", kind="value_stuck"),
    )
    first, *_, last = tell(settings, wanted, *others, group)
    asked = ("--sensor", "line-*", "--severity", "error", "--kind", "anomaly")
    done = run(settings, "alerts", "--json", "--from-beginning", "--no-follow", *asked)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [first, last], "")


def test_it_follows_what_is_committed_from_now_on(settings: KafkaSettings) -> None:
    """Neither what was there before, nor what was aborted, nor what is still pending; Ctrl-C ends it with 130."""
    tell(settings, alert(seq=0))
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id=settings.alerts_topic)
    producer.init_transactions()
    with following(settings, "--json") as process:
        for seq, end in ((1, producer.abort_transaction), (2, producer.commit_transaction)):
            producer.begin_transaction()
            producer.send(settings.alerts_topic, alert_message(alert(seq=seq), "").value).get(timeout=10)
            end()
        assert msgspec.json.decode(next_line(process))["seq"] == 2
        (third,) = tell(settings, alert(seq=3))
        assert next_line(process) == third
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    producer.close()
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_it_ends_when_its_reader_has_seen_enough(settings: KafkaSettings, form: list[str]) -> None:
    """A closed pipe ends it quietly, even when no further alert comes."""
    tell(settings, alert())
    with following(settings, "--from-beginning", *form) as process:
        assert "pump-7" in next_line(process)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=PATIENCE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_wrong_words_and_topics(settings: KafkaSettings) -> None:
    """A level that there is not, and a topic that there is not, are told in a sentence."""
    done = run(settings, "alerts", "--severity", "bad")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no severity 'bad': choose one of info, warning, error, critical\n"
    done = run(settings.model_copy(update={"alerts_topic": "no-such-topic"}), "alerts")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no topic no-such-topic on Kafka at ")


def test_it_waits_for_a_broker_that_is_away(tmp_path: Path) -> None:
    """Killed while it is followed, the broker comes back, and so do the alerts; the outage is told once.

    At the start, a broker that is not there ends the command.
    """
    with LocalKafka(tmp_path / "kafka") as broker:
        settings = KafkaSettings(bootstrap_servers=broker.address)
        ensure_topics(settings, {settings.alerts_topic: 1})
        with following(settings, "--json") as process:
            (first,) = tell(settings, alert(seq=0))
            assert next_line(process) == first
            broker.kill()
            assert process.stderr is not None
            waiting = f"Kafka at {broker.address} is away: waiting, and going on when it is back\n"
            assert process.stderr.readline() == waiting
            time.sleep(2)
            broker.start()
            (second,) = tell(settings, alert(seq=1))
            assert next_line(process) == second
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENCE_S) == ("", "")
    done = run(settings, "alerts")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: Kafka at {settings.bootstrap_servers} cannot be reached")
    assert done.stderr.count("\n") == 1
