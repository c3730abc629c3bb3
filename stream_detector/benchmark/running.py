"""The worker under measurement."""

from __future__ import annotations

import gc
from collections.abc import Mapping

from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.worker import Worker


def new_worker(settings: Settings, artifact: Artifact) -> tuple[Worker, Profiles]:
    """A worker that judges with these weights, ready as it is when it begins to run."""
    profiles = Profiles(settings, lambda model, channels: artifact)
    worker = Worker(settings, profiles)
    gc.collect()
    gc.freeze()
    return worker, profiles


def caught_up(worker: Worker, ends: Mapping[int, int]) -> bool:
    """Whether it has answered for all messages before these offsets."""
    held = worker.holdings.held
    return all(partition in held and held[partition].told_until >= end for partition, end in ends.items())
