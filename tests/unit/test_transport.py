"""What of the transport needs no broker: options, errors in words, and the flags of a membership."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import kafka.errors as foreign
import pytest
from kafka.consumer.fetcher import ConsumerRecord
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata, TopicPartition
from pydantic import SecretStr

from stream_detector.errors import ConfigError, FencedError, StreamDetectorError, TransportError
from stream_detector.settings import KafkaSettings
from stream_detector.streaming import publisher
from stream_detector.streaming.fetched import columns
from stream_detector.streaming.kafka_client import common_options, connected, consumer_options, unreachable
from stream_detector.streaming.kafka_errors import translated
from stream_detector.streaming.membership import Changes, Membership

SECRET = "hunter2-and-more"  # noqa: S105 (invented)
SASL = KafkaSettings(
    bootstrap_servers="broker:9093, other:9093",
    security_protocol="SASL_SSL",
    sasl_mechanism="PLAIN",
    sasl_username="worker",
    sasl_password=SecretStr(SECRET),
)


def test_options_hold_what_the_settings_say() -> None:
    """Addresses are split, the password reaches the client, and nothing unsafe is on."""
    options = consumer_options(SASL)
    assert options["bootstrap_servers"] == ["broker:9093", "other:9093"]
    assert options["sasl_plain_password"] == SECRET
    assert options["isolation_level"] == "read_committed"
    assert options["enable_auto_commit"] is False
    assert "sasl_plain_password" not in common_options(KafkaSettings(sasl_password=SecretStr(SECRET)))


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    """A password file is read without its last newline; one that is not there is named, with its setting."""
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    from_file = SASL.model_copy(update={"sasl_password": None, "sasl_password_file": file})
    assert common_options(from_file)["sasl_plain_password"] == SECRET
    file.unlink()
    with pytest.raises(ConfigError, match=r"kafka\.sasl_password_file: the file .*password cannot be read"):
        common_options(from_file)


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    """A certificate that is not there is found before any broker is asked."""
    kafka = KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"kafka\.ssl_cafile: the file .*ca\.pem cannot be read"):
        common_options(kafka)


@pytest.mark.parametrize(
    ("error", "ours", "says"),
    [
        (foreign.SaslAuthenticationFailedError(SECRET), ConfigError, "kafka.sasl_password"),
        (foreign.UnsupportedSaslMechanismError(), ConfigError, "kafka.sasl_mechanism"),
        (foreign.TopicAuthorizationFailedError({"alerts"}), ConfigError, "does not allow"),
        (foreign.GroupAuthorizationFailedError("g"), ConfigError, "does not allow"),
        (foreign.CommitFailedError(), FencedError, "gone on without this worker"),
        (foreign.IllegalGenerationError(), FencedError, "gone on without this worker"),
        (foreign.UnknownMemberIdError(), FencedError, "gone on without this worker"),
        (foreign.FencedInstanceIdError(), FencedError, "gone on without this worker"),
        (foreign.ProducerFencedError(), FencedError, "worker.slot"),
        (foreign.InvalidProducerEpochError(), FencedError, "worker.slot"),
        (foreign.MessageSizeTooLargeError(), TransportError, "max.message.bytes"),
        (foreign.UnknownTopicOrPartitionError(), TransportError, "does not exist"),
        (foreign.KafkaTimeoutError(), TransportError, "did not answer in time"),
        (foreign.NodeNotReadyError(), TransportError, "broker:9093"),
    ],
)
def test_errors_become_words(error: Exception, ours: type[StreamDetectorError], says: str) -> None:
    """Each foreign error becomes the leaf that says what to do, and never repeats a secret."""
    told = translated(error, SASL, "testing")
    assert type(told) is ours
    assert says in str(told)
    assert SECRET not in str(told)


def test_no_error_of_the_client_passes_untranslated() -> None:
    """Every exception class of the client has a translation."""
    classes = [one for one in vars(foreign).values() if isinstance(one, type) and issubclass(one, foreign.KafkaError)]
    assert len(classes) > 100
    for one in classes:
        error = one({}) if one is foreign.LogTruncationError else one()
        assert isinstance(translated(error, SASL, "testing"), StreamDetectorError)


def test_a_wrong_password_at_the_start_is_a_wrong_setting() -> None:
    """The client's refusal at the start ends with exit code 2 and without the password."""

    def make(**options: Any) -> None:
        raise foreign.SaslAuthenticationFailedError(f"bad {options['sasl_plain_password']}")

    with pytest.raises(ConfigError, match="refuses the user 'worker'") as caught:
        connected(SASL, make, common_options(SASL))
    assert SECRET not in str(caught.value)


def test_an_address_that_is_none_is_a_wrong_setting() -> None:
    """A port that is missing is told without asking the network."""
    told = unreachable(KafkaSettings(bootstrap_servers="localhost"))
    assert isinstance(told, ConfigError)
    assert "'localhost' is not an address" in str(told)


