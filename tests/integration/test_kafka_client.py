"""Reaching a real broker: the right and the wrong password, certificates, and nobody there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from stream_detector.errors import ConfigError, TransportError
from stream_detector.local import LocalKafka, Secure
from stream_detector.settings import KafkaSettings, WorkerSettings
from stream_detector.streaming import kafka_client
from stream_detector.streaming.topics import end_offsets, ensure_topics, produce, read_topic
from stream_detector.streaming.transport import Message, Transport

PASSWORD = "right-and-secret"  # noqa: S105 (invented)
WRONG = "wrong-and-secret"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a broker that wants TLS and a password, and the file of its authority."""
    directory = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1", "localhost")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    pems = _pkcs8(issued.private_key_pem.bytes()) + chain.decode()
    with LocalKafka(directory / "kafka", secure=Secure({"worker": PASSWORD}, pems)) as broker:
        yield broker.address, directory / "ca.pem"


def _pkcs8(key: bytes) -> str:
    """The same private key in the one format that Java reads."""
    from cryptography.hazmat.primitives import serialization as form

    loaded = form.load_pem_private_key(key, None)
    return loaded.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode()


def settings(secured: tuple[str, Path], **more: Any) -> KafkaSettings:
    """Settings that reach the secured broker, but for what is given."""
    address, authority = secured
    right = {
        "bootstrap_servers": address,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "worker",
        "sasl_password": PASSWORD,
        "ssl_cafile": authority,
    }
    return KafkaSettings(**(right | more))


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find nobody sooner than a user would."""
    monkeypatch.setattr(kafka_client, "FIRST_TRY_MS", 300)
    monkeypatch.setattr(kafka_client, "BOOTSTRAP_TIMEOUT_MS", 600)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_every_way_to_sign_in_works(secured: tuple[str, Path], mechanism: str) -> None:
    """Creating, sending, reading and a worker's transport all sign in."""
    topic = f"signed-{mechanism}"
    kafka = settings(secured, sasl_mechanism=mechanism, readings_topic=topic, group_id=topic)
    ensure_topics(kafka, {topic: 1})
    produce(kafka, [Message(topic, b"k", b"v")])
    assert [record.value for record in read_topic(kafka, topic)] == [b"v"]
    one = Transport(kafka, WorkerSettings(slot="a"))
    one.publish([Message(topic, b"k", b"w")], {})
    one.close(2_000)
    assert [record.value for record in read_topic(kafka, topic)] == [b"v", b"w"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password_is_a_wrong_setting(
    secured: tuple[str, Path], mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends soon, with exit code 2, and the sentence does not repeat the password."""
    monkeypatch.setattr(kafka_client, "FIRST_TRY_MS", 700)
    kafka = settings(secured, sasl_mechanism=mechanism, sasl_password=WRONG)
    for reach in (
        lambda: Transport(kafka, WorkerSettings(slot="a")),
        lambda: ensure_topics(kafka, {"t": 1}),
        lambda: end_offsets(kafka, "t"),
    ):
        with pytest.raises(ConfigError, match=r"user 'worker'.*check kafka\.sasl_username") as caught:
            reach()
        assert caught.value.exit_code == 2
        assert WRONG not in str(caught.value)


def test_trouble_with_certificates_is_a_wrong_setting(
    secured: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority that did not sign the broker's certificate, none at all, and a file that holds none."""
    hurry(monkeypatch)
    stranger, empty = tmp_path / "stranger.pem", tmp_path / "empty.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    empty.write_text("nothing")
    for authority in (stranger, None):
        with pytest.raises(ConfigError, match=r"cannot be verified \(.*\): set kafka\.ssl_cafile"):
            end_offsets(settings(secured, ssl_cafile=authority), "t")
    with pytest.raises(ConfigError, match=r"kafka\.ssl_cafile.* does not hold what it should"):
        end_offsets(settings(secured, ssl_cafile=empty), "t")


def test_plain_text_to_a_secured_broker_says_so(secured: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who forgets security_protocol is told to look there."""
    hurry(monkeypatch)
    with pytest.raises(TransportError, match=r"speaks PLAINTEXT.*check .*kafka\.security_protocol"):
        end_offsets(KafkaSettings(bootstrap_servers=secured[0]), "t")


def test_a_start_without_a_broker_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address, or somebody who speaks another language: one sentence each."""
    hurry(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        answering = threading.Thread(target=_hang_up, args=(server,), daemon=True)
        answering.start()
        with pytest.raises(ConfigError, match=r"does not speak TLS: check kafka\.security_protocol"):
            Transport(KafkaSettings(bootstrap_servers=address, security_protocol="SSL"), WorkerSettings(slot="a"))
        with pytest.raises(TransportError, match="not as a broker that speaks PLAINTEXT"):
            Transport(KafkaSettings(bootstrap_servers=address), WorkerSettings(slot="a"))
    with pytest.raises(TransportError, match=rf"cannot be reached \({address}: .*refused.*\): start it"):
        Transport(KafkaSettings(bootstrap_servers=address), WorkerSettings(slot="a"))


def _hang_up(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            connection.close()
