"""What is measured: how many readings, of what, in which messages, judged by which weights."""

from __future__ import annotations

from dataclasses import dataclass

from stream_detector.benchmark import identity
from stream_detector.errors import ConfigError
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings
from stream_detector.streaming.decode import Limits
from stream_detector.streaming.weights import Weights

ALONE = ("decode", "buffers", "score", "threshold")
"""Stages that can be measured in this process, without broker and store."""
STAGES = ("poll", *ALONE, "incidents", "store", "publish", "rest")
"""All stages, in the order in which a reading meets them."""
CHOICES = ("all", *ALONE, "store", "publish")
MOST_PARTITIONS = 1_000


@dataclass(frozen=True)
class Plan:
    """What is sent: so many readings in turns of all sensors, `batched` of one sensor in a message."""

    readings: int = 200_000
    sensors: int = 10_000
    channels: int = 1
    partitions: int = 4
    batched: int = 1
    model: str = "multiscale"
    window: int = 128
    stride: int = 1
    rounds: int = 3

    @property
    def names(self) -> tuple[str, ...]:
        """The channels; one alone has the name of a value that names none."""
        return ("value",) if self.channels == 1 else tuple(f"channel_{i:02}" for i in range(self.channels))

    @property
    def messages(self) -> int:
        """Messages of a round."""
        return -(-self.readings // (self.rounds * self.batched))

    @property
    def measured(self) -> int:
        """Readings of all rounds: a little more than asked for, where messages cannot be divided."""
        return self.messages * self.batched * self.rounds

    def check(self, settings: Settings) -> None:
        """Raise ConfigError where the worker's settings do not let such readings through."""
        limits = Limits(message_bytes=settings.kafka.max_message_bytes, channels=settings.worker.max_channels)
        room = settings.worker.max_sensors
        if -(-self.sensors // self.partitions) > room:
            raise ConfigError(
                f"{self.sensors:,} sensors in {self.partitions} partitions are more than {room:,} in each "
                "(worker.max_sensors): give more --partitions, or raise the limit"
            )
        if self.channels > limits.channels:
            raise ConfigError(
                f"{self.channels} channels are more than worker.max_channels ({limits.channels}): raise the limit"
            )
        most = min(limits.readings, limits.message_bytes // (self.channels * 12 + 20))
        if self.batched > most:
            raise ConfigError(
                f"a message with {self.batched:,} readings is too large for the worker: --batched {most:,} at most"
            )
        if self.stride > self.window // 4:
            raise ConfigError(
                f"the stride {self.stride} is too long for windows of {self.window}: at most a quarter, "
                f"{self.window // 4}"
            )

    def artifact(self) -> Artifact:
        """The weights that judge; raises ConfigError or ArtifactError where there are none."""
        if self.model == identity.NAME:
            return identity.artifact(self.window, self.names, self.sensors)
        return Weights(self.window).artifact(self.model, self.names)
