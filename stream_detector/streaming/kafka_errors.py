"""What the client of Kafka raises, in words that say what to do.

Knows the client's exceptions and our tree, and nothing of connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import kafka.errors as foreign

from stream_detector.errors import ConfigError, FencedError, StreamDetectorError, TransportError
from stream_detector.settings import KafkaSettings

FENCED = (
    foreign.CommitFailedError,
    foreign.FencedInstanceIdError,
    foreign.IllegalGenerationError,
    foreign.UnknownMemberIdError,
)
"""The group has gone on without this member."""
USURPED = (foreign.InvalidProducerEpochError, foreign.ProducerFencedError)
"""Another producer has taken this one's transactional id, or the broker has given its transaction up."""
REFUSED = (foreign.AuthorizationError, foreign.SaslAuthenticationFailedError, foreign.UnsupportedSaslMechanismError)


@contextmanager
def translating(kafka: KafkaSettings, doing: str) -> Iterator[None]:
    """Inside, an error of the client becomes one of ours; `doing` ends the phrase `Kafka failed while`."""
    try:
        yield
    except foreign.KafkaError as error:
        raise translated(error, kafka, doing) from error


def translated(error: BaseException, kafka: KafkaSettings, doing: str) -> StreamDetectorError:
    """Our error for one of the client's; never repeats what the user signed in with."""
    at = kafka.bootstrap_servers
    if isinstance(error, foreign.SaslAuthenticationFailedError):
        return ConfigError(
            f"Kafka at {at} refuses the user {kafka.sasl_username!r} or its password: check kafka.sasl_username, "
            "kafka.sasl_password (or kafka.sasl_password_file) and kafka.sasl_mechanism"
        )
    if isinstance(error, foreign.UnsupportedSaslMechanismError):
        return ConfigError(f"Kafka at {at} does not offer {kafka.sasl_mechanism}: check kafka.sasl_mechanism")
    if isinstance(error, foreign.AuthorizationError):
        return ConfigError(
            f"Kafka at {at} does not allow {doing} ({type(error).__name__}): give the user the right to it"
        )
    if isinstance(error, FENCED):
        return FencedError(f"the consumer group has gone on without this worker while {doing}: nothing was written")
    # The client sometimes wraps these in a plain error that only quotes their name.
    if isinstance(error, USURPED) or (type(error) is foreign.KafkaError and "ProducerFenced" in str(error)):
        return FencedError(
            f"another process uses the transactional id of this worker, or the broker gave up waiting while {doing}: "
            "nothing was written; give every worker a worker.slot of its own"
        )
    if isinstance(error, foreign.MessageSizeTooLargeError | foreign.RecordListTooLargeError):
        return TransportError(
            f"a message is larger than its topic allows while {doing}: raise max.message.bytes of that topic above "
            "that of the topic of the readings: a dead letter has headers more than the message had"
        )
    if isinstance(error, foreign.UnknownTopicOrPartitionError):
        return TransportError(f"a topic does not exist on Kafka at {at} while {doing}: create it")
    if isinstance(error, foreign.KafkaTimeoutError):
        return TransportError(
            f"Kafka at {at} did not answer in time while {doing}: check that it runs, and that the topic exists"
        )
    return TransportError(f"Kafka at {at} failed while {doing} ({_told(error)})")


def _told(error: BaseException) -> str:
    """The first line of an error, with its kind where it says nothing."""
    said = str(error).splitlines()
    return f"{type(error).__name__}: {said[0]}" if said and said[0] else type(error).__name__
