"""What the trainer tells on the topic of events. Knows how an event is written; not when there is one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stream_detector.errors import StreamDetectorError
from stream_detector.records import format_time
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.registry import Line
from stream_detector.streaming.topics import ensure_topics, produce

logger = logging.getLogger(__name__)
BROKERS_CHOICE = -1


class Events:
    """Tells events; clock: seconds since 1970."""

    def __init__(self, kafka: KafkaSettings, clock: Callable[[], float]) -> None:
        self._kafka, self._clock = kafka, clock

    def tell(self, kind: str, line: Line, digest: str, more: Mapping[str, Any]) -> None:
        """Publish an event; where that fails it is said, and nothing else is held up."""
        event = {
            "type": kind,
            "at": format_time(round(self._clock() * 1000)),
            "line": {"key": line.key, "model": line.model, "channels": list(line.channels)},
            "digest": f"sha256:{digest}",
            **more,
        }
        kafka = self._kafka
        headers = [("content-type", b"application/json")]
        try:
            ensure_topics(kafka, {kafka.events_topic: BROKERS_CHOICE})
            produce(kafka, [Message(kafka.events_topic, line.key.encode(), msgspec.json.encode(event), headers)])
        except StreamDetectorError as error:
            logger.warning("%s: that it is %s could not be told: %s", line, kind, error)
