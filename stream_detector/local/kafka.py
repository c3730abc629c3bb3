"""A real Kafka broker of one node (KRaft), made to come up fast. It knows nothing of topics and records.

Measured on two busy cores: 1.5 s to format a new directory, 2.8 s to start, 0.2 s to stop, with the flags below;
with Java's defaults 2.3, 4.8 and 0.4 s.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stream_detector.errors import TransportError
from stream_detector.local.jars import java, kafka_jars
from stream_detector.local.server import HOST, Server, check_secret, write_private

STARTED = "Kafka Server started"
PROPERTIES = "server.properties"
KEYS = "keys.pem"
FORMAT_TIMEOUT_S = 60
FAST = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "--sun-misc-unsafe-memory-access=allow")
LOG = "-Dorg.slf4j.simpleLogger."
LOGGING = (
    f"{LOG}defaultLogLevel=warn",
    f"{LOG}log.kafka.server.KafkaRaftServer=info",  # it says when the broker has started
    f"{LOG}showDateTime=true",
    f"{LOG}dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)
ONE_NODE = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# A broker that was killed is let in again only when its session is over.
broker.heartbeat.interval.ms=250
broker.session.timeout.ms=1500
# Readings may carry times long past: they must not be deleted for their age.
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=2097152
"""


@dataclass(frozen=True)
class Secure:
    """TLS and passwords for the broker's clients: SASL_SSL with PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.

    `users` are names and passwords. `key_and_certificates` is a PEM file's text: the private key as PKCS #8, then its
    certificate and those above it. For tests: the passwords lie in files of the broker's directory.
    """

    users: Mapping[str, str] = field(repr=False)
    key_and_certificates: str = field(repr=False)

    def __post_init__(self) -> None:
        for text in (*self.users, *self.users.values()):
            check_secret(text)

    def properties(self) -> list[str]:
        """What the broker's file of settings says about it."""
        users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        module, prefix = "org.apache.kafka.common.security", "listener.name.clients"
        return [
            f"{prefix}.ssl.keystore.type=PEM",
            f"{prefix}.ssl.keystore.location={KEYS}",
            f"{prefix}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{prefix}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required {users};",
            f"{prefix}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;",
            f"{prefix}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;",
        ]


class LocalKafka(Server):
    """Kafka on this machine; clients connect to `address`."""

    name = "Kafka"
    error = TransportError
    ports_needed = 3

    def __init__(self, directory: Path, port: int | None = None, secure: Secure | None = None) -> None:
        super().__init__(directory, port)
        self._secure = secure

    @property
    def address(self) -> str:
        """Bootstrap server, as host:port."""
        return f"{HOST}:{self.port}"

    def _command(self) -> Sequence[str]:
        self._write_properties()
        if not (self.directory / "data" / "meta.properties").exists():
            self._format()
        return [*_java(), *LOGGING, "kafka.Kafka", PROPERTIES]

    def _answers(self) -> bool:
        # The ports open long before the broker serves, so its own word is waited for.
        return STARTED in self.said()

    def _format(self) -> None:
        """Make an empty directory a cluster's own, with the users that sign in by SCRAM."""
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # In one word: an id may begin with a dash, which would be taken for another option.
        options = [f"--cluster-id={cluster}", "--config", PROPERTIES, "--ignore-formatted"]
        for name, password in self._secure.users.items() if self._secure else ():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                options += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        command = [*_java(), "kafka.tools.StorageTool", "format", *options]
        try:
            done = subprocess.run(  # noqa: S603
                command, cwd=self.directory, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise TransportError(f"Kafka's directory was not formatted within {FORMAT_TIMEOUT_S} s") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise TransportError(f"Kafka's directory {self.directory} could not be formatted: {' '.join(said)}")

    def _write_properties(self) -> None:
        clients, controller, internal = self._ports
        listeners = f"CLIENTS://{HOST}:{clients},INTERNAL://{HOST}:{internal}"
        protocols = f"CLIENTS:{'SASL_SSL' if self._secure else 'PLAINTEXT'},CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT"
        lines = [
            ONE_NODE.rstrip(),
            "log.dirs=data",  # relative, as all paths here: so no character of a directory's name needs care
            f"controller.quorum.voters=1@{HOST}:{controller}",
            f"listeners={listeners},CONTROLLER://{HOST}:{controller}",
            f"advertised.listeners={listeners}",
            f"listener.security.protocol.map={protocols}",
        ]
        if self._secure:
            lines += self._secure.properties()
            write_private(self.directory / KEYS, self._secure.key_and_certificates)
        write_private(self.directory / PROPERTIES, "\n".join(lines) + "\n")


def _java() -> list[str]:
    jars = sorted(str(path) for path in kafka_jars().glob("*.jar"))
    return [str(java()), *FAST, "-cp", ":".join(jars)]
