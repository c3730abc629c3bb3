"""`stream-detector dead-letters` against a real broker: the list, and the way back, each letter once."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import subprocess
from collections import Counter

import pytest

from stream_detector.settings import KafkaSettings
from stream_detector.streaming.envelope import dead_letter
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.topics import Record, end_offsets, produce, read_topic
from tests.integration.commands import COMMAND, PATIENCE_S, environment, fresh, run, start

BAD_TIME = "bad-time: 'x' is no time"
BAD_JSON = "invalid-json: it ends in the middle"


@pytest.fixture
def settings(kafka: str, topic: str) -> KafkaSettings:
    """Topics that hold nothing yet."""
    return fresh(kafka, topic)


def letter(settings: KafkaSettings, number: int, reason: str = BAD_TIME, **changes: object) -> Message:
    """A dead letter as the worker writes it; its value, key and own header hold its number."""
    plain = {
        "topic": settings.readings_topic,
        "partition": 1,
        "offset": number,
        "timestamp_ms": 1_767_571_200_000,
        "key": b"sensor-%d" % (number % 7),
        "value": b'{"number": %d}' % number,
        "headers": [("trace", b"%d" % number), ("x-reason", b"its own")],
    }
    return dead_letter(Record(**{**plain, **changes}), reason, settings.dead_letters_topic)  # type: ignore[arg-type]


def sent_back(settings: KafkaSettings) -> list[Record]:
    """What a reader of committed readings sees."""
    return list(read_topic(settings, settings.readings_topic))


def numbers(settings: KafkaSettings) -> Counter[int]:
    """The numbers of the letters that came back, and how often."""
    return Counter(json.loads(record.value or b"")["number"] for record in sent_back(settings))


def test_the_list(settings: KafkaSettings) -> None:
    """A table by reason with an example, then the latest with origin, reason and the beginning of the bytes."""
    produce(settings, [letter(settings, 0)])
    produce(settings, [letter(settings, n, f"odd[red]: \x1b[2J {n}", value=b"\xff\x1b[31m" * 500) for n in (1, 2)])
    produce(settings, [Message(settings.dead_letters_topic, None, b"no letter")])
    done = run(settings, "dead-letters", "--limit", 2)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "Dead letters (3)"
    rows = [line.split() for line in lines if line.startswith(("odd[red] ", "bad-time "))]
    assert [row[:3] for row in rows] == [["odd[red]", "2", "2"], ["bad-time", "1", "1"]]
    assert {"odd[red]: \\x1b[2J 2", "bad-time: 'x' is no time"} <= set(lines)
    latest = lines[lines.index("The latest 2:") + 1 :]
    assert [line.split(maxsplit=1)[1] for line in latest[0::2]] == [
        f"{settings.readings_topic}/1, offset {n} odd[red]: \\x1b[2J {n}" for n in (1, 2)
    ] + ["can be sent back after a fix: stream-detector dead-letters --replay"]
    assert latest[1].startswith("\\xff\\x1b[31m\\xff") and latest[1].endswith("...") and len(latest[1]) < 200
    assert latest[-1].startswith("3 can be sent back")
    assert "\x1b" not in done.stdout
    assert f"passed over: the message at {settings.dead_letters_topic}/" in done.stderr


def test_the_list_for_programs(settings: KafkaSettings) -> None:
    """One object a line, only those with the reason that is asked for; a forged header stays as it is."""
    binary, forged = letter(settings, 2, value=b"\xff\x00", key=None), letter(settings, 3)
    forged.headers[-4] = ("x-origin-partition", b"far away")
    produce(settings, [letter(settings, 1), binary, forged, letter(settings, 4, BAD_JSON)])
    done = run(settings, "dead-letters", "--json", "--reason", "bad-time")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = sorted(map(json.loads, done.stdout.splitlines()), key=lambda one: one["origin"]["offset"])
    origin = {"topic": settings.readings_topic, "partition": 1, "offset": 1, "timestamp": "2026-01-05T00:00:00Z"}
    assert first["origin"] == origin
    assert (first["reason"], first["replayed"]) == (BAD_TIME, False)
    assert (first["key"], first["value"]) == ("sensor-1", '{"number": 1}')
    assert second["key"] is None and base64.b64decode(second["value_base64"]) == b"\xff\x00"
    assert third["origin"]["partition"] == "far away"


def test_letters_go_back_once_and_unchanged(settings: KafkaSettings) -> None:
    """A second replay sends what came since; letters of other topics are refused, whatever their headers say."""
    produce(settings, [letter(settings, n) for n in range(20)])
    produce(settings, [letter(settings, 20, topic=settings.alerts_topic), letter(settings, 21, topic="nowhere")])
    produce(settings, [letter(settings, 22, value=None), Message(settings.dead_letters_topic, None, b"no letter")])
    done = run(settings, "dead-letters", "--replay", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"sent back to {settings.readings_topic}: 21",
        "refused, for they came from nowhere: 1 (only letters of kafka.readings_topic are sent)",
        f"refused, for they came from {settings.alerts_topic}: 1 (only letters of kafka.readings_topic are sent)",
        f"passed over, for they are no dead letters: 1 in {settings.dead_letters_topic}",
    ]
    assert list(read_topic(settings, settings.alerts_topic)) == []
    found = {(record.key, record.value, tuple(record.headers)) for record in sent_back(settings)}
    assert found == {
        (
            b"sensor-%d" % (n % 7),
            None if n == 22 else b'{"number": %d}' % n,
            (("trace", b"%d" % n), ("x-reason", b"its own")),
        )
        for n in (*range(20), 22)
    }
    produce(settings, [letter(settings, n) for n in (30, 31)])
    done = run(settings, "dead-letters", "--replay", "--yes")
    assert done.stdout == f"sent back to {settings.readings_topic}: 2\n"
    assert len(sent_back(settings)) == 23
    moved = settings.model_copy(update={"readings_topic": settings.alerts_topic})
    done = run(moved, "dead-letters", "--replay", "--yes")
    assert done.stdout.startswith(f"sent back to {settings.alerts_topic}: 1\n"), "refused is not decided"


def test_a_replay_of_one_reason_leaves_the_others(settings: KafkaSettings) -> None:
    """The others are sent by a later replay, those that were sent are not sent again, in whatever order."""
    produce(settings, [letter(settings, n, (BAD_TIME, BAD_JSON)[n % 2]) for n in range(10)])
    said = f"sent back to {settings.readings_topic}: "
    assert run(settings, "dead-letters", "--replay", "--yes", "--reason", "bad-time").stdout == f"{said}5\n"
    produce(settings, [letter(settings, n, (BAD_TIME, BAD_JSON)[n % 2]) for n in range(10, 14)])
    listed = run(settings, "dead-letters", "--json").stdout.splitlines()
    assert {json.loads(line)["origin"]["offset"] for line in listed if json.loads(line)["replayed"]} == {0, 2, 4, 6, 8}
    assert run(settings, "dead-letters", "--replay", "--yes").stdout == f"{said}9\n"
    assert run(settings, "dead-letters", "--replay", "--yes", "--reason", "invalid-json").stdout == f"{said}0\n"
    assert numbers(settings) == Counter(range(14))


def test_a_killed_replay_is_finished_by_the_next(settings: KafkaSettings) -> None:
    """Killed at any moment, begun again: every letter is there once among the committed readings."""
    total = 30_000
    produce(settings, [letter(settings, n) for n in range(total)])
    before = 0
    for more in (1, 2_000):
        process = start(settings, "dead-letters", "--replay", "--yes")
        while sum(end_offsets(settings, settings.readings_topic).values()) <= before + more:
            assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        found = len(sent_back(settings))
        assert before < found < total, "it was not killed in the middle"
        before = sum(end_offsets(settings, settings.readings_topic).values())
    done = run(settings, "dead-letters", "--replay", "--yes")
    assert done.stdout == f"sent back to {settings.readings_topic}: {total - found:,}\n"
    assert numbers(settings) == Counter(range(total))


def test_a_replay_that_was_overtaken_sends_nothing_more(settings: KafkaSettings) -> None:
    """Stopped in the middle and continued after another one has finished, it ends with an error."""
    total = 30_000
    produce(settings, [letter(settings, n) for n in range(total)])
    older = start(settings, "dead-letters", "--replay", "--yes")
    while not sum(end_offsets(settings, settings.readings_topic).values()):
        assert older.poll() is None, older.communicate()
    older.send_signal(signal.SIGSTOP)
    assert run(settings, "dead-letters", "--replay", "--yes").returncode == 0
    older.send_signal(signal.SIGCONT)
    out, err = older.communicate(timeout=PATIENCE_S)
    assert (older.returncode, out) == (1, ""), "it was not stopped in the middle"
    # A stop that is longer than a transaction may take is told as that.
    assert "error: another replay of these dead letters has begun" in err or "took longer than" in err
    assert numbers(settings) == Counter(range(total))


def test_it_asks_before_it_sends(settings: KafkaSettings) -> None:
    """On a terminal a person must say yes; without a terminal --yes must be given."""
    produce(settings, [letter(settings, 0)])
    done = run(settings, "dead-letters", "--replay")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --replay asks before it sends, and there is no terminal to ask on: add --yes\n"
    assert "Nothing was sent." in answered(settings, b"\n")
    assert sent_back(settings) == []
    said = answered(settings, b"y\n")
    assert f"(at most 1) back to {settings.readings_topic}? [y/N]" in said
    assert f"sent back to {settings.readings_topic}: 1" in said
    assert numbers(settings) == Counter([0])


def answered(settings: KafkaSettings, answer: bytes) -> str:
    """What a replay says on a terminal where a person gives this answer."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "dead-letters", "--replay"], env=environment(settings), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.write(ours, answer)
    assert process.wait(timeout=PATIENCE_S) == 0
    said = os.read(ours, 65_536).decode()
    os.close(ours)
    os.close(theirs)
    return said
