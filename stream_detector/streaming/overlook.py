"""What a fleet does, seen from outside: what its workers have saved, and how much comes in.

Reads only, and disturbs nobody. Knows the store's keys and the topic of readings; not who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.settings import Settings
from stream_detector.streaming.decode import Decoder
from stream_detector.streaming.registry import Registry
from stream_detector.streaming.store import Store
from stream_detector.streaming.stored_rows import Meta
from stream_detector.streaming.topic_reader import TopicReader
from stream_detector.streaming.weights import Weights

SAMPLED = 20
"""Messages of a partition that are looked into."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What the workers have saved of all partitions together.

    taken: by partition, the first offset that is in no sensor's state. heard: by partition, the next answer to hear by
    partition of the topic of feedback. digests, channels: of the weights in use, and of the sensors.
    """

    sensors: int
    taken: Mapping[int, int]
    heard: Mapping[int, Mapping[str, int]]
    watermark_ms: int | None
    digests: frozenset[str]
    channels: frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class InUse:
    """Weights that judge sensors now. created: ISO 8601, empty where nothing was trained or the weights are unknown."""

    name: str
    version: str
    created: str


def overlook(settings: Settings, store: Store, partitions: Iterable[int]) -> Overview:
    """Ask the store; raises StoreError where it is away."""
    sensors, taken, heard = 0, dict[int, int](), dict[int, dict[str, int]]()
    marks, digests, channels = list[int](), set[str](), set[tuple[str, ...]]()
    for partition in partitions:
        glance = store.glance(settings.kafka.readings_topic, partition)
        if glance is None:
            continue
        meta = msgspec.json.decode(glance.meta, type=Meta)
        sensors += glance.sensors
        taken[partition], heard[partition] = glance.next_offset, meta.feedback
        marks += [] if meta.watermark_ms is None else [meta.watermark_ms]
        digests |= set(meta.models.values())
        channels |= {tuple(some) for some in meta.channels.values()}
    return Overview(sensors, taken, heard, max(marks, default=None), frozenset(digests), frozenset(channels))


def partition_of(settings: Settings, store: Store, partitions: Iterable[int], sensor_id: str) -> int | None:
    """The partition that holds a sensor's state; None where none does."""
    for partition in partitions:
        claim = store.look(settings.kafka.readings_topic, partition, [sensor_id])
        if claim is not None and claim.sensors:
            return partition
    return None


def weights_in_use(settings: Settings, registry: Registry, seen: Overview) -> list[InUse]:
    """The weights that the partitions name, with their age where they are still to be found."""
    weights, found = Weights(settings.detector.window, registry), dict[str, InUse]()
    models = dict.fromkeys([settings.detector.model, *(one.model for one in settings.sensors if one.model)])
    for model in models:
        for channels in seen.channels:
            try:
                artifact = weights.artifact(model, channels)
            except (ArtifactError, ConfigError):
                continue  # Other sensors' weights.
            if artifact.info.digest in seen.digests:
                found[artifact.info.digest] = InUse(artifact.info.name, artifact.info.version, artifact.created or "")
    unknown = seen.digests - found.keys()
    return [*found.values(), *(InUse("weights", digest.removeprefix("sha256:")[:12], "") for digest in sorted(unknown))]


def readings_a_message(reader: TopicReader, topic: str, bounds: Mapping[int, tuple[int, int]]) -> float:
    """How many readings a message holds, by the latest of each partition; 1 where there are none."""
    decoder = Decoder(lambda sensor_id, offered: tuple(sorted(offered)))
    ranges = {p: (max(first, end - SAMPLED), end) for p, (first, end) in bounds.items()}
    messages = readings = 0
    for fetched in reader.between(topic, ranges):
        messages += len(fetched.values)
        readings += sum(len(part.sensor) for part in decoder.decode(fetched.values).columns)
    return readings / messages if messages and readings else 1.0
