"""Puts messages on the broker: with offsets in one transaction, or at least once.

Every wait of the client inside a transaction is without limit, so a transaction runs on a thread of its own and is
given up when it takes longer than the broker would wait. What a producer left behind when it was given up is decided
before the next one does anything: its id is the same, and the broker lets only the newest go on. Knows nothing of
partitions' owners: the caller says on whose behalf offsets are committed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kafka.errors as foreign
from kafka import KafkaProducer
from kafka.structs import (
    ConsumerGroupMetadata,
    OffsetAndMetadata,
    TopicPartition,
)

from stream_detector.errors import TransportError
from stream_detector.settings import KafkaSettings, WorkerSettings
from stream_detector.streaming.kafka_client import Message, connected, producer_options
from stream_detector.streaming.kafka_errors import FENCED, USURPED, translated, translating

logger = logging.getLogger(__name__)
ABORT_LIMIT_MS = 5_000
Offsets = Mapping[TopicPartition, OffsetAndMetadata]


class Publisher:
    """The producer of one worker; `transactional_id` None publishes at least once."""

    def __init__(self, kafka: KafkaSettings, worker: WorkerSettings, transactional_id: str | None) -> None:
        self._kafka = kafka
        self._limit_ms = worker.transaction_timeout_ms
        self._options = producer_options(kafka) | {
            "max_block_ms": self._limit_ms,
            # The limit of the whole is to be met first: the client takes a late answer for the end of the producer.
            "request_timeout_ms": 2 * self._limit_ms,
            "delivery_timeout_ms": 4 * self._limit_ms,
        }
        if transactional_id is not None:
            self._options |= {
                "transactional_id": transactional_id,
                "transaction_timeout_ms": self._limit_ms,
                # A transaction that follows another at once is put off by so much, while the broker ends the first.
                "retry_backoff_ms": 10,
            }
        self._transactional = transactional_id is not None
        self._producer: Any = None
        self.settle()

    def settle(self) -> None:
        """Have a producer; when this returns, every transaction of an earlier one is committed or aborted."""
        if self._producer is not None:
            return
        producer = connected(self._kafka, KafkaProducer, self._options)
        if self._transactional:
            try:
                producer.init_transactions()
            except foreign.KafkaError as error:
                _discard(producer)
                raise translated(error, self._kafka, "preparing transactions") from error
        self._producer = producer

    def publish(self, messages: Sequence[Message], offsets: Offsets, member: ConsumerGroupMetadata) -> None:
        """Messages and the group's offsets in one transaction: all of it becomes visible, or nothing.

        After FencedError nothing is visible. After TransportError that is so too, or it is all visible: which of
        the two is decided by the time that `settle` returns, and the committed offsets tell.
        """
        self.settle()
        producer = self._producer
        self._limited(lambda: _transact(producer, messages, offsets, member, 2 * self._limit_ms))

    def publish_at_least_once(self, messages: Sequence[Message]) -> None:
        """Messages, acknowledged by all replicas; after an error some of them may be visible."""
        self.settle()
        producer = self._producer
        self._limited(lambda: _send(producer, messages, 2 * self._limit_ms))

    def reset(self) -> None:
        """Give the producer up; the next use makes a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            _discard(producer)

    def close(self, timeout_ms: int) -> None:
        """Stop; nothing is left open, because every transaction ends before `publish` does."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=timeout_ms / 1000)
        except foreign.KafkaError:
            _discard(producer)

    def _limited(self, work: Callable[[], None]) -> None:
        try:
            _within(self._limit_ms, work)
        except TimeoutError as error:
            self.reset()
            raise TransportError(
                f"publishing to Kafka at {self._kafka.bootstrap_servers} took longer than "
                f"worker.transaction_timeout_ms ({self._limit_ms} ms): it was given up and is decided anew"
            ) from error
        except foreign.KafkaError as error:
            self._undo(error)
            raise translated(error, self._kafka, "publishing") from error
        except BaseException:
            # A message that cannot be sent at all, or the process is told to stop: nothing may stay half-sent.
            self.reset()
            raise

    def _undo(self, error: BaseException) -> None:
        """Abort at once where that is possible: what is pending would keep the next owner waiting."""
        if not self._transactional or isinstance(error, USURPED):
            self.reset()
            return
        try:
            _within(ABORT_LIMIT_MS, self._producer.abort_transaction)
        except (TimeoutError, foreign.KafkaError):
            logger.info("a transaction could not be aborted; the next producer of this worker aborts it")
            self.reset()
        if not isinstance(error, FENCED):
            # After a message that was refused the client counts wrongly, and the broker refuses the next one too.
            self.reset()


def produce(kafka: KafkaSettings, messages: Sequence[Message], limit_ms: int = 30_000) -> int:
    """Send messages outside any transaction and wait until all replicas have them; how many there were."""
    producer = connected(kafka, KafkaProducer, producer_options(kafka) | {"max_block_ms": limit_ms})
    try:
        with translating(kafka, "sending"):
            _send(producer, messages, limit_ms)
    finally:
        _discard(producer)
    return len(messages)


def _transact(
    producer: Any, messages: Sequence[Message], offsets: Offsets, member: ConsumerGroupMetadata, limit_ms: int
) -> None:
    producer.begin_transaction()
    # Acknowledged before the end is asked for: the client, when the broker refuses a batch for its producer's epoch,
    # starts a new epoch by itself and then takes an empty transaction for a committed one.
    _send(producer, messages, limit_ms)
    if offsets:
        producer.send_offsets_to_transaction(dict(offsets), member)
    producer.commit_transaction()


def _send(producer: Any, messages: Sequence[Message], limit_ms: int) -> None:
    sent: list[Any] = []
    try:
        for message in messages:
            sent.append(producer.send(message.topic, message.value, message.key, message.headers))
        producer.flush(timeout=limit_ms / 1000)
    except foreign.KafkaError as error:
        # The client only says that it cannot go on; what happened is with the message that failed first.
        raise next((one.exception for one in sent if one.is_done and one.failed()), error) from error
    for one in sent:
        one.get(timeout=limit_ms / 1000)


def _within(limit_ms: int, work: Callable[[], None]) -> None:
    """Run to the end, or raise TimeoutError and leave the work to itself."""
    failed: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="publisher", daemon=True).start()
    if not done.wait(limit_ms / 1000):
        raise TimeoutError
    if failed:
        raise failed[0]


def _discard(producer: Any) -> None:
    """Stop a producer at once; what it had not sent is never sent."""
    try:
        producer.close(timeout=0)
    except foreign.KafkaError:
        # close() gives up before it stops its thread when something is still unsent, and that thread would go on.
        producer._sender.force_close()
