"""The transport against a real broker: what becomes visible, who owns a partition, and what a broken broker does."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import CommitFailedError
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

from stream_detector.errors import ConfigError, FencedError, TransportError
from stream_detector.local import LocalKafka
from stream_detector.settings import KafkaSettings, WorkerSettings
from stream_detector.streaming import transport
from stream_detector.streaming.topics import Record, end_offsets, ensure_topics, produce, read_topic
from stream_detector.streaming.transport import Changes, Committed, Fetched, Message, Transport

SESSION_MS = 6_000
PATIENCE_S = 25.0


@pytest.fixture
def settings(kafka: str, topic: str) -> KafkaSettings:
    """Topics and a group of this test's own: four partitions of readings, one of alerts."""
    return prepared(kafka, topic)


def prepared(kafka: str, prefix: str, partitions: int = 4) -> KafkaSettings:
    """Settings with fresh topics."""
    made = KafkaSettings(
        bootstrap_servers=kafka,
        group_id=f"{prefix}-group",
        readings_topic=f"{prefix}-readings",
        alerts_topic=f"{prefix}-alerts",
    )
    ensure_topics(made, {made.readings_topic: partitions, made.alerts_topic: 1})
    return made


def worker(slot: str, **more: object) -> WorkerSettings:
    """Settings of one worker of a group that notices a silent member as early as a broker allows."""
    return WorkerSettings.model_validate({"slot": slot, "session_timeout_ms": SESSION_MS, **more})


@contextlib.contextmanager
def opened(settings: KafkaSettings, slot: str = "a", interval_ms: int = 60_000, **more: object) -> Iterator[Transport]:
    """A transport that leaves its group at the end."""
    made = Transport(settings, worker(slot, **more), max_poll_interval_ms=interval_ms)
    try:
        yield made
    finally:
        made.close(2_000)


def fill(settings: KafkaSettings, count: int, start: int = 0) -> None:
    """Numbered readings, spread over the partitions."""
    messages = [Message(settings.readings_topic, b"%d" % at, b"%d" % at) for at in range(start, start + count)]
    produce(settings, messages)


def joined(one: Transport, wait_for: int = 1) -> Changes:
    """Poll until the group has given so many partitions."""
    given: set[int] = set()
    taken: set[int] = set()
    lost: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    while len(given) < wait_for:
        assert time.monotonic() < deadline, "the group gave nothing"
        assert one.poll(100, 10) == []
        changes = one.changes()
        given |= changes.assigned
        taken |= changes.revoked
        lost |= changes.lost
    return Changes(frozenset(given), frozenset(taken), frozenset(lost))


