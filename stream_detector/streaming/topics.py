"""Topics as a whole: create them, read one from a place to its end, send to one.

For commands and for starting up; a worker reads its readings with a Transport. Knows nothing of consumer groups and
commits nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import kafka.errors as foreign
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.structs import TopicPartition

from stream_detector.errors import ConfigError, TransportError
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.kafka_client import (
    REQUEST_TIMEOUT_MS,
    Message,
    common_options,
    connected,
    consumer_options,
)
from stream_detector.streaming.kafka_errors import translated, translating
from stream_detector.streaming.publisher import produce

__all__ = ["Message", "Record", "end_offsets", "ensure_topics", "produce", "read_topic"]

POLL_MS = 200
STALLED_S = 30.0
RECORDS_A_POLL = 5_000
BROKERS_CHOICE = -1
"""As many partitions, or replicas, as the broker is set to."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message as it lies in its topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def ensure_topics(
    kafka: KafkaSettings, partitions: Mapping[str, int], configs: Mapping[str, str] | None = None
) -> frozenset[str]:
    """Create the topics that are missing, with so many partitions (-1: the broker's choice); which were created.

    A topic that is there stays as it is. Two processes may do this at the same time. `configs` are the new topics'.
    """
    admin = connected(kafka, KafkaAdminClient, common_options(kafka))
    try:
        with translating(kafka, f"looking for the topics {', '.join(partitions)}"):
            missing = sorted(set(partitions) - set(admin.list_topics()))
        created = {name for name in missing if _create(kafka, admin, name, partitions[name], dict(configs or {}))}
        with translating(kafka, "waiting for new topics"):
            admin.wait_for_topics(missing)
    finally:
        admin.close()
    return frozenset(created)


def _create(kafka: KafkaSettings, admin: Any, name: str, partitions: int, configs: dict[str, str]) -> bool:
    wanted = {"num_partitions": partitions, "replication_factor": BROKERS_CHOICE, "configs": configs}
    try:
        admin.create_topics({name: wanted}, timeout_ms=REQUEST_TIMEOUT_MS)
    except foreign.TopicAlreadyExistsError:
        return False  # Another process was quicker.
    except (foreign.AuthorizationError, foreign.PolicyViolationError) as error:
        raise ConfigError(
            f"the topic {name} does not exist and Kafka at {kafka.bootstrap_servers} does not let this user create it: "
            "create it, or give the user the right to"
        ) from error
    except (
        foreign.InvalidPartitionsError,
        foreign.InvalidReplicationFactorError,
        foreign.InvalidConfigurationError,
    ) as error:
        raise ConfigError(f"the topic {name} cannot be created with {wanted}: {error}") from error
    except foreign.KafkaError as error:
        raise translated(error, kafka, f"creating the topic {name}") from error
    return True


def end_offsets(kafka: KafkaSettings, topic: str) -> dict[int, int]:
    """Partition -> the offset after the last message that is decided (committed, or outside transactions)."""
    consumer = connected(kafka, KafkaConsumer, consumer_options(kafka))
    try:
        places = _places(kafka, consumer, topic, None)
        return {place.partition: end for place, end in _ends(kafka, consumer, places).items()}
    finally:
        consumer.close(autocommit=False)


def read_topic(
    kafka: KafkaSettings,
    topic: str,
    *,
    from_beginning: bool = True,
    follow: bool = False,
    partitions: frozenset[int] | None = None,
    from_offsets: Mapping[int, int] | None = None,
) -> Iterator[Record]:
    """Committed messages, each partition in order, to the end as it is now; with `follow`, for ever.

    A partition begins at `from_offsets` where that names it, else at its first message, or, with `from_beginning`
    False, at its end. Closing the iterator closes the connection. Raises TransportError when the broker stays away.
    """
    consumer = connected(kafka, KafkaConsumer, consumer_options(kafka) | {"auto_offset_reset": "earliest"})
    try:
        places = _places(kafka, consumer, topic, partitions)
        consumer.assign(places)
        ends = _ends(kafka, consumer, places)
        for place in places:
            if from_offsets and place.partition in from_offsets:
                consumer.seek(place, from_offsets[place.partition])
            elif from_beginning:
                consumer.seek_to_beginning(place)
            else:
                consumer.seek(place, ends[place])
        yield from _read(kafka, consumer, {} if follow else ends, follow)
    finally:
        consumer.close(autocommit=False)


def _read(kafka: KafkaSettings, consumer: Any, ends: dict[TopicPartition, int], follow: bool) -> Iterator[Record]:
    moved = time.monotonic()
    before: list[int | None] = []
    while True:
        with translating(kafka, "reading"):
            polled = consumer.poll(timeout_ms=POLL_MS, max_records=RECORDS_A_POLL)
        for place, records in polled.items():
            end = ends.get(place)
            for one in records:
                if end is None or one.offset < end:
                    yield Record(
                        place.topic, place.partition, one.offset, one.timestamp, one.key, one.value, one.headers
                    )
            if end is not None and records[-1].offset >= end:
                consumer.pause(place)
        if follow:
            continue
        with translating(kafka, "reading"):
            # The last offsets may be marks of transactions, which are passed without a message.
            positions = [consumer.position(place, timeout_ms=REQUEST_TIMEOUT_MS) for place in ends]
        if all(at is not None and at >= end for at, end in zip(positions, ends.values(), strict=True)):
            return
        if positions != before:
            moved, before = time.monotonic(), positions
        elif time.monotonic() - moved > STALLED_S:
            raise TransportError(
                f"reading stands still: Kafka at {kafka.bootstrap_servers} has not answered for {STALLED_S:.0f} s; "
                "check whether it runs"
            )


def _places(kafka: KafkaSettings, consumer: Any, topic: str, partitions: frozenset[int] | None) -> list[TopicPartition]:
    with translating(kafka, f"looking for the topic {topic}"):
        there = consumer.partitions_for_topic(topic)
    if not there:
        raise TransportError(f"there is no topic {topic} on Kafka at {kafka.bootstrap_servers}: check its name")
    if partitions is not None and not partitions <= there:
        raise ConfigError(f"the topic {topic} has partitions 0 to {max(there)} only, not {max(partitions - there)}")
    return [TopicPartition(topic, partition) for partition in sorted(there if partitions is None else partitions)]


def _ends(kafka: KafkaSettings, consumer: Any, places: list[TopicPartition]) -> dict[TopicPartition, int]:
    with translating(kafka, "reading the ends of partitions"):
        ends: dict[TopicPartition, int] = consumer.end_offsets(places, timeout_ms=STALLED_S * 1000)
    return ends
