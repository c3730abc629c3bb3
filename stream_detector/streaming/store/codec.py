"""Records to the arguments and values that the scripts and Redis hold, and back; no network here.

A row in Redis is its layout's tag and its bytes: after an upgrade rows of two layouts lie side by side until each
sensor is written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256

import msgspec

from stream_detector.errors import ConfigError, StoreError
from stream_detector.streaming.store.keys import LAYOUT, PartitionKeys, rows_field
from stream_detector.streaming.store.records import Outboxed, PartitionSave, Rows

TAG_BYTES = 16
BLOCK_BYTES = 4 * 2**20
"""Most that one argument holds, so that no copy of it is large; a server would take 512 MiB."""
MOST_BYTES = 900_000_000
MOST_ROWS = 500_000
"""Most of one save; a server cuts a client off at 1 GiB or a million arguments of one call."""

Argument = bytes | str | int


def save_call(keys: PartitionKeys, save: PartitionSave) -> tuple[list[str], list[Argument]]:
    """Keys and arguments of the script `save`; raises ConfigError where a server could not take them."""
    size = sum(len(rows.packed) for rows in save.sensors.values())
    count = sum(len(rows.ids) for rows in save.sensors.values())
    if size > MOST_BYTES or count > MOST_ROWS:
        raise ConfigError(
            f"{save.topic}[{save.partition}] has {count:,} changed sensors of {size:,} bytes, more than Redis takes "
            f"at once: lower worker.max_sensors or detector.window, or give the topic more partitions"
        )
    expected = "" if save.expected_offset is None else save.expected_offset
    arguments: list[Argument] = [save.epoch, save.step, expected, save.next_offset, save.meta]
    arguments.append(pack_outboxed(save) if save.outbox else b"")
    for profile, rows in save.sensors.items():
        arguments += [rows_field(profile), tag(rows.layout), rows.layout, rows.width]
        arguments += _blocks(rows)
    return [keys.meta, keys.outbox, *map(keys.sensors, save.sensors)], arguments


def _blocks(rows: Rows) -> list[Argument]:
    """Number of blocks, then of each its number of rows, its ids, and its rows joined."""
    # Joined rows, cut apart by the script, are twice as fast as a row an argument: 2,000 rows of 2,500 bytes take
    # 8 ms against 14 ms (MULTI and EXEC: 12 ms), and the hiredis package makes both slower.
    per_block = max(1, BLOCK_BYTES // max(1, rows.width))
    starts = range(0, len(rows.ids), per_block)
    found: list[Argument] = [len(starts)]
    for start in starts:
        ids = rows.ids[start : start + per_block]
        found.append(len(ids))
        found += [sensor_id.encode("utf-8", "surrogatepass") for sensor_id in ids]
        found.append(rows.packed[start * rows.width : (start + len(ids)) * rows.width])
    return found


def tag(layout: bytes) -> bytes:
    """What a row begins with, so that its layout is found."""
    return sha256(layout).hexdigest()[:TAG_BYTES].encode()


def unpack_rows(stored: Mapping[bytes, bytes], meta: Mapping[bytes, bytes]) -> Iterator[Rows]:
    """The rows of one profile by layout, ids in order of their bytes; raises StoreError."""
    ids_of: dict[bytes, list[bytes]] = {}
    for sensor_id in sorted(stored):
        ids_of.setdefault(stored[sensor_id][:TAG_BYTES], []).append(sensor_id)
    for found, ids in sorted(ids_of.items()):
        layout = meta.get(LAYOUT + found)
        if layout is None:
            raise StoreError("rows of a layout that is not there: they were not written by this program")
        try:
            texts = [sensor_id.decode("utf-8", "surrogatepass") for sensor_id in ids]
            yield Rows(layout, texts, b"".join([memoryview(stored[sensor_id])[TAG_BYTES:] for sensor_id in ids]))
        except ValueError as error:
            raise StoreError("rows that are cut off: they were not written by this program") from error


def pack_outboxed(save: PartitionSave) -> bytes:
    """One entry of the outbox: the end offset comes first, in digits, for the script `trim`."""
    return f"{save.next_offset} {save.step}\n".encode() + msgspec.msgpack.encode(list(save.outbox))


def unpack_outboxed(entry: bytes) -> Outboxed:
    """The inverse of `pack_outboxed`; raises StoreError."""
    try:
        head, _, messages = entry.partition(b"\n")
        end_offset, step = head.split(b" ")
        return Outboxed(int(step), int(end_offset), msgspec.msgpack.decode(messages, type=list[bytes]))
    except (ValueError, msgspec.MsgspecError) as error:
        raise StoreError("an outbox that cannot be read: it was not written by this program") from error
