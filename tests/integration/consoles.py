"""Faults for the console to show, and the settings of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
from pydantic import SecretStr

from stream_detector.settings import ConsoleSettings, Settings
from tests.integration.streams import START_MS, Message, Running, drain, make_topics, send

TOKEN = "a-token-of-the-test"  # noqa: S105 - of the test alone
CALM, FAULT = 300, 6
"""Readings of a sensor before its fault, and in it."""
NASTY = "<script>document.title='caught'</script><img src=x onerror=\"document.title='caught'\">`${1}`:{{1+1}}"
"""What would do something, were it anything but text."""


def calm(settings: Settings, sensor_id: str) -> Settings:
    """The same settings, with topics that are there and a sensor that has been calm."""
    make_topics(settings, 2)
    send(settings, readings(sensor_id, 0, CALM))
    drain(settings, 2)
    return settings


@contextmanager
def at_work(settings: Settings) -> Iterator[Running]:
    """A worker at work."""
    running = Running(settings)
    running.start()
    yield running
    running.stop()


def with_token(settings: Settings) -> Settings:
    """The settings of a console that takes answers, on any port."""
    return settings.model_copy(update={"console": ConsoleSettings(port=0, token=SecretStr(TOKEN))})


def readings(sensor_id: str, begin: int, end: int, far: float = 0.0, partition: int = 0) -> list[Message]:
    """Readings of one sensor from one step up to another, far off if that is asked for."""
    values = np.random.default_rng([3, begin]).normal(size=end - begin) + far
    return [
        (
            partition,
            sensor_id.encode(),
            msgspec.json.encode(
                {"sensor_id": sensor_id, "timestamp": START_MS + 1000 * step, "value": round(float(value), 4)}
            ),
        )
        for step, value in zip(range(begin, end), values, strict=True)
    ]
