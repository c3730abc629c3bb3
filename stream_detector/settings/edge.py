"""Settings of what lies outside: the broker, the store, and how the worker deals with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from stream_detector.settings.budget import parse_duration

FROZEN = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class KafkaSettings(BaseModel):
    """The broker and its topics."""

    model_config = FROZEN

    bootstrap_servers: Annotated[str, Field(description="host:port of one broker or several, with commas")] = (
        "localhost:9092"
    )
    group_id: Annotated[str, Field(description="consumer group that shares the readings among workers")] = (
        "stream-detector"
    )
    readings_topic: Annotated[str, Field(description="where readings come from")] = "readings"
    alerts_topic: Annotated[str, Field(description="where alerts go")] = "alerts"
    dead_letters_topic: Annotated[str, Field(description="where messages go that cannot be used")] = "dead-letters"
    feedback_topic: Annotated[str, Field(description="where answers to alerts come from")] = "feedback"
    events_topic: Annotated[str, Field(description="where it is told that a model was promoted or drift seen")] = (
        "events"
    )
    undelivered_topic: Annotated[
        str, Field(description="where alerts go that a receiver of `forward` did not take")
    ] = "undelivered"
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Field(description="how to talk to the broker")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None, Field(description="how to sign in")
    ] = None
    sasl_username: Annotated[str | None, Field(description="who signs in")] = None
    sasl_password: Annotated[SecretStr | None, Field(description="its password")] = None
    sasl_password_file: Annotated[Path | None, Field(description="a file that holds the password")] = None
    ssl_cafile: Annotated[Path | None, Field(description="certificates of the authority that signed the broker's")] = (
        None
    )
    ssl_certfile: Annotated[Path | None, Field(description="this client's certificate, if the broker asks")] = None
    ssl_keyfile: Annotated[Path | None, Field(description="its private key")] = None
    max_message_bytes: Annotated[
        int, Field(ge=1024, description="a longer message goes to the dead letters unread")
    ] = 1_048_576

    @field_validator(
        "readings_topic",
        "alerts_topic",
        "dead_letters_topic",
        "feedback_topic",
        "events_topic",
        "undelivered_topic",
    )
    @classmethod
    def _a_topic(cls, value: str) -> str:
        if not TOPIC.fullmatch(value):
            raise ValueError(f"{value!r} is not a topic's name: use letters, digits, '.', '_' and '-'")
        return value

    @model_validator(mode="after")
    def _complete(self) -> KafkaSettings:
        sasl = self.security_protocol.startswith("SASL")
        if sasl and not self.sasl_username:
            raise ValueError("signing in with SASL needs sasl_username and sasl_password (or sasl_password_file)")
        if sasl and not self.sasl_mechanism:
            raise ValueError("signing in with SASL needs sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
        if self.sasl_password and self.sasl_password_file:
            raise ValueError("sasl_password and sasl_password_file are both given: leave one out")
        return self


class HttpSettings(BaseModel):
    """Numbers and health: /metrics, /livez and /readyz."""

    model_config = FROZEN

    host: Annotated[str, Field(description="address to listen on; 0.0.0.0 is every one of this machine")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 listens on none")] = 8080


class RedisSettings(BaseModel):
    """The store of the sensors' state."""

    model_config = FROZEN

    url: Annotated[SecretStr, Field(description="redis:// or rediss:// (TLS), with user and password where needed")] = (
        SecretStr("redis://localhost:6379/0")
    )
    cluster: Annotated[
        bool, Field(description="the url names a node of a Redis Cluster, which is asked for the others")
    ] = False
    password_file: Annotated[Path | None, Field(description="a file that holds the password")] = None
    ssl_cafile: Annotated[Path | None, Field(description="certificates of the authority that signed the server's")] = (
        None
    )
    prefix: Annotated[str, Field(description="what all keys begin with")] = "stream-detector"

    @field_validator("url")
    @classmethod
    def _an_address(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("prefix")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not TOPIC.fullmatch(value):
            raise ValueError("may hold letters, digits, '.', '_' and '-' only")
        return value


class LogSettings(BaseModel):
    """How a worker and a trainer tell what they do."""

    model_config = FROZEN

    format: Annotated[
        Literal["text", "json"], Field(description="lines for people, or one JSON object a line for programs")
    ] = "text"


class ModelsSettings(BaseModel):
    """Where trained weights are kept."""

    model_config = FROZEN

    registry: Annotated[
        str, Field(description="directory or volume of the registry of weights  [default: Redis at redis.url]")
    ] = ""

    @field_validator("registry")
    @classmethod
    def _a_place(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("must be a directory; leave it empty for Redis at redis.url")
        return value


class WorkerSettings(BaseModel):
    """How a worker takes readings in and gives alerts out."""

    model_config = FROZEN

    slot: Annotated[
        str | None,
        Field(description="stable name of this worker among its group  [default: host and process]"),
    ] = None
    processes: Annotated[
        int, Field(ge=1, le=256, description="worker processes on this host: one for each core or device")
    ] = 1
    batch_size: Annotated[int, Field(ge=1, description="windows that are scored together, about")] = 4096
    max_wait_ms: Annotated[int, Field(ge=1, description="longest that a reading waits for a batch to fill")] = 200
    delivery: Annotated[
        Literal["exactly_once", "at_least_once"],
        Field(description="at_least_once saves the transaction; a crash may then tell an alert twice"),
    ] = "exactly_once"
    session_timeout_ms: Annotated[
        int, Field(ge=1000, description="a worker that is silent for so long loses its partitions")
    ] = 10_000
    transaction_timeout_ms: Annotated[
        int, Field(ge=1000, description="a transaction that takes longer ends the process, so that another goes on")
    ] = 15_000
    shutdown_timeout_ms: Annotated[int, Field(ge=1000, description="longest that a clean stop may take")] = 20_000
    rebuild_readings: Annotated[
        int, Field(ge=0, description="messages of a partition that are read again when its state is lost")
    ] = 200_000
    max_sensors: Annotated[
        int, Field(ge=1, description="sensors of one partition; readings of further ones go to the dead letters")
    ] = 100_000
    max_channels: Annotated[int, Field(ge=1, description="channels of one sensor")] = 64


class TrainerSettings(BaseModel):
    """How weights are refreshed from recent readings."""

    model_config = FROZEN

    interval: Annotated[str, Field(description="time between two trainings; drift may bring one forward")] = "6h"
    promotion: Annotated[
        Literal["auto", "shadow", "manual"],
        Field(description="what becomes of weights that are not worse: in use at once, tried beside, or kept only"),
    ] = "auto"
    shadow_share: Annotated[
        float, Field(gt=0, le=1, description="share of the sensors on which workers try a shadow beside")
    ] = 0.1
    shadow_for: Annotated[
        str, Field(description="how long each of these sensors is watched, by its own readings, before it is decided")
    ] = "1h"
    history: Annotated[str, Field(description="how far back readings are learned from")] = "7d"
    max_sensors: Annotated[int, Field(ge=1, description="sensors that are learned from, for each line of weights")] = (
        500
    )
    max_readings: Annotated[
        int, Field(ge=1000, description="readings that are learned from, for each line of weights")
    ] = 200_000
    steps: Annotated[int, Field(ge=1, description="gradient steps of one training, at most")] = 400
    tolerance: Annotated[
        float, Field(ge=0, le=1, description="how much worse new weights may measure and still count as not worse")
    ] = 0.05
    directory: Annotated[
        Path | None,
        Field(description="where a training is kept to go on with after a crash  [default: the user's cache]"),
    ] = None

    @field_validator("interval", "shadow_for", "history")
    @classmethod
    def _a_span(cls, value: str) -> str:
        if not parse_duration(value):
            raise ValueError(f"the span {value!r} is nothing: give one like '6h'")
        return value

    @model_validator(mode="after")
    def _in_time(self) -> TrainerSettings:
        if self.promotion == "shadow" and parse_duration(self.shadow_for) >= parse_duration(self.interval):
            raise ValueError(
                f"shadow_for ({self.shadow_for}) is not shorter than interval ({self.interval}): each shadow would be "
                f"replaced by the next before it is decided on"
            )
        return self
