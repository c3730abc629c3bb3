"""Messages that nobody should send, among good ones: none stops the worker, none is lost, none changes an alert."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kafka import KafkaProducer

from stream_detector.packed import HEADER, MAGIC, pack
from stream_detector.settings import Settings
from stream_detector.streaming.envelope import reason_of, restored
from stream_detector.streaming.topics import ensure_topics, read_topic
from tests.integration.streams import (
    START_MS,
    Stream,
    alerts_of,
    by_incident,
    drain,
    make_topics,
    plant,
    send,
    settings_for,
    weights,
)

SENSORS, PARTITIONS = 20, 3
LARGE_BYTES = 5_000_000
ROOM_BYTES = "6000000"
REASONS = {
    "bad-channel",
    "bad-sensor-id",
    "bad-time",
    "empty-message",
    "invalid-json",
    "invalid-packed",
    "missing-field",
    "not-finite",
    "too-large",
    "too-many-channels",
    "unknown-channel",
    "wrong-length",
    "wrong-type",
}
Bad = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]
Make = Callable[[np.random.Generator, bytes], bytes | None]


def reading(**changed: object) -> bytes:
    """A message that would be good for pump-1 but for what is changed in it."""
    return json.dumps({"sensor_id": "pump-1", "timestamp": START_MS, "value": 99.0} | changed).encode()


def truncated(rng: np.random.Generator, good: bytes) -> bytes:
    """The beginning of a good message."""
    return good[: int(rng.integers(1, len(good)))]


def of_a_wrong_type(rng: np.random.Generator, good: bytes) -> bytes:
    """A field, or all of it, is something else than it should be."""
    odd = [True, [], [1], {}, {"a": "b"}, "1.5", "x"][int(rng.integers(7))]
    wrong = [
        reading(value=odd if odd not in ("x",) else "NaN"),
        reading(sensor_id=odd if not isinstance(odd, str) else 7),
        reading(sensor_id=None),
        reading(timestamp=odd if not isinstance(odd, str) else "yesterday"),
        reading(timestamp=None),
        reading(values=odd if odd != {} else 5),
        reading(values={"value": odd}),
        json.dumps(odd if not isinstance(odd, dict) else None).encode(),
        reading(timestamps=odd if odd != [1] else 1, values=[1.0]),
    ]
    return wrong[int(rng.integers(len(wrong)))]


def huge(rng: np.random.Generator, good: bytes) -> bytes:
    """Numbers beyond all measure."""
    wrong = [
        b'{"sensor_id": "pump-1", "timestamp": 1760000000000, "value": 1e999}',
        b'{"sensor_id": "pump-1", "timestamp": 1760000000000, "value": -1e400}',
        reading(value=10**400),
        reading(timestamp=10**30),
        reading(timestamp=-(10**30)),
        b'{"sensor_id": "pump-1", "timestamp": 1e999, "value": 1}',
        b'{"sensor_id": "pump-1", "value": 1, "timestamp": 1' + b"0" * 5000 + b"}",
        b'{"sensor_id": "fan-2", "timestamp": 1760000000000, "values": {"a": 1, "b": 1e309}}',
    ]
    return wrong[int(rng.integers(len(wrong)))]


def deep(rng: np.random.Generator, good: bytes) -> bytes:
    """Lists and objects in each other, closed or not."""
    depth = int(rng.choice([50, 1_000, 5_000, 100_000]))
    lists, objects = b"[" * depth, b'{"a":' * depth
    head = b'{"sensor_id": "pump-1", "timestamp": 1760000000000, "value": '
    wrong = [lists, lists + b"]" * depth, objects, objects + b"1" + b"}" * depth, head + lists + b"]" * depth + b"}"]
    return wrong[int(rng.integers(len(wrong)))]


def not_text(rng: np.random.Generator, good: bytes) -> bytes:
    """Invalid UTF-8 in a name, and names that are no names."""
    rest = b'", "timestamp": 1760000000000, "value": 1}'
    names = (
        b"pump-\xff",
        b"\xc3\x28",
        b"pump-\xed\xa0\x80",
        b"\xf8\xa1\xa1\xa1\xa1",
        b"",
        b"  ",
        b"a\\u0000b",
        b"n" * 600,
    )
    return b'{"sensor_id": "' + names[int(rng.integers(len(names)))] + rest


def of_a_wrong_shape(rng: np.random.Generator, good: bytes) -> bytes:
    """Fields that are missing, or do not go together."""
    many: dict[str, object] = {"sensor_id": "pump-1", "timestamps": [START_MS, START_MS + 1], "values": [1.0]}
    wrong: list[dict[str, object]] = [
        {"sensor_id": "pump-1"},
        {"timestamp": START_MS, "value": 1},
        {"sensor_id": "pump-1", "value": 1},
        {"sensor_id": "fan-2", "timestamp": START_MS, "values": {"a": 1, "zz": 2}},
        {"sensor_id": "pump-1", "timestamp": START_MS, "values": {f"c{i}": i for i in range(200)}},
        {"sensor_id": "pump-1", "timestamp": START_MS, "values": {"": 1}},
        {"sensor_id": "pump-1", "timestamp": START_MS, "values": [1.0]},
        many,
        many | {"timestamps": []},
        many | {"values": [[1.0], [2.0, 3.0]]},
        many | {"values": [1.0, 2.0], "channels": ["a", "a"]},
    ]
    return json.dumps(wrong[int(rng.integers(len(wrong)))]).encode()


def packed_wrong(rng: np.random.Generator, good: bytes) -> bytes:
    """Packed columns that are cut off, too long, or of a header that lies."""
    made = pack(["pump-1", "pump-3"], [START_MS, START_MS + 1, START_MS + 2], [1.0, 2.0, 3.0], sensor=[0, 1, 0])
    fields = list(HEADER.unpack_from(made))
    field = int(rng.integers(1, len(fields)))
    fields[field] = int(rng.integers(0, 200)) + (fields[field] + 1 if field != 2 else 9)
    fields[field] %= 256 if field in (1, 2) else 2**16
    lies = HEADER.pack(*fields) + made[HEADER.size :]
    wrong = [
        made[: int(rng.integers(4, len(made)))],
        made + rng.bytes(int(rng.integers(1, 50))),
        lies if lies != made else made[:-1],
        MAGIC + rng.bytes(int(rng.integers(0, 100))),
        made[:-4] + (7).to_bytes(4, "little"),
        made.replace(b"pump-1", b"pump\xff1"),
        pack(["pump-1"], [START_MS, -5], [1.0, 2.0]),
        pack(["pump-1"], [START_MS], [1.0])[:-8] + np.float64(np.inf).tobytes(),
        pack(["fan-2", "fan-4"], [START_MS, START_MS], [[1, 2], [3, 4]], ["a", "zz"], [0, 1]),
        pack(["pump-1", " "], [START_MS, START_MS], [1.0, 2.0], sensor=[0, 1]),
        pack(["pump-1"], [START_MS], [range(200)], [f"c{i}" for i in range(200)]),
    ]
    return wrong[int(rng.integers(len(wrong)))]


def large(rng: np.random.Generator, good: bytes) -> bytes:
    """Good JSON, but more of it than a message may have."""
    return reading(comment="x" * LARGE_BYTES)


KINDS: tuple[Make, ...] = (
    lambda rng, good: rng.bytes(int(rng.integers(1, 300))),
    truncated,
    of_a_wrong_type,
    huge,
    deep,
    not_text,
    of_a_wrong_shape,
    packed_wrong,
    lambda rng, good: [None, b"", b"{}", b"null", b"   "][int(rng.integers(5))],
)


@dataclass(frozen=True)
class Fuzz:
    """Good messages, and the bad ones with the number of good ones that go before each."""

    stream: Stream
    bad: Sequence[Bad]
    places: Sequence[int]


def fuzz(good: int, bad: int, seed: int = 0) -> Fuzz:
    """So many of each, about; exactly one of the bad ones is of 5 MB."""
    rng = np.random.default_rng(seed)
    stream = plant(SENSORS, good // SENSORS, PARTITIONS)
    places = np.sort(rng.integers(0, len(stream.messages), bad)).tolist()
    messages: list[Bad] = []
    for number, place in enumerate(places):
        _, key, value = stream.messages[place]
        make = large if number == bad // 2 else KINDS[number % len(KINDS)]
        headers = [("trace", rng.bytes(4))] if number % 3 else []
        odd_key = [key, None, b"", rng.bytes(9)][number % 4]
        odd = make(rng, value)
        if odd is None and odd_key is None:  # the client sends no message without both
            odd_key = b"k"
        messages.append((int(rng.integers(PARTITIONS)), odd_key, odd, headers))
    return Fuzz(stream, messages, places)


def send_mixed(settings: Settings, mixed: Fuzz, with_bad: bool) -> None:
    """Put the messages on the readings topic in their order, the bad ones in between or left out."""
    topic = settings.kafka.readings_topic
    bad = list(zip(mixed.places, mixed.bad, strict=True)) if with_bad else []
    producer = KafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20, acks="all", max_request_size=10_000_000
    )
    at = 0
    for number, (partition, key, value) in enumerate(mixed.stream.messages):
        while at < len(bad) and bad[at][0] <= number:
            other, odd_key, odd, headers = bad[at][1]
            producer.send(topic, key=odd_key, value=odd, partition=other, headers=headers)
            at += 1
        producer.send(topic, key=key, value=value, partition=partition)
    producer.flush()
    producer.close()


def dead_letters(settings: Settings) -> tuple[dict[int, list[Bad]], Counter[str]]:
    """The dead letters as they were, by the partition that they came from; and how often each reason was given."""
    found: dict[int, list[Bad]] = {partition: [] for partition in range(PARTITIONS)}
    reasons: Counter[str] = Counter()
    for record in read_topic(settings.kafka, settings.kafka.dead_letters_topic):
        was = restored(record)
        origin = int(dict(record.headers)["x-origin-partition"])
        found[origin].append((origin, was.key, was.value, [*was.headers]))
        reasons[reason_of(record).partition(":")[0]] += 1
    return found, reasons


def run(kafka: str, redis_url: str, topic: str, directory: Path, good: int, bad: int) -> tuple[Fuzz, Counter[str], int]:
    """Send good and bad to one worker and the good alone to another, and hold what they tell against each other.

    What was sent, the reasons of the dead letters, and the number of alerts; raises AssertionError.
    """
    mixed, made = fuzz(good, bad), weights(directory)
    told = []
    for name, with_bad in (("mixed", True), ("clean", False)):
        settings = settings_for(kafka, redis_url, f"{topic}-{name}", made)
        room = {"max.message.bytes": ROOM_BYTES}
        ensure_topics(settings.kafka, {settings.kafka.readings_topic: PARTITIONS}, room)
        ensure_topics(settings.kafka, {settings.kafka.dead_letters_topic: 1}, room)
        make_topics(settings, PARTITIONS)
        send_mixed(settings, mixed, with_bad)
        worker = drain(settings, PARTITIONS, limit_s=60 + good / 500)
        assert worker.counts.errors == 0
        told.append(by_incident(alerts_of(settings)))
        letters, reasons = dead_letters(settings)
        expected = [one for one in mixed.bad if with_bad]
        for partition, came in letters.items():
            assert came == [one for one in expected if one[0] == partition]
        if with_bad:
            said = reasons
    assert told[0] == told[1]
    return mixed, said, sum(map(len, told[0].values()))


def test_bad_messages_change_nothing(kafka: str, redis_url: str, topic: str, tmp_path: Path) -> None:
    """Every bad message is in the dead-letter topic, untouched and in order; the good ones' alerts are the same."""
    _, reasons, alerts = run(kafka, redis_url, topic, tmp_path, 3_000, 300)
    assert alerts > 10
    assert reasons["too-large"] == 1
    assert set(reasons) == REASONS


