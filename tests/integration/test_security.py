"""The command `worker` with a broker that wants TLS and a password, and a store that wants one too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from stream_detector.cli import main
from stream_detector.local import LocalKafka, LocalRedis, Secure
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.topics import Record, ensure_topics, produce, read_topic

COMMAND = Path(sys.executable).with_name("stream-detector")
SASL, STORE, WRONG = "sasl-password-1", "store-password-2", "wrong-password-3"
START_MS = 1_760_000_000_000


@dataclass(frozen=True)
class Secured:
    """Both servers, and where the authority's certificate lies."""

    kafka: LocalKafka
    store: LocalRedis
    authority: Path
    directory: Path

    def settings(self, topic: str) -> KafkaSettings:
        """How this process signs in."""
        return KafkaSettings(
            bootstrap_servers=self.kafka.address,
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="worker",
            sasl_password=SecretStr(SASL),
            ssl_cafile=self.authority,
            readings_topic=topic,
            alerts_topic=f"{topic}-alerts",
            dead_letters_topic=f"{topic}-dead",
        )

    def environment(self, topic: str, **changed: str | None) -> dict[str, str]:
        """What the worker is given; None takes a variable away."""
        kafka, store = "STREAM_DETECTOR_KAFKA__", "STREAM_DETECTOR_REDIS__"
        given: dict[str, str | None] = {
            f"{kafka}BOOTSTRAP_SERVERS": self.kafka.address,
            f"{kafka}SECURITY_PROTOCOL": "SASL_SSL",
            f"{kafka}SASL_MECHANISM": "SCRAM-SHA-512",
            f"{kafka}SASL_USERNAME": "worker",
            f"{kafka}SASL_PASSWORD": SASL,
            f"{kafka}SSL_CAFILE": str(self.authority),
            f"{kafka}GROUP_ID": topic,
            f"{kafka}READINGS_TOPIC": topic,
            f"{kafka}ALERTS_TOPIC": f"{topic}-alerts",
            f"{kafka}DEAD_LETTERS_TOPIC": f"{topic}-dead",
            f"{store}URL": self.store.url,
            "STREAM_DETECTOR_DETECTOR__MODEL": "moving-z",
            "STREAM_DETECTOR_DETECTOR__WINDOW": "16",
            "STREAM_DETECTOR_QUALITY__STUCK_AFTER": "10",
            **changed,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_DETECTOR_")}
        return kept | {name: value for name, value in given.items() if value is not None}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with TLS and SASL, and a store with a password."""
    directory = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = b"".join([pkcs8, *(each.bytes() for each in issued.cert_chain_pems)]).decode()
    authority.cert_pem.write_to_path(str(directory / "authority.pem"))
    (directory / "sasl").write_text(f"{SASL}\n")
    (directory / "store").write_text(f"{STORE}\n")
    with (
        LocalKafka(directory / "kafka", secure=Secure({"worker": SASL}, pem)) as kafka,
        LocalRedis(directory / "redis", password=STORE) as store,
    ):
        yield Secured(kafka, store, directory / "authority.pem", directory)


def committed(kafka: KafkaSettings, topic: str, limit_s: float = 40) -> list[Record]:
    """All messages of a topic, as soon as there is one."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := list(read_topic(kafka, topic)):
            return found
        time.sleep(0.2)
    raise TimeoutError(f"nothing came in {topic} within {limit_s} s")


def told_nothing_secret(text: str) -> bool:
    """Whether no password stands in what a command has said."""
    return not any(secret in text for secret in (SASL, STORE, WRONG))


@pytest.mark.parametrize("files", [False, True], ids=["passwords in variables", "passwords in files"])
def test_the_command_works_where_all_is_secured(secured: Secured, topic: str, files: bool) -> None:
    """Readings in, an alert and a dead letter out, a clean end, and no password in anything that it says."""
    kafka = secured.settings(topic)
    ensure_topics(kafka, {topic: 2, kafka.alerts_topic: 1, kafka.dead_letters_topic: 1})
    readings = [
        {"sensor_id": "pump-1", "timestamp": START_MS + 1000 * i, "value": i % 7 if i < 60 else 3} for i in range(90)
    ]
    produce(kafka, [Message(topic, b"pump-1", json.dumps(one).encode(), []) for one in readings])
    produce(kafka, [Message(topic, b"pump-1", b"not a reading", [])])
    changed: dict[str, str | None] = {}
    if files:
        changed = {
            "STREAM_DETECTOR_KAFKA__SASL_PASSWORD": None,
            "STREAM_DETECTOR_KAFKA__SASL_PASSWORD_FILE": str(secured.directory / "sasl"),
            "STREAM_DETECTOR_REDIS__URL": secured.store.url.replace(f":{STORE}@", ""),
            "STREAM_DETECTOR_REDIS__PASSWORD_FILE": str(secured.directory / "store"),
        }
    process = subprocess.Popen(
        [COMMAND, "worker"],
        env=secured.environment(topic, **changed),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        dead = committed(kafka, kafka.dead_letters_topic)
        alerts = [json.loads(one.value or b"") for one in read_topic(kafka, kafka.alerts_topic)]
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert [one.value for one in dead] == [b"not a reading"]
    assert [(one["kind"], one["event"]) for one in alerts] == [("value_stuck", "opened")]
    assert "stopped after 90 readings, 1 alerts, 1 dead letters" in said
    assert told_nothing_secret(said)


WRONG_SETTINGS: list[tuple[dict[str, str | None], str]] = [
    ({"KAFKA__SASL_PASSWORD": WRONG}, "check kafka.sasl_username, kafka.sasl_password"),
    ({"KAFKA__SASL_PASSWORD": None}, "check kafka.sasl_username"),
    ({"KAFKA__SASL_PASSWORD": None, "KAFKA__SASL_PASSWORD_FILE": "store"}, "check kafka.sasl_username"),
    ({"KAFKA__SASL_PASSWORD_FILE": "sasl"}, "leave one out"),
    ({"REDIS__URL": f"redis://:{WRONG}@"}, "refuses the user or the password: set redis.url"),
    ({"REDIS__URL": f"http://:{WRONG}@"}, "redis.url"),
    ({"REDIS__URL": "redis://", "REDIS__PASSWORD_FILE": "sasl"}, "refuses the user or the password: set redis.url"),
    ({"REDIS__PASSWORD_FILE": "store"}, "leave one of them out"),
]


def completed(secured: Secured, changed: dict[str, str | None]) -> dict[str, str | None]:
    """The changes with the store's address and the files' places."""
    given = {f"STREAM_DETECTOR_{name}": value for name, value in changed.items()}
    for name, value in given.items():
        if value and name.endswith("_FILE"):
            given[name] = str(secured.directory / value)
        elif value and name.endswith("URL"):
            given[name] = f"{value}127.0.0.1:{secured.store.port}"
    return given


@pytest.mark.parametrize(("changed", "expected"), WRONG_SETTINGS)
def test_a_wrong_password_is_wrong_usage(
    secured: Secured,
    topic: str,
    changed: dict[str, str | None],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One sentence that names the setting, exit code 2, and no password in it."""
    monkeypatch.setattr("os.environ", secured.environment(topic, **completed(secured, changed)))
    monkeypatch.setattr("sys.argv", ["stream-detector", "worker"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert expected in said.err
    assert len(said.err.splitlines()) == 1
    assert told_nothing_secret(said.out + said.err + caplog.text)


def test_a_wrong_password_as_it_is_typed(secured: Secured, topic: str) -> None:
    """The process as a whole says nothing else: no traceback, no password."""
    changed = completed(secured, {"KAFKA__SASL_PASSWORD": WRONG, "KAFKA__SASL_MECHANISM": "PLAIN"})
    done = subprocess.run(
        [COMMAND, "worker"],
        env=secured.environment(topic, **changed),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "check kafka.sasl_username, kafka.sasl_password" in done.stderr
    assert "Traceback" not in done.stderr
    assert told_nothing_secret(done.stdout + done.stderr)