def patiently(holds: Callable[[], bool]) -> None:
    """Try until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never held"


def started(one: Transport, wait_for: int = 1) -> None:
    """Join, and read every partition on from what is committed."""
    for partition in joined(one, wait_for).assigned:
        one.resume(partition, begin_at(one, partition))


def read(one: Transport, count: int, at_once: int = 5_000) -> list[Fetched]:
    """Poll until so many records have come."""
    batch: list[Fetched] = []
    deadline = time.monotonic() + PATIENCE_S
    while sum(len(fetched.values) for fetched in batch) < count:
        assert time.monotonic() < deadline, "the readings did not come"
        batch += one.poll(100, at_once)
    return batch


def numbers(batch: list[Fetched]) -> list[int]:
    """The numbers in a batch of readings that `fill` wrote."""
    return [int(value or b"") for fetched in batch for value in fetched.values]


def next_offsets(batch: list[Fetched]) -> dict[int, Committed]:
    """Partition -> the offset after its last record in the batch."""
    return {fetched.partition: Committed(int(fetched.offsets[-1]) + 1) for fetched in batch}


def begin_at(one: Transport, partition: int) -> int:
    """What is committed, or the first reading."""
    committed = one.committed(partition)
    return committed.offset if committed else one.bounds(partition)[0]


def alerts(settings: KafkaSettings) -> list[bytes | None]:
    """What a reader of committed alerts sees."""
    return [record.value for record in read_topic(settings, settings.alerts_topic)]


def alert(settings: KafkaSettings, value: bytes) -> Message:
    """One message to the topic of alerts."""
    return Message(settings.alerts_topic, b"pump-7", value, [("ce_id", b"1/0")])


def test_readings_arrive_as_they_were_sent(settings: KafkaSettings) -> None:
    """Columns hold keys, values, headers, offsets and times, in the order of the partition."""
    before_ms = time.time() * 1000
    sent = [
        Message(settings.readings_topic, b"k", b"plain"),
        Message(settings.readings_topic, b"k", b"with", [("h", b"\xff")]),
        Message(settings.readings_topic, b"k", None),
    ]
    produce(settings, sent)
    with opened(settings) as one:
        started(one, 4)
        (fetched,) = read(one, 3)
    assert fetched.offsets.tolist() == [0, 1, 2]
    assert fetched.values == [b"plain", b"with", None]
    assert fetched.keys == [b"k"] * 3
    assert fetched.headers == [[], [("h", b"\xff")], []]
    assert (abs(fetched.timestamps_ms - before_ms) < 60_000).all()


def test_messages_and_offsets_become_visible_together(settings: KafkaSettings) -> None:
    """What fails before its end leaves nothing behind, and the next transaction goes through."""
    fill(settings, 100)
    with opened(settings) as one:
        started(one, 4)
        batch = read(one, 100)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KafkaProducer, "send_offsets_to_transaction", _refuse)
            with pytest.raises(FencedError, match="gone on without this worker"):
                one.publish([alert(settings, b"half")], next_offsets(batch))
        assert alerts(settings) == []
        assert one.committed(batch[0].partition) is None

        one.publish([alert(settings, b"whole"), alert(settings, b"too")], next_offsets(batch))
        assert alerts(settings) == [b"whole", b"too"]
        assert {part: one.committed(part) for part in next_offsets(batch)} == next_offsets(batch)


def _refuse(*_: object) -> None:
    raise CommitFailedError


def test_uncommitted_readings_are_not_seen(settings: KafkaSettings) -> None:
    """Readings of a transaction arrive when it is committed, and never when it is aborted."""
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id=f"{settings.group_id}-x")
    producer.init_transactions()
    try:
        with opened(settings) as one:
            started(one, 4)
            for end in (producer.abort_transaction, producer.commit_transaction):
                producer.begin_transaction()
                producer.send(settings.readings_topic, end.__name__.encode(), b"k").get(5)
                assert one.poll(300, 10) == []
                end()
            assert [fetched.values for fetched in read(one, 1)] == [[b"commit_transaction"]]
            partition = next(part for part in range(4) if end_offsets(settings, settings.readings_topic)[part])
            assert one.bounds(partition) == (0, 4)
    finally:
        producer.close(1)


def test_nothing_is_read_before_it_is_resumed(settings: KafkaSettings) -> None:
    """New partitions wait, resumed ones start where they are told, and backpressure loses nothing."""
    fill(settings, 200)
    with opened(settings) as one:
        given = joined(one, 4).assigned
        assert one.poll(500, 1000) == []
        ends = {part: one.bounds(part)[1] for part in given}
        one.resume(2, ends[2] - 5)
        batch = read(one, 5)
        assert {fetched.partition for fetched in batch} == {2}
        assert batch[0].offsets.tolist() == list(range(ends[2] - 5, ends[2]))

        one.pause_all()
        one.resume(0, 0)
        assert one.poll(500, 1000) == []
        one.resume_all()
        seen = [offset for fetched in read(one, ends[0], at_once=7) for offset in fetched.offsets.tolist()]
        assert seen == list(range(ends[0]))


def test_a_worker_that_scores_for_long_stays_and_loses_nothing(settings: KafkaSettings) -> None:
    """keep_alive outlasts the poll interval; without it the partitions are lost, and publishing is refused."""
    fill(settings, 400)
    with opened(settings, interval_ms=1_000) as one:
        started(one, 4)
        batch = read(one, 10, at_once=10)
        until = time.monotonic() + 2.2
        while time.monotonic() < until:
            one.keep_alive()
            time.sleep(0.1)
        assert not one.changes()
        one.publish([alert(settings, b"slow")], next_offsets(batch))
        batch += read(one, 390, at_once=50)
        assert Counter(numbers(batch)) == Counter(range(400))

        time.sleep(1.8)
        with pytest.raises(FencedError, match="were taken away"):
            one.publish([alert(settings, b"late")], next_offsets(batch))
        patiently(lambda: one.poll(100, 10) == [] and one.connected)
        with pytest.raises(FencedError, match="were taken away"):
            one.publish([alert(settings, b"given again, but not asked")], next_offsets(batch))
        assert one.changes() == Changes(frozenset(range(4)), frozenset(), frozenset(range(4)))
        one.publish([alert(settings, b"again")], next_offsets(batch))
    assert alerts(settings) == [b"slow", b"again"]


def test_a_zombie_publishes_nothing(settings: KafkaSettings) -> None:
    """A worker that slept while another took over is refused: by its own flags, and by the broker without them."""
    fill(settings, 50)
    with opened(settings, "a", interval_ms=1_000) as zombie, opened(settings, "b") as other:
        started(zombie, 4)
        held = next_offsets(read(zombie, 50))
        member = zombie._membership.member
        started(other, 4)
        batch = read(other, 50)
        other.publish([alert(settings, b"other")], next_offsets(batch))

        with pytest.raises(FencedError, match=r"partitions 0, 1, 2, 3 .* were taken away"):
            zombie.publish([alert(settings, b"zombie")], held)
        with pytest.raises(FencedError, match="gone on without this worker"):
            zombie._publisher.publish([alert(settings, b"zombie")], zombie._placed(held), member)
        assert alerts(settings) == [b"other"]
        assert other.committed(0) == next_offsets(batch)[0]

        zombie.publish([alert(settings, b"no offsets")], {})
        assert alerts(settings) == [b"other", b"no offsets"]


class Working(threading.Thread):
    """A worker in small: claims what it is given, copies readings to alerts, lets go of what is taken."""

    def __init__(self, settings: KafkaSettings, slot: str) -> None:
        super().__init__(daemon=True)
        self.settings, self.slot = settings, slot
        self.stop, self.mine, self.fenced = threading.Event(), set[int](), 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        """Work until told to stop; what fails is kept for the test."""
        try:
            with opened(self.settings, self.slot) as one:
                while not self.stop.is_set():
                    self.step(one)
        except BaseException as error:
            self.failed = error

    def step(self, one: Transport) -> None:
        """Poll, publish, deal with changes."""
        batch = one.poll(50, 5)
        try:
            if batch:
                copies = [Message(self.settings.alerts_topic, None, b"%d" % number) for number in numbers(batch)]
                one.publish(copies, next_offsets(batch))
        except FencedError:
            self.fenced += 1
            for partition in self.mine:
                one.resume(partition, begin_at(one, partition))
        changes = one.changes()
        self.mine -= changes.revoked | changes.lost
        for partition in changes.assigned:
            with contextlib.suppress(FencedError):
                one.resume(partition, begin_at(one, partition))
                self.mine.add(partition)

    def until_it_has(self, count: int) -> None:
        """Wait until the group has given so many partitions and nothing is in motion."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.mine) != count:
            assert self.failed is None, self.failed
            assert time.monotonic() < deadline, f"{self.slot} has {self.mine}"
            time.sleep(0.02)

    def end(self) -> None:
        """Stop and leave the group."""
        self.stop.set()
        self.join(PATIENCE_S)
        assert self.failed is None, self.failed


