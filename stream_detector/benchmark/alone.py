"""The stages that need no broker and no store, on messages in memory: the same code, with nothing around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from stream_detector.benchmark.bare import Watch, decode_loop
from stream_detector.benchmark.load import START_MS, Load, Made
from stream_detector.benchmark.plan import Plan
from stream_detector.benchmark.throughput import Progress, Speed, score_alone
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings
from stream_detector.streaming.fetched import Fetched
from stream_detector.streaming.intake import Intake
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.worker import MOST_TOGETHER


def measure_alone(settings: Settings, plan: Plan, artifact: Artifact, progress: Progress) -> Speed:
    """All rounds of decoding and detecting, in turns with a bare loop that decodes and a bare model."""
    detector = settings.detector.model_copy(update={"window": plan.window, "stride": plan.stride})
    settings = settings.model_copy(update={"detector": detector, "sensors": ()})
    profiles = Profiles(settings, lambda model, channels: artifact)
    intake = Intake(profiles, settings.kafka, settings.worker)
    portion = settings.worker.batch_size * plan.stride * min(MOST_TOGETHER, plan.batched)
    load, speed = Load(plan), Speed(plan.messages * plan.batched)
    progress(0, plan.rounds + 1)
    _detect(intake, profiles, load.full_windows(), portion)
    speed.stages.watch_core(intake, profiles)
    for number in range(plan.rounds):
        progress(number + 1, plan.rounds + 1)
        messages = list(load.messages(number * plan.messages, plan.messages))
        speed.loop.append(decode_loop([value for _, value in messages]))
        watch = Watch()
        windows, alerts = _detect(intake, profiles, messages, portion)
        speed.worker.append(watch.spent())
        speed.score.append(score_alone(profiles, windows))
        speed.windows, speed.alerts = speed.windows + windows, speed.alerts + alerts
    (found,) = profiles.fleet.detectors.values()
    speed.row_bytes = float(found.table.state.itemsize)
    progress(plan.rounds + 1, plan.rounds + 1)
    return speed


def _detect(intake: Intake, profiles: Profiles, messages: Iterable[Made], portion: int) -> tuple[int, int]:
    """What the worker does between poll and save; windows scored and alerts."""
    windows = alerts = 0
    for fetched in _fetches(messages, portion):
        batch = intake.take(fetched)
        for _, parts in batch.portions(portion):
            alerts += len(profiles.fleet.step(parts))
            for detector in profiles.fleet.detectors.values():
                windows += len(detector.evidence.due) if detector.evidence else 0
        profiles.fleet.dirty()
    return windows, alerts


def _fetches(messages: Iterable[Made], most: int) -> Iterator[list[Fetched]]:
    """The messages as if they had been fetched, so many at a time."""
    offset = 0
    rest = iter(messages)
    while some := list(islice(rest, most)):
        found = []
        for partition in sorted({partition for partition, _ in some}):
            values: list[bytes | None] = [value for p, value in some if p == partition]
            offsets = np.arange(offset, offset + len(values))
            found.append(
                Fetched(partition, offsets, np.full(len(values), START_MS), [None] * len(values), values, None)
            )
        offset += len(some)
        yield found