class _Consumer:
    """Just enough of the client's consumer for a membership."""

    def __init__(self) -> None:
        self.mine: set[TopicPartition] = set()
        self.paused: set[TopicPartition] = set()
        self.state = MemberState.STABLE
        self.generation, self.name = 1, "me"

    def assignment(self) -> set[TopicPartition]:
        return self.mine

    def pause(self, *places: TopicPartition) -> None:
        self.paused |= set(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        assert place in self.mine

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata("g", self.generation, self.name, None, self.state)


class Group(NamedTuple):
    """A membership and the consumer below it."""

    membership: Membership
    consumer: _Consumer

    def give(self, *partitions: int) -> None:
        """The group assigns, as the client does it."""
        places = {TopicPartition("readings", one) for one in partitions}
        self.consumer.mine |= places
        self.membership.on_partitions_assigned(places)

    def take(self, *partitions: int) -> None:
        """The group revokes."""
        places = {TopicPartition("readings", one) for one in partitions}
        self.consumer.mine -= places
        self.membership.on_partitions_revoked(places)


@pytest.fixture
def group() -> Group:
    """A member without partitions."""
    consumer = _Consumer()
    return Group(Membership(consumer), consumer)


def test_taken_and_given_again_is_both(group: Group) -> None:
    """Somebody else may have had it in between, so both are told, and once only."""
    group.give(0, 1)
    assert group.membership.changes() == Changes(frozenset({0, 1}), frozenset(), frozenset())
    group.membership.start(0)
    group.take(0)
    group.give(0)
    assert group.membership.running == frozenset()
    assert group.membership.changes() == Changes(frozenset({0}), frozenset({0}), frozenset())
    assert not group.membership.changes()


def test_given_and_taken_is_not_assigned(group: Group) -> None:
    """What is gone before anybody asked must not be claimed."""
    group.give(3)
    group.take(3)
    assert group.membership.changes() == Changes(frozenset(), frozenset({3}), frozenset())


def test_new_partitions_are_paused(group: Group) -> None:
    """Nothing of a partition is read before its state is claimed."""
    group.give(0)
    assert group.consumer.paused == {TopicPartition("readings", 0)}


def test_what_was_taken_is_missing_until_asked(group: Group) -> None:
    """A partition that was taken and given again stays refused until the worker knows of it."""
    group.give(0, 1)
    group.membership.changes()
    assert group.membership.missing([0, 1, 2]) == [2]
    group.take(0)
    group.give(0)
    assert group.membership.missing([0, 1]) == [0]
    group.membership.changes()
    assert group.membership.missing([0, 1]) == []
    group.consumer.state = MemberState.UNJOINED
    assert group.membership.missing([1, 0]) == [0, 1]


def test_lost_is_not_revoked(group: Group) -> None:
    """Lost partitions must not be flushed, so they are told apart."""
    group.give(0)
    group.membership.changes()
    group.membership.on_partitions_lost([TopicPartition("readings", 0)])
    assert group.membership.changes() == Changes(frozenset(), frozenset(), frozenset({0}))


def test_the_generation_is_that_of_the_partitions(group: Group) -> None:
    """While a rebalance is under way the client's generation is newer than the partitions: it is not used."""
    group.give(0)
    group.membership.after_poll()
    group.consumer.state, group.consumer.generation = MemberState.REBALANCING, 2
    group.membership.after_poll()
    assert group.membership.member.generation_id == 1
    group.consumer.state = MemberState.STABLE
    group.membership.after_poll()
    assert group.membership.member.generation_id == 2


def test_a_new_name_in_the_group_is_a_loss(group: Group) -> None:
    """A member that was thrown out and joined again kept nothing, whatever the client says."""
    group.give(0, 1)
    group.membership.after_poll()
    group.membership.changes()
    group.membership.start(0)
    group.consumer.name = "me-again"
    group.membership.after_poll()
    assert group.membership.changes() == Changes(frozenset({0, 1}), frozenset(), frozenset({0, 1}))
    assert group.membership.running == frozenset()


def test_records_becomecolumns() -> None:
    """Columns keep the order and the absent keys; headers are there if any record has some."""
    records = [
        ConsumerRecord("r", 2, 0, offset, 1_000 + offset, 0, key, b"v", headers, None, 1, 1, -1)
        for offset, key, headers in [(5, b"a", []), (7, None, [("h", b"1")])]
    ]
    fetched = columns(2, records)
    assert fetched.partition == 2
    assert fetched.offsets.tolist() == [5, 7]
    assert fetched.timestamps_ms.tolist() == [1005, 1007]
    assert fetched.keys == [b"a", None]
    assert fetched.values == [b"v", b"v"]
    assert fetched.headers == [[], [("h", b"1")]]
    assert columns(2, records[:1]).headers is None
    later = fetched.since(6)
    assert (later.offsets.tolist(), later.keys, later.headers) == ([7], [None], [[("h", b"1")]])
    assert fetched.since(5) is fetched
    assert fetched.since(8).values == []


def test_work_beyond_its_limit_is_given_up() -> None:
    """A wait without end ends, and an error inside comes out."""
    with pytest.raises(TimeoutError):
        publisher._within(20, lambda: time.sleep(0.5))
    with pytest.raises(ZeroDivisionError):
        publisher._within(1000, lambda: print(1 / 0))
    publisher._within(1000, lambda: None)


class _Producer:
    """Just enough of the client's producer: one message is refused although the end is reported as done."""

    class _Sent:
        """A message that failed."""

        is_done = True
        exception = foreign.InvalidProducerEpochError()

        def failed(self) -> bool:
            return True

        def get(self, timeout: float) -> None:
            raise self.exception

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin_transaction(self) -> None:
        self.calls.append("begin")

    def send(self, *message: Any) -> _Sent:
        self.calls.append("send")
        return self._Sent()

    def flush(self, timeout: float) -> None:
        self.calls.append("flush")

    def send_offsets_to_transaction(self, *offsets: Any) -> None:
        self.calls.append("offsets")

    def commit_transaction(self) -> None:
        self.calls.append("commit")


def test_a_refused_message_stops_the_transaction() -> None:
    """The client would report an emptied transaction as committed: a failed message must show before that."""
    producer = _Producer()
    offsets = {TopicPartition("readings", 0): OffsetAndMetadata(1, "", -1)}
    with pytest.raises(foreign.InvalidProducerEpochError):
        publisher._transact(
            producer, [publisher.Message("alerts", None, b"x")], offsets, ConsumerGroupMetadata("g"), 1000
        )
    assert producer.calls == ["begin", "send", "flush"]
