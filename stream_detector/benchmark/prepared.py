"""Messages that are made before the clock starts, and then only handed to the broker at their times.

A producer of this language takes a core for itself at the paces that are measured; on a machine with two cores it would
be the producer that is measured. Producers are elsewhere in production, and so their work is done beforehand here.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence

from kafka.record.default_records import DefaultRecordBatchBuilder

PRODUCE, VERSION, LEADER_WRITES = 0, 7, 1
TIMEOUT_MS = 30_000
BATCH_BYTES = 1 << 22


def request(topic: str, parts: Mapping[int, Sequence[bytes]], time_ms: int) -> bytes:
    """A whole produce request: the values for each partition, as one batch of records each."""
    name = topic.encode()
    body = struct.pack(">hhih", PRODUCE, VERSION, 0, -1) + struct.pack(">hhi", -1, LEADER_WRITES, TIMEOUT_MS)
    body += struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", len(parts))
    for partition, values in parts.items():
        records = _records(values, time_ms)
        body += struct.pack(">ii", partition, len(records)) + records
    return struct.pack(">i", len(body)) + body


def play(address: str, schedule: Iterable[tuple[float, bytes]]) -> float:
    """Send each request at its time, in seconds since 1970; returns the longest that one was sent too late, in seconds.

    Raises RuntimeError where the broker takes one not.
    """
    host, _, port = address.partition(":")
    late_s = 0.0
    with socket.create_connection((host, int(port))) as broker:
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at_s, message in schedule:
            time.sleep(max(0.0, at_s - time.time()))
            late_s = max(late_s, time.time() - at_s)
            broker.sendall(message)
            _check(_answer(broker))
    return late_s


def _records(values: Sequence[bytes], time_ms: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=BATCH_BYTES,
    )
    for offset, value in enumerate(values):
        builder.append(offset, time_ms, None, value, [])
    return bytes(builder.build())


def _answer(broker: socket.socket) -> bytes:
    size = struct.unpack(">i", _exactly(broker, 4))[0]
    return _exactly(broker, size)


def _exactly(broker: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = broker.recv(size - len(found))
        if not part:
            raise RuntimeError("the broker closed the connection")
        found += part
    return found


def _check(answer: bytes) -> None:
    """Raise where a partition's records were not taken."""
    (topics,) = struct.unpack_from(">i", answer, 4)
    place = 8
    for _ in range(topics):
        (length,) = struct.unpack_from(">h", answer, place)
        place += 2 + length
        (partitions,) = struct.unpack_from(">i", answer, place)
        place += 4
        for _ in range(partitions):
            partition, error = struct.unpack_from(">ih", answer, place)
            place += 30  # and offset, time, first offset
            if error:
                raise RuntimeError(f"the broker does not take messages for partition {partition}: error {error}")
