"""The store against a plain dictionary, over random claims, saves, repeats, mistakes and trims."""

from __future__ import annotations

import secrets
from collections.abc import Set
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr

from stream_detector.settings import RedisSettings
from stream_detector.streaming.store import Claim, PartitionSave, PartitionTrim, Rows, Store, WriteRefusedError

TOPIC = "t"
PARTITIONS = st.integers(0, 1)
ROWS = st.dictionaries(st.sampled_from(["a", "b", "{c}\n", "ü"]), st.binary(min_size=3, max_size=3), min_size=1)
CHANGED = st.dictionaries(st.sampled_from(["p", "q:{}"]), st.tuples(st.sampled_from([b"l1", b"l2"]), ROWS))
MESSAGES = st.lists(st.binary(max_size=4), max_size=3)


@dataclass
class Kept:
    """What a partition should hold."""

    epoch: int = 0
    step: int = 0
    next_offset: int | None = None
    meta: bytes = b""
    rows: dict[tuple[str, str], tuple[bytes, bytes]] = field(default_factory=dict)
    outbox: list[tuple[int, int, list[bytes]]] = field(default_factory=list)


@dataclass
class Worker:
    """What a claimant believes, right or wrong."""

    partition: int
    epoch: int
    step: int
    next_offset: int | None
    last: PartitionSave | None = None


def seen(claim: Claim) -> Kept:
    """A claim in the model's words."""
    rows = {
        (profile, sensor_id): (found.layout, found.packed[i * found.width : (i + 1) * found.width])
        for profile, layouts in claim.sensors.items()
        for found in layouts
        for i, sensor_id in enumerate(found.ids)
    }
    outbox = [(entry.step, entry.end_offset, entry.messages) for entry in claim.outbox]
    return Kept(claim.epoch, claim.step, claim.next_offset, claim.meta, rows, outbox)


class Machine(RuleBasedStateMachine):
    """Two partitions and any number of claimants, old and new."""

    url = ""
    workers: Bundle[Worker] = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"model-{secrets.token_hex(6)}"
        self.store = Store(RedisSettings(url=SecretStr(self.url), prefix=self.prefix), "g")
        self.client = redis.Redis.from_url(self.url)
        self.model = {0: Kept(), 1: Kept()}

    def teardown(self) -> None:
        """Whatever happened, both partitions hold what the model says."""
        for partition in self.model:
            self._claim(partition)
        for partition in self.model:
            keys = self.store._keys(TOPIC, partition)
            self.client.delete(keys.meta, keys.outbox, keys.sensors("p"), keys.sensors("q:{}"))
        assert not list(self.client.scan_iter(f"{self.prefix}:*", count=10_000))
        self.client.close()
        self.store.close()

    def _claim(self, partition: int) -> Claim:
        claim = self.store.claim(TOPIC, partition)
        kept = self.model[partition]
        assert claim.epoch > kept.epoch
        kept.epoch = claim.epoch
        assert seen(claim) == kept
        return claim

    @rule(target=workers, partition=PARTITIONS)
    def claim(self, partition: int) -> Worker:
        """All that was saved comes back."""
        claim = self._claim(partition)
        return Worker(partition, claim.epoch, claim.step, claim.next_offset)

    @rule(
        workers_=st.lists(workers, min_size=1, max_size=3, unique_by=lambda worker: worker.partition),
        advance=st.integers(0, 3),
        changed=CHANGED,
        messages=MESSAGES,
        meta=st.binary(max_size=3),
    )
    def save(self, workers_: list[Worker], advance: int, changed: Any, messages: list[bytes], meta: bytes) -> None:
        """The newest claimant's save is kept whole, an older one's not at all."""
        saves = []
        for worker in workers_:
            sensors = {
                name: Rows(layout, list(rows), b"".join(rows.values())) for name, (layout, rows) in changed.items()
            }
            worker.last = PartitionSave(
                topic=TOPIC,
                partition=worker.partition,
                epoch=worker.epoch,
                step=worker.step + 1,
                expected_offset=worker.next_offset,
                next_offset=(worker.next_offset or 0) + advance,
                meta=meta,
                sensors=sensors,
                outbox=messages,
            )
            saves.append(worker.last)
        stale = {(TOPIC, worker.partition) for worker in workers_ if worker.epoch != self.model[worker.partition].epoch}
        self._write(lambda: self.store.save(saves), fenced=stale)
        for worker, done in zip(workers_, saves, strict=True):
            if (TOPIC, worker.partition) not in stale:
                worker.step, worker.next_offset = done.step, done.next_offset
                self._keep(done, changed)

    def _keep(self, done: PartitionSave, changed: Any) -> None:
        kept = self.model[done.partition]
        kept.step, kept.next_offset, kept.meta = done.step, done.next_offset, done.meta
        for name, (layout, rows) in changed.items():
            kept.rows |= {(name, sensor_id): (layout, row) for sensor_id, row in rows.items()}
        if done.outbox:
            kept.outbox.append((done.step, done.next_offset, list(done.outbox)))

    @rule(worker=workers)
    def repeat(self, worker: Worker) -> None:
        """The last save again changes nothing."""
        if worker.last is not None:
            stale = worker.epoch != self.model[worker.partition].epoch
            self._write(lambda: self.store.save([worker.last]), fenced={(TOPIC, worker.partition)} if stale else set())

    @rule(worker=workers, steps=st.integers(1, 3), offsets=st.integers(1, 3))
    def lose_the_place(self, worker: Worker, steps: int, offsets: int) -> None:
        """A save from a place where the store is not changes nothing."""
        place = {(TOPIC, worker.partition)}
        stale = worker.epoch != self.model[worker.partition].epoch
        end = (worker.next_offset or 0) + 9
        right = PartitionSave(TOPIC, worker.partition, worker.epoch, worker.step + 1, worker.next_offset, end, b"wrong")
        ahead = replace(right, step=right.step + steps)
        elsewhere = replace(right, expected_offset=(worker.next_offset or 0) + offsets)
        for wrong in (ahead, elsewhere):
            self._write(lambda save=wrong: self.store.save([save]), **{"fenced" if stale else "conflicting": place})

    @rule(worker=workers, up_to=st.integers(0, 12))
    def trim(self, worker: Worker, up_to: int) -> None:
        """What is published goes, for the newest claimant only."""
        kept = self.model[worker.partition]
        stale = worker.epoch != kept.epoch
        trims = [PartitionTrim(TOPIC, worker.partition, worker.epoch, up_to)]
        self._write(lambda: self.store.trim(trims), fenced={(TOPIC, worker.partition)} if stale else set())
        if not stale:
            kept.outbox = [entry for entry in kept.outbox if entry[1] > up_to]

    @rule()
    def forget_scripts(self) -> None:
        """The server may forget the scripts at any time."""
        self.client.script_flush()

    def _write(self, write: Any, fenced: Set[Any] = frozenset(), conflicting: Set[Any] = frozenset()) -> None:
        if not fenced and not conflicting:
            write()
            return
        with pytest.raises(WriteRefusedError) as caught:
            write()
        assert (caught.value.fenced, caught.value.conflicting) == (fenced, conflicting)


def test_the_store_is_a_fenced_dictionary(redis_url: str) -> None:
    """Random histories leave in the store what they leave in the model."""
    machine = type("StoreMachine", (Machine,), {"url": redis_url})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=checks),
    )