def test_workers_come_and_go_without_loss(settings: KafkaSettings) -> None:
    """While two workers join and leave, each reading is copied exactly once, and partitions are shared evenly."""
    stop = threading.Event()

    def feed() -> int:
        sent = 0
        while not stop.is_set():
            fill(settings, 20, sent)
            sent += 20
        return sent

    first, second = Working(settings, "a"), Working(settings, "b")
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(feed)
        try:
            first.start()
            first.until_it_has(4)
            second.start()
            second.until_it_has(2)
            first.until_it_has(2)
            second.end()
            first.until_it_has(4)
        finally:
            stop.set()
        sent = feeding.result(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while len(copied := alerts(settings)) < sent and time.monotonic() < deadline:
        time.sleep(0.2)
    first.end()
    assert Counter(int(value or b"") for value in copied) == Counter(range(sent))


def test_a_join_that_outlasts_a_poll_is_not_forgotten(settings: KafkaSettings) -> None:
    """The topic changed, and the poll in which the group was joined anew ended too soon: the next one goes on."""
    fill(settings, 100)
    with opened(settings) as one:
        started(one, 4)
        batch = read(one, 20, at_once=20)
        one._consumer._coordinator._assignment_snapshot = {"changed": {0}}
        one._consumer.poll(timeout_ms=0)
        time.sleep(0.5)
        assert one._membership.rebalancing
        batch += read(one, 80)
        assert one.connected
        assert not one.changes()
        one.publish([alert(settings, b"still here")], next_offsets(batch))
    assert Counter(numbers(batch)) == Counter(range(100))
    assert alerts(settings) == [b"still here"]


def test_the_committed_offset_waits_for_a_pending_transaction(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former owner's transaction may still be committed: its offset counts, and nothing earlier is told."""
    place = TopicPartition(settings.readings_topic, 1)
    former = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id=f"{settings.group_id}-former")
    former.init_transactions()
    try:
        with opened(settings) as one:
            started(one, 4)
            one.publish([], {1: Committed(3)})
            former.begin_transaction()
            former.send_offsets_to_transaction(
                {place: OffsetAndMetadata(7, "", -1)}, ConsumerGroupMetadata(settings.group_id)
            )
            with monkeypatch.context() as patch:
                patch.setattr(one, "_answer_ms", 400)
                with pytest.raises(TransportError, match="did not answer in time"):
                    one.committed(1)
            with ThreadPoolExecutor(1) as pool:
                begun = time.monotonic()
                asked = pool.submit(one.committed, 1)
                time.sleep(1.0)
                assert not asked.done()
                former.commit_transaction()
                assert asked.result(PATIENCE_S) == Committed(7)
            assert time.monotonic() - begun > 1.0
    finally:
        former.close(1)


def test_a_second_process_of_a_slot_ends_the_first(settings: KafkaSettings) -> None:
    """Of two workers with one slot only the later one publishes, and the other is told what to do."""
    with opened(settings, "same") as first, opened(settings, "same") as second:
        with pytest.raises(FencedError, match=r"worker\.slot"):
            first.publish([alert(settings, b"first")], {})
        assert alerts(settings) == []
        second.reset()
        second.publish([alert(settings, b"second")], {})
    assert alerts(settings) == [b"second"]


def test_at_least_once_needs_no_transaction(settings: KafkaSettings) -> None:
    """Messages first, then the offsets, and none of the broker's transactional machinery."""
    fill(settings, 20)
    with opened(settings, delivery="at_least_once") as one:
        started(one, 4)
        batch = read(one, 20)
        one.publish([alert(settings, b"plain")], next_offsets(batch))
        assert {part: one.committed(part) for part in next_offsets(batch)} == next_offsets(batch)
    assert alerts(settings) == [b"plain"]
    assert end_offsets(settings, settings.alerts_topic) == {0: 1}  # no mark of a transaction


def test_a_large_message_does_not_stall_the_small(settings: KafkaSettings) -> None:
    """A message of 5 MB among small ones arrives in its place, and goes out where its topic allows it."""
    wide, narrow = f"{settings.alerts_topic}-wide", f"{settings.alerts_topic}-narrow"
    ensure_topics(settings, {narrow: 1}, {"max.message.bytes": "1000000"})
    ensure_topics(settings, {wide: 1}, {"max.message.bytes": "8000000"})
    big = b"x" * 5_000_000
    produce(settings, [Message(wide, b"k", value) for value in (b"before", big, b"after")])
    with opened(settings.model_copy(update={"readings_topic": wide})) as one:
        started(one)
        assert [value for fetched in read(one, 3) for value in fetched.values] == [b"before", big, b"after"]
        with pytest.raises(TransportError, match=r"raise max\.message\.bytes"):
            one.publish([Message(narrow, b"k", b"small"), Message(narrow, b"k", big)], {0: Committed(3)})
        assert one.committed(0) is None
        one.publish([Message(wide, b"k", big), Message(narrow, b"k", b"small")], {0: Committed(3)})
        assert one.committed(0) == Committed(3)
    assert [record.value for record in read_topic(settings, narrow)] == [b"small"]


def test_reading_goes_on_where_the_topic_does(settings: KafkaSettings, caplog: pytest.LogCaptureFixture) -> None:
    """Readings that retention removed are told of, never skipped in silence; nor does an impossible offset hang."""
    fill(settings, 200)
    with opened(settings) as one:
        given = joined(one, 4).assigned
        ends = {part: one.bounds(part)[1] for part in given}
        admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        admin.delete_records({TopicPartition(settings.readings_topic, 0): 10})
        admin.close()
        with caplog.at_level(logging.WARNING, logger=transport.__name__):
            one.resume(0, 0)
            batch = read(one, ends[0] - 10)
            one.resume(1, 10_000)
            assert one.poll(500, 10) == []
        assert batch[0].offsets[0] == 10
        assert "partition 0: what followed offset 0 is gone" in caplog.text
        assert (
            f"partition 1: what followed offset 10000 is gone (retention, or a lost replica); it goes on at {ends[1]}"
            in caplog.text
        )


def test_a_topic_is_read_from_any_place_to_its_end(settings: KafkaSettings) -> None:
    """The end is that of the start of reading, marks of transactions included; aborted messages are not seen."""
    topic = settings.alerts_topic
    assert list(read_topic(settings, topic)) == []
    with opened(settings) as one:
        for number in range(3):
            one.publish([alert(settings, b"%d" % number)], {})
    assert end_offsets(settings, topic) == {0: 6}
    records = list(read_topic(settings, topic))
    assert [(record.offset, record.value) for record in records] == [(0, b"0"), (2, b"1"), (4, b"2")]
    assert (records[0].key, records[0].headers, records[0].topic) == (b"pump-7", [("ce_id", b"1/0")], topic)
    assert [record.value for record in read_topic(settings, topic, from_offsets={0: 2})] == [b"1", b"2"]
    assert list(read_topic(settings, topic, from_beginning=False)) == []

    fill(settings, 100)
    part = {record.partition for record in read_topic(settings, settings.readings_topic, partitions=frozenset({2}))}
    assert part == {2}
    with pytest.raises(ConfigError, match="partitions 0 to 3 only, not 9"):
        next(read_topic(settings, settings.readings_topic, partitions=frozenset({9})))
    with pytest.raises(TransportError, match="there is no topic nowhere"):
        next(read_topic(settings, "nowhere"))


def test_following_goes_on_for_ever(settings: KafkaSettings) -> None:
    """What is sent after the start arrives as well."""
    followed: Iterator[Record] = read_topic(settings, settings.alerts_topic, from_beginning=False, follow=True)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, followed)
        time.sleep(0.7)
        produce(settings, [alert(settings, b"new")])
        assert first.result(PATIENCE_S).value == b"new"
    followed.close()  # type: ignore[attr-defined]


