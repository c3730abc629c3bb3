"""What a receiver did not take: kept in a topic, with the receiver and the reason, until it is sent again.

A consumer group of the receiver remembers how far it was sent again. The steps of an incident have one key, and so
stay in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from stream_detector.errors import DataError
from stream_detector.records import Alert, encode
from stream_detector.settings import KafkaSettings
from stream_detector.streaming import answers_file
from stream_detector.streaming.forward.receiver import Receiver, attempt
from stream_detector.streaming.forward.source import Source
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.publisher import produce
from stream_detector.streaming.topics import Record, ensure_topics, read_topic

BROKERS_CHOICE = -1
RECEIVER, REASON, ATTEMPTS = "x-receiver", "x-reason", "x-attempts"


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A step that a receiver has not taken."""

    receiver: str
    reason: str
    attempts: int
    record: Record
    alert: Alert


def prepare(kafka: KafkaSettings) -> None:
    """Create the topic if it is missing."""
    ensure_topics(kafka, {kafka.undelivered_topic: BROKERS_CHOICE})


def keep(kafka: KafkaSettings, receiver: str, alert: Alert, reason: str, attempts: int) -> None:
    """Keep a step on all replicas before this returns; raises TransportError."""
    ours = [(RECEIVER, receiver.encode()), (REASON, reason.encode()), (ATTEMPTS, str(attempts).encode())]
    key = (alert.group or alert.sensor_id).encode()
    produce(kafka, [Message(kafka.undelivered_topic, key, encode(alert), ours)])


def pending(kafka: KafkaSettings, receiver: str | None = None) -> Iterator[Undelivered]:
    """What is still to be sent again, of one receiver or of all."""
    until: dict[str, dict[int, int]] = {}
    for record in read_topic(kafka, kafka.undelivered_topic):
        one = read(record)
        if one is None or receiver not in (None, one.receiver):
            continue
        if one.receiver not in until:
            with closing(_source(kafka, one.receiver)) as source:
                until[one.receiver] = source.first if source.new else source.position
        if record.offset >= until[one.receiver].get(record.partition, 0):
            yield one


def send_again(kafka: KafkaSettings, name: str, receiver: Receiver) -> Iterator[str]:
    """Send what is there now once more, in order; yields a reason for each that is refused again, else nothing.

    A partition stops at the first step that is not taken. What was sent is remembered step by step.
    """
    told: dict[str, Alert] = {}
    with closing(_source(kafka, name)) as source:
        begin = source.first if source.new else source.position
        ends, stuck = dict(source.ends), set[int]()
        at = dict(begin)
        for record in read_topic(kafka, kafka.undelivered_topic, from_offsets=begin):
            if record.partition in stuck or record.offset >= ends[record.partition]:
                continue
            one = read(record)
            if one is not None and one.receiver == name:
                outcome = attempt(receiver, one.alert, told.get(one.alert.alert_id))
                yield outcome.reason
                if not outcome.delivered:
                    stuck.add(record.partition)
                    continue
                told[one.alert.alert_id] = one.alert
            at[record.partition] = record.offset + 1
            source.position = dict(at)
            source.commit()


def read(record: Record) -> Undelivered | None:
    """What the record says; None where it is none of ours."""
    said = dict(record.headers)
    try:
        alert = answers_file.decode(record.value or b"", Alert)
        attempts = int(said[ATTEMPTS])
        receiver, reason = said[RECEIVER].decode("utf-8", "replace"), said[REASON].decode("utf-8", "replace")
    except (KeyError, ValueError, DataError):
        return None
    return Undelivered(receiver, reason, attempts, record, alert)


def _source(kafka: KafkaSettings, receiver: str) -> Source:
    return Source(kafka, kafka.undelivered_topic, f"{group_of(kafka, receiver)}-undelivered")


def group_of(kafka: KafkaSettings, receiver: str) -> str:
    """The consumer group of a receiver."""
    return f"{kafka.group_id}-forward-{receiver}"
