"""The worker from Kafka to Kafka, in turns with the bare loops on the same messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from stream_detector.benchmark.bare import Spent, Watch, poll_loop, score_loop
from stream_detector.benchmark.load import Load, send
from stream_detector.benchmark.place import own_place, stored_bytes
from stream_detector.benchmark.plan import Plan
from stream_detector.benchmark.running import caught_up, new_worker
from stream_detector.benchmark.stages import Stages
from stream_detector.errors import ConfigError
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.topics import end_offsets
from stream_detector.streaming.worker import Worker

Progress = Callable[[int, int], None]


@dataclass
class Speed:
    """What the bare loops and the worker took in each round, and where the worker's time went.

    readings: of a round. windows, alerts: of all rounds. row_bytes: a sensor's in this process; stored_bytes: in the
    store.
    """

    readings: int
    poll: list[Spent] = field(default_factory=list)
    loop: list[Spent] = field(default_factory=list)
    score: list[Spent] = field(default_factory=list)
    worker: list[Spent] = field(default_factory=list)
    stages: Stages = field(default_factory=Stages)
    windows: int = 0
    alerts: int = 0
    row_bytes: float = 0.0
    stored_bytes: float = 0.0

    @property
    def total(self) -> int:
        """Readings of all rounds."""
        return self.readings * len(self.worker)

    @property
    def ratio(self) -> float:
        """Readings a second of the worker against those of the loop that decodes: the median of the rounds."""
        return float(np.median([loop[0] / worker[0] for loop, worker in zip(self.loop, self.worker, strict=True)]))

    def a_second(self, spent: list[Spent], clock: int = 0) -> float:
        """Readings a second over all rounds: on the wall, or, with `clock` 1, of processor time."""
        return self.readings * len(spent) / sum(one[clock] for one in spent)


def measure_speed(settings: Settings, plan: Plan, artifact: Artifact, progress: Progress) -> Speed:
    """All rounds, each on messages of its own; raises ConfigError where the worker sets messages aside."""
    load, speed = Load(plan), Speed(plan.messages * plan.batched)
    with own_place(settings, plan) as own:
        topic = own.kafka.readings_topic
        progress(0, plan.rounds + 1)
        send(own.kafka, load.full_windows())
        begins = end_offsets(own.kafka, topic)
        worker, profiles = new_worker(own, artifact)
        try:
            _work(worker, begins)
            _refuse_losses(worker)
            counted = worker.counts.windows, worker.counts.alerts
            speed.stages.watch_worker(worker, profiles)
            for number in range(plan.rounds):
                progress(number + 1, plan.rounds + 1)
                send(own.kafka, load.messages(number * plan.messages, plan.messages))
                ends = end_offsets(own.kafka, topic)
                speed.poll.append(poll_loop(own.kafka, begins, ends, decode=False))
                speed.loop.append(poll_loop(own.kafka, begins, ends, decode=True))
                before = worker.counts.windows
                speed.worker.append(_work(worker, ends))
                speed.score.append(score_alone(profiles, worker.counts.windows - before))
                begins = ends
            speed.windows, speed.alerts = worker.counts.windows - counted[0], worker.counts.alerts - counted[1]
            (name,) = profiles.fleet.detectors
            speed.row_bytes = float(profiles.fleet.detectors[name].table.state.itemsize)
            speed.stored_bytes = stored_bytes(own, plan, profiles.shape(name)) / plan.sensors
        finally:
            worker.close()
    progress(plan.rounds + 1, plan.rounds + 1)
    return speed


def score_alone(profiles: Profiles, windows: int) -> Spent:
    """The model alone, on windows of the kind that was just scored."""
    (detector,) = profiles.fleet.detectors.values()
    rows = np.arange(min(len(detector.table), detector.scorer.bucket))
    return score_loop(detector.scorer, detector.buffers.at_hand(rows, detector.options.stride), windows)


def _work(worker: Worker, ends: dict[int, int]) -> Spent:
    """Let it work until it has answered for everything; how long that took."""
    watch = Watch()
    while not caught_up(worker, ends):
        worker.step()
    return watch.spent()


def _refuse_losses(worker: Worker) -> None:
    if worker.counts.dead_letters:
        raise ConfigError(
            "the worker sets the benchmark's messages aside: see what worker.max_sensors, worker.max_channels and "
            "kafka.max_message_bytes are set to, and leave them as they come"
        )