def test_topics_are_created_once(settings: KafkaSettings) -> None:
    """Several processes that start together create each topic once, and leave one that exists as it is."""
    name = f"{settings.alerts_topic}-raced"
    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(lambda _: ensure_topics(settings, {name: 3}), range(4)))
    assert sorted(map(len, created)) == [0, 0, 0, 1]
    assert ensure_topics(settings, {name: 7}) == frozenset()
    assert set(end_offsets(settings, name)) == {0, 1, 2}
    with pytest.raises(ConfigError, match="cannot be created"):
        ensure_topics(settings, {f"{name}-bad": 0})


def test_a_broker_that_stops_for_a_while_does_no_harm(topic: str, tmp_path: Path) -> None:
    """Frozen for a while, nothing is lost; for too long, the transaction is given up, and decided afterwards."""
    with LocalKafka(tmp_path) as broker:
        settings = prepared(broker.address, topic, partitions=1)
        fill(settings, 100)
        with opened(settings, transaction_timeout_ms=4_000) as one:
            started(one)
            batch = read(one, 50, at_once=50)
            assert one.connected
            thaw = threading.Timer(2.0, broker.resume)
            broker.pause()
            thaw.start()
            batch += one.poll(500, 10)
            one.publish([alert(settings, b"frozen")], next_offsets(batch))
            assert not thaw.is_alive()
            batch += read(one, 100 - len(numbers(batch)))
            assert Counter(numbers(batch)) == Counter(range(100))

            assert one.committed(0) in (Committed(50), Committed(60))
            broker.pause()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(one, "_answer_ms", 300)
                with pytest.raises(TransportError, match="did not answer in time"):
                    one.committed(0)
            broker.resume()
            time.sleep(0.5)
            one.publish([], {0: Committed(77)})
            assert one.committed(0) == Committed(77)  # and not the late answer to the question before

            broker.pause()
            with pytest.raises(TransportError, match=r"took longer than worker\.transaction_timeout_ms"):
                one.publish([alert(settings, b"in doubt")], next_offsets(batch))
            patiently(lambda: one.poll(200, 10) == [] and not one.connected)
            broker.resume()
            decided = one.committed(0)
            assert (decided == Committed(100)) == (b"in doubt" in alerts(settings))
            patiently(lambda: one.poll(100, 10) == [] and one.connected)
            one.changes()
            one.publish([alert(settings, b"after")], {0: Committed(100, "run:5")})
            assert one.committed(0) == Committed(100, "run:5")
        assert alerts(settings)[-1] == b"after"
