"""The bare limits: a client that only polls and decodes, and a model that only scores."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from stream_detector.detect import scale
from stream_detector.detect.due import Due
from stream_detector.detect.scoring import Scorer, fill_missing
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.kafka_client import connected, consumer_options
from stream_detector.streaming.kafka_errors import translating

RECORDS_A_POLL = 5_000
POLL_MS = 50
Spent = tuple[float, float]
"""Seconds on the wall, and of this process on a processor."""


class Watch:
    """Both clocks from now on."""

    def __init__(self) -> None:
        self._wall, self._busy = time.perf_counter(), time.process_time()

    def spent(self) -> Spent:
        """Since it was made."""
        return time.perf_counter() - self._wall, time.process_time() - self._busy


def poll_loop(kafka: KafkaSettings, begins: Mapping[int, int], ends: Mapping[int, int], decode: bool) -> Spent:
    """Read the messages between two sets of offsets with the worker's options, and `json.loads` each if asked to."""
    consumer = connected(kafka, KafkaConsumer, consumer_options(kafka))
    places = [TopicPartition(kafka.readings_topic, partition) for partition in begins]
    consumer.assign(places)
    for place in places:
        consumer.seek(place, begins[place.partition])
    left = sum(ends.values()) - sum(begins.values())
    watch = Watch()
    with translating(kafka, f"reading {kafka.readings_topic}"):
        while left > 0:
            for records in consumer.poll(timeout_ms=POLL_MS, max_records=RECORDS_A_POLL).values():
                left -= len(records)
                if decode:
                    for record in records:
                        json.loads(record.value)
    spent = watch.spent()
    consumer.close()
    return spent


def decode_loop(messages: Sequence[bytes]) -> Spent:
    """`json.loads` of each message."""
    watch = Watch()
    for message in messages:
        json.loads(message)
    return watch.spent()


def score_loop(scorer: Scorer, due: Due, windows: int) -> Spent:
    """The model alone on windows that are made ready, in full batches, until it has scored about so many."""
    steps = due.time_ms.shape[1]
    step = scale.unit(due.center, due.spread)
    ready = fill_missing(scale.apply(due.windows, due.center, step))
    size = scorer.bucket
    batch = torch.from_numpy(np.resize(ready, (size, *ready.shape[1:]))).to(scorer.device)
    calls = max(1, -(-windows // size))
    with torch.inference_mode():
        scorer.model.score(batch, steps)
        watch = Watch()
        for _ in range(calls):
            scores = scorer.model.score(batch, steps)
        scores.score.cpu()
        wall, busy = watch.spent()
    return wall * windows / (calls * size), busy * windows / (calls * size)
