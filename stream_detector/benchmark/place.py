"""Topics, a group and keys that a run has for itself, and that are gone when it ends.

A benchmark may be given a broker and a store that others use: it makes names that nobody else has, and removes what it
made, also when it is interrupted.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import kafka.errors as foreign
from kafka import KafkaAdminClient

from stream_detector.benchmark.plan import Plan
from stream_detector.errors import StreamDetectorError
from stream_detector.settings import KafkaSettings, RedisSettings, Settings
from stream_detector.streaming.kafka_client import common_options, connected
from stream_detector.streaming.store.connection import Link, Patience
from stream_detector.streaming.store.keys import PartitionKeys
from stream_detector.streaming.topics import ensure_topics

logger = logging.getLogger(__name__)


@contextmanager
def own_place(settings: Settings, plan: Plan) -> Iterator[Settings]:
    """The settings of one worker with topics, a group and keys of its own, while the block lasts."""
    name = f"stream-detector-benchmark-{uuid.uuid4().hex[:12]}"
    kafka = settings.kafka.model_copy(
        update={
            "group_id": name,
            "readings_topic": f"{name}-readings",
            "alerts_topic": f"{name}-alerts",
            "dead_letters_topic": f"{name}-dead-letters",
            "feedback_topic": f"{name}-feedback",
            "events_topic": f"{name}-events",
        }
    )
    own = settings.model_copy(
        update={
            "kafka": kafka,
            "redis": settings.redis.model_copy(update={"prefix": name}),
            "worker": settings.worker.model_copy(update={"slot": name}),
            "detector": settings.detector.model_copy(update={"window": plan.window, "stride": plan.stride}),
            "sensors": (),
        }
    )
    others = (kafka.alerts_topic, kafka.dead_letters_topic, kafka.feedback_topic, kafka.events_topic)
    try:
        ensure_topics(kafka, {kafka.readings_topic: plan.partitions, **dict.fromkeys(others, 1)})
        yield own
    finally:
        try:
            _remove_topics(kafka, (kafka.readings_topic, *others))
            _remove_keys(own.redis)
        except (StreamDetectorError, foreign.KafkaError) as error:
            logger.warning("what the benchmark made under the name %s could not be removed: %s", name, error)


def stored_bytes(settings: Settings, plan: Plan, shape: str) -> int:
    """Bytes that the store keeps for the rows of all sensors, its own bookkeeping included."""
    kafka, link = settings.kafka, Link(settings.redis, Patience())
    try:
        keys = [
            PartitionKeys(settings.redis.prefix, kafka.group_id, kafka.readings_topic, partition).sensors(shape)
            for partition in range(plan.partitions)
        ]
        return sum(int(link.patiently(lambda key=key: link.client.memory_usage(key)) or 0) for key in keys)  # type: ignore[misc]
    finally:
        link.close()


def _remove_topics(kafka: KafkaSettings, names: tuple[str, ...]) -> None:
    admin = connected(kafka, KafkaAdminClient, common_options(kafka))
    try:
        there = set(admin.list_topics())
        admin.delete_topics([name for name in names if name in there])
        admin.delete_groups([kafka.group_id])
    finally:
        admin.close()


def _remove_keys(redis: RedisSettings) -> None:
    link = Link(redis, Patience())
    try:
        # One by one: the keys of different partitions may be on different nodes. There are a few for each partition.
        for key in link.patiently(lambda: list(link.client.scan_iter(match=f"{redis.prefix}:*", count=1_000))):
            link.patiently(lambda key=key: link.client.unlink(key))  # type: ignore[misc]
    finally:
        link.close()
