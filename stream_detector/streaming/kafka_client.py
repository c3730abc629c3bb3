"""Clients of the broker: settings become options, and a broker that is not reached becomes a sentence.

Everything that talks to Kafka is made here, so that a password is read in one place. Knows nothing of readings, alerts,
groups or transactions.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import kafka.errors as foreign

from stream_detector.errors import ConfigError, StreamDetectorError, TransportError
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.kafka_errors import REFUSED, translated

BOOTSTRAP_TIMEOUT_MS = 10_000
FIRST_TRY_MS = 2_000
"""After which it is asked why the broker is not reached: a wrong setting need not wait to the end."""
REQUEST_TIMEOUT_MS = 10_000
PROBE_TIMEOUT_S = 2.0
HUNG_UP, HANG_UPS = "disconnected", 2
FETCH_WAIT_MS = 200
PARTITION_FETCH_BYTES = 8 << 20
FETCH_BYTES = 64 << 20
MAX_REQUEST_BYTES = 64 << 20
"""No limit of ours on what is sent: the topic has one, and the broker says so."""

Client = TypeVar("Client")
Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be published: `key` decides the partition."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def common_options(kafka: KafkaSettings) -> Options:
    """Options that every client takes; raises ConfigError where a file that they name cannot be read."""
    options: Options = {
        "bootstrap_servers": _addresses(kafka),
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        # A broker that is back after minutes is found again within seconds.
        "reconnect_backoff_max_ms": 2_000,
    }
    if kafka.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = _password(kafka)
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path: Path | None = getattr(kafka, name)
        if path is not None:
            _read(path, f"kafka.{name}")
            options[name] = str(path)
    return options


def consumer_options(kafka: KafkaSettings) -> Options:
    """Options of a consumer that sees committed messages only, and never skips or commits by itself.

    The broker sends a batch that is larger than the fetch sizes all the same, so no message can stall a partition.
    """
    return common_options(kafka) | {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "fetch_max_bytes": FETCH_BYTES,
        "max_partition_fetch_bytes": PARTITION_FETCH_BYTES,
        "metrics_enabled": False,
    }


def producer_options(kafka: KafkaSettings) -> Options:
    """Options of a producer that waits for all replicas and never writes a message twice."""
    return common_options(kafka) | {
        "enable_idempotence": True,
        "acks": "all",
        "batch_size": 1 << 18,
        "max_request_size": MAX_REQUEST_BYTES,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def connected(kafka: KafkaSettings, make: Callable[..., Client], options: Options) -> Client:
    """A client that has reached the broker; raises ConfigError or TransportError that say why it has not."""
    for limit_ms in (FIRST_TRY_MS, BOOTSTRAP_TIMEOUT_MS - FIRST_TRY_MS):
        with _overhearing() as failures:
            try:
                return make(**{**options, "bootstrap_timeout_ms": limit_ms})
            except foreign.KafkaConfigurationError as error:
                raise ConfigError(f"the settings of Kafka cannot be used: {error}") from error
            except (foreign.KafkaError, OSError, ValueError) as error:
                reason = unreachable(kafka, [error, *failures])
                if isinstance(reason, ConfigError):
                    raise reason from error
    raise reason


@contextmanager
def _overhearing() -> Iterator[list[BaseException]]:
    """What the client logs meanwhile: it tries again and again, and raises no more than a time-out."""
    failures: list[BaseException] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            given = record.args if isinstance(record.args, tuple) else ()
            failures.extend(one for one in given if isinstance(one, foreign.KafkaError))

    attempts, listener = logging.getLogger("kafka.net.manager"), Listener(logging.WARNING)
    level = attempts.level
    attempts.addHandler(listener)
    if not attempts.isEnabledFor(logging.WARNING):
        attempts.setLevel(logging.WARNING)
    try:
        yield failures
    finally:
        attempts.removeHandler(listener)
        attempts.setLevel(level)


def unreachable(kafka: KafkaSettings, failures: Sequence[BaseException] = ()) -> StreamDetectorError:
    """Why no broker can be reached: from what the client met, and from knocking at each address."""
    for failure in failures:
        if isinstance(failure, REFUSED):
            return translated(failure, kafka, "signing in")
    try:
        silent = [reason for address in _addresses(kafka) if (reason := _silence(kafka, address))]
    except ConfigError as error:
        return error
    hung_up = [one for one in failures if isinstance(one, foreign.KafkaConnectionError) and HUNG_UP in str(one)]
    if not silent and kafka.security_protocol.startswith("SASL") and len(hung_up) >= HANG_UPS:
        # Behind TLS the client mostly loses the broker's answer, which comes together with the end.
        return ConfigError(
            f"Kafka at {kafka.bootstrap_servers} hangs up while the user {kafka.sasl_username!r} signs in: check "
            "kafka.sasl_username, kafka.sasl_password (or kafka.sasl_password_file) and kafka.sasl_mechanism"
        )
    reasons = silent or [f"it answers, but not as a broker that speaks {kafka.security_protocol}"]
    return TransportError(
        f"Kafka at {kafka.bootstrap_servers} cannot be reached ({'; '.join(reasons)}): start it, or check "
        "kafka.bootstrap_servers and kafka.security_protocol"
    )


def _silence(kafka: KafkaSettings, address: str) -> str | None:
    """Why nobody answers at an address, None if somebody does; raises ConfigError where a setting is at fault."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"kafka.bootstrap_servers: {address!r} is not an address: write it like host:9092")
    try:
        _knock(kafka, host.strip("[]"), int(port))
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"the certificate of Kafka at {address} cannot be verified ({error.verify_message}): set "
            "kafka.ssl_cafile to the certificate of the authority that signed it"
        ) from error
    except ssl.SSLError as error:
        raise ConfigError(
            f"Kafka at {address} does not speak TLS: check kafka.security_protocol and the port"
        ) from error
    except OSError as error:
        return f"{address}: {error.strerror or error}"
    return None


def _knock(kafka: KafkaSettings, host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S) as plain:
        if kafka.security_protocol.endswith("SSL"):
            _tls(kafka).wrap_socket(plain, server_hostname=host).close()


def _tls(kafka: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None)
        if kafka.ssl_certfile is not None:
            context.load_cert_chain(str(kafka.ssl_certfile), str(kafka.ssl_keyfile) if kafka.ssl_keyfile else None)
    except ssl.SSLError as error:
        raise ConfigError(
            "kafka.ssl_cafile, kafka.ssl_certfile or kafka.ssl_keyfile does not hold what it should "
            f"({error.reason}): give PEM files, and the key that belongs to the certificate"
        ) from error
    return context


def _addresses(kafka: KafkaSettings) -> list[str]:
    return [address for address in kafka.bootstrap_servers.replace(" ", "").split(",") if address]


def _password(kafka: KafkaSettings) -> str:
    if kafka.sasl_password_file is not None:
        return _read(kafka.sasl_password_file, "kafka.sasl_password_file").decode("utf-8", "replace").strip()
    return kafka.sasl_password.get_secret_value() if kafka.sasl_password else ""


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: the file {path} cannot be read ({error.strerror})") from error
