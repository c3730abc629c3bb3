"""Workers that take over from one another, in good order and in bad: as if there had been one all along."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_detector.errors import TransportError
from stream_detector.settings import Settings
from tests.integration.streams import (
    Stream,
    drain,
    make_topics,
    new_worker,
    outcome,
    plant,
    send,
    settings_for,
    undisturbed,
)
from tests.integration.workers import Feeder, WorkerProcess, progress, wait_until, wait_until_answered

Made = dict[tuple[str, ...], Path]
SENSORS, PARTITIONS = 20, 3


@pytest.fixture
def settings(kafka: str, redis_url: str, topic: str, made: Made) -> Settings:
    """Settings of the workers of a test, its topics made."""
    found = settings_for(kafka, redis_url, topic, made)
    make_topics(found, PARTITIONS)
    return found


@pytest.fixture
def workers(settings: Settings) -> Iterator[list[WorkerProcess]]:
    """The workers that a test starts; those that are left are killed."""
    started: list[WorkerProcess] = []
    yield started
    for worker in started:
        worker.kill()


def test_a_zombie_writes_nothing_and_takes_part_again(settings: Settings, workers: list[WorkerProcess]) -> None:
    """Frozen until others have its partitions, then thawed: nothing is told or saved by it that is not its own."""
    stream = plant(SENSORS, 420, PARTITIONS)
    third = len(stream.messages) // 3
    zombie = WorkerProcess(settings, "zombie")
    workers.append(zombie)
    send(settings, stream.messages[:third])
    wait_until(lambda: progress(settings) > third // 3, "the first worker works")
    zombie.send(signal.SIGSTOP)
    workers.append(WorkerProcess(settings, "heir"))
    wait_until_answered(settings)
    feeder = Feeder(settings, stream.messages[third : 2 * third], 3)
    feeder.start()
    zombie.send(signal.SIGCONT)
    feeder.finish()
    wait_until_answered(settings)
    # The zombie takes part again: alone it does the rest.
    assert workers[1].stop() == 0
    send(settings, stream.messages[2 * third :])
    wait_until_answered(settings)
    assert zombie.stop() == 0
    assert outcome(settings, PARTITIONS).differences(undisturbed(settings, stream.messages)) == []


def storm(settings: Settings, workers: list[WorkerProcess], stream: Stream, over_s: float) -> None:
    """Workers come and go, in good order and killed, while readings are sent; then one does the rest."""
    chance = random.Random(4)  # noqa: S311
    feeder = Feeder(settings, stream.messages, over_s)
    feeder.start()
    alive: list[WorkerProcess] = []
    for number in range(1000):
        if not feeder.is_alive():
            break
        if len(alive) < 2 or (len(alive) < 4 and chance.random() < 0.5):
            alive.append(WorkerProcess(settings, f"slot-{number}"))
            workers.append(alive[-1])
        else:
            leaves = alive.pop(chance.randrange(len(alive)))
            if chance.random() < 0.5:
                leaves.kill()
            else:
                assert leaves.stop() == 0
        time.sleep(chance.uniform(2, 3))
    feeder.finish()
    wait_until_answered(settings)
    assert [worker.stop() for worker in alive] == [0] * len(alive)
    assert outcome(settings, PARTITIONS).differences(undisturbed(settings, stream.messages)) == []


def test_workers_come_and_go_under_load(settings: Settings, workers: list[WorkerProcess]) -> None:
    """A small storm: alerts and states as if there had been one worker."""
    storm(settings, workers, plant(SENSORS, 420, PARTITIONS), 9)


@pytest.mark.slow
def test_a_storm_of_workers(settings: Settings, workers: list[WorkerProcess]) -> None:
    """A long storm over more readings."""
    storm(settings, workers, plant(60, 1000, PARTITIONS), 60)


def test_two_workers_with_one_slot(settings: Settings, workers: list[WorkerProcess]) -> None:
    """The newer one goes on, the older one ends by itself, and nothing is told twice or lost."""
    stream = plant(SENSORS, 420, PARTITIONS)
    feeder = Feeder(settings, stream.messages, 8)
    workers.append(WorkerProcess(settings, "same"))
    feeder.start()
    wait_until(lambda: progress(settings) > len(stream.messages) // 4, "the first worker works")
    workers.append(WorkerProcess(settings, "same"))
    older, newer = workers
    feeder.finish()
    wait_until_answered(settings)
    assert older.wait(30) == 1
    assert newer.stop() == 0
    assert outcome(settings, PARTITIONS).differences(undisturbed(settings, stream.messages)) == []


def test_what_was_not_saved_is_forgotten_when_a_step_fails(settings: Settings) -> None:
    """Sensors that were judged in a step that failed are not there any more when the next step is a smaller one."""
    stream = plant(SENSORS, 420, PARTITIONS)
    send(settings, stream.messages)
    large = settings.worker.model_copy(update={"batch_size": 5000, "max_wait_ms": 5000})
    worker = new_worker(settings.model_copy(update={"worker": large}))
    away = TransportError("the broker is said to be away")

    def fail(place: str) -> None:
        if place == "scored":
            raise away

    worker._checkpoint = fail
    with pytest.raises(TransportError):
        while True:
            worker.step()
    assert sum(len(detector.table) for detector in worker._profiles.fleet.detectors.values()) > 7
    worker._recover(away, 1)
    worker._checkpoint, worker._portion = lambda place: None, 1
    while not worker.counts.steps:
        worker.step()
    worker.close()
    drain(settings, PARTITIONS)
    assert outcome(settings, PARTITIONS).differences(undisturbed(settings, stream.messages)) == []