def test_readings_from_the_far_future_change_nothing_else(
    kafka: str, redis_url: str, topic: str, tmp_path: Path
) -> None:
    """They are dead letters, wherever they lie in a large batch; their sensors are told of, and nothing else is."""
    good, made = plant(SENSORS, 150, PARTITIONS).messages, weights(tmp_path)
    late = json.dumps({"sensor_id": "pump-3", "timestamp": 4_000_000_000_000, "value": 50.0}).encode()
    told = {}
    for name, every in (("mixed", 40), ("clean", len(good) + 1)):
        settings = settings_for(kafka, redis_url, f"{topic}-{name}", made)
        make_topics(settings, PARTITIONS)
        mixed = []
        for number, message in enumerate(good, 1):
            mixed += [message, (0, b"pump-3", late)] if number % every == 0 else [message]
        send(settings, mixed)
        drain(settings, PARTITIONS)
        letters, reasons = dead_letters(settings)
        told[name] = [alert for alert in alerts_of(settings) if alert.kind != "clock_skewed"]
        count = len(mixed) - len(good)
        assert [value for _, _, value, _ in letters[0]] == [late] * count
        assert reasons == ({"far-future": count} if count else {})
        assert (len(alerts_of(settings)) > len(told[name])) == bool(count)
    assert by_incident(told["mixed"]) == by_incident(told["clean"])
