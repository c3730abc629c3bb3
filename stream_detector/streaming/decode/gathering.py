"""Messages -> lists of times and values, a block for each kind of message.

A stream is mostly of one kind, so the kind that came most is tried first, in a loop that does next to nothing else;
what does not fit goes the general way. Which way a message takes changes nothing in what comes of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from msgspec import UNSET

from stream_detector.packed import MAGIC
from stream_detector.records import Floats, Ints
from stream_detector.streaming.decode import careful, packed, shapes
from stream_detector.streaming.decode.careful import is_channel
from stream_detector.streaming.decode.limits import Limits, Rejected, UnusableError, check_name
from stream_detector.streaming.decode.packed import PackedBlock
from stream_detector.streaming.decode.shapes import SINGLE, UNREADABLE, Number, Record, Row, Shape
from stream_detector.streaming.decode.times import Clock, Time
from stream_detector.streaming.files.times import shown

LEAST = 32
"""A kind of message that came so often in one batch is worth a decoder of its own."""
MOST_SHAPES = 64
"""Decoders that are kept: a producer that makes up channels must not fill the memory."""
PATIENCE = 8
"""More than one message in so many that does not fit, and the batch goes on in the general way."""


class Block:
    """Messages of JSON with the same channels, in order of arrival.

    sensor_ids, messages: one entry a message. counts: how many readings it holds; empty when all hold one.
    times: one entry a reading. Its values follow each other in `flat`, or in `chunks` of a message each, or are one
    entry of `rows` that `shape` understands.
    """

    def __init__(self, names: tuple[str, ...], shape: Shape | None = None) -> None:
        self.names = names
        self.shape = shape
        self.sensor_ids: list[str] = []
        self.messages: list[int] = []
        self.counts: list[int] = []
        self.times: list[Time] = []
        self.flat: list[Number] = []
        self.rows: list[Any] = []
        self.chunks: list[Floats] = []

    @property
    def many(self) -> bool:
        """Whether its messages may hold many readings."""
        return bool(self.counts)

    def owner(self) -> Ints | None:
        """Which message, by its place in `messages`, each reading (N,) is of; None where each holds one."""
        return np.repeat(np.arange(len(self.counts)), self.counts) if self.counts else None

    def rank(self) -> Ints | None:
        """The place of each reading in its message, where that cannot be counted: it always can."""
        return None

    def time_ms(self, clock: Clock) -> Ints:
        """(N,) milliseconds; -1 for what is no time in the years 1970 to 2200."""
        return clock.to_ms(self.times)

    def stated(self, row: int) -> Time:
        """The time of a reading as it came."""
        return self.times[row]

    def faults(self, values: Floats) -> dict[int, str]:
        """The messages that turn out to be unusable: none, they were looked at one by one."""
        return {}

    def values(self) -> Floats:
        """(N, C) in the order of `names`; NaN where null stood."""
        if self.shape:
            return self.shape.columns(self.rows)
        flat = np.concatenate(self.chunks) if self.chunks else _packed(self.flat)
        return flat.reshape(len(self.times), len(self.names))


class Gatherer:
    """Sorts messages into blocks, and remembers from batch to batch which kind is the usual one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._usual: Shape | None = None
        self._single: dict[tuple[str, ...], Block] = {}
        self._many: dict[tuple[str, ...], Block] = {}
        self._packed: dict[tuple[bytes, int], PackedBlock] = {}
        self._rejected: list[Rejected] = []

    def gather(self, values: Sequence[bytes | None]) -> tuple[list[Block | PackedBlock], list[Rejected]]:
        """The blocks of a batch, and the messages that fit into none."""
        self._single, self._many, self._packed, self._rejected = {}, {}, {}, []
        readable = self._readable(values)
        blocks: list[Block | PackedBlock] = []
        others: Iterable[int] = range(len(values))
        if self._usual:
            block, others = _gather_usual(self._usual, readable)
            blocks.append(block)
        for message in others:
            try:
                if readable[message].startswith(MAGIC):
                    self._add_packed(message, readable[message])
                    continue
                try:
                    record = shapes.read(readable[message])
                except UNREADABLE:
                    record = careful.read(values[message], self._limits)
                self._add(message, record)
            except UnusableError as error:
                self._rejected.append(Rejected(message, str(error)))
        blocks += [*self._single.values(), *self._many.values(), *self._packed.values()]
        self._choose_usual(blocks)
        return [block for block in blocks if block.messages], self._rejected

    def _readable(self, values: Sequence[bytes | None]) -> Sequence[bytes]:
        """The same messages, with nothing in the place of what is not to be decoded: no decoder accepts that."""
        longest = self._limits.message_bytes
        whole = cast("Sequence[bytes]", values)
        try:
            if max(map(len, whole), default=0) <= longest:
                return whole
        except TypeError:  # there is a None among them
            pass
        return [value if value is not None and len(value) <= longest else b"" for value in values]

    def _choose_usual(self, blocks: Sequence[Block | PackedBlock]) -> None:
        """The kind of single readings that nearly all messages were of, if there is one."""
        total = sum(len(block.messages) for block in blocks)
        most = max(blocks, key=lambda block: len(block.messages), default=None)
        if most is None or most.many or len(most.messages) * PATIENCE < total * (PATIENCE - 1):
            self._usual = None
            return
        shape = self._shapes.get(most.names)
        if shape is None and total >= LEAST and Shape.possible(most.names) and all(map(is_channel, most.names)):
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.clear()
            shape = self._shapes[most.names] = Shape(most.names)
        self._usual = shape

    def _add(self, message: int, record: Record) -> None:
        """Put a record into its block; raises UnusableError when it lacks something."""
        sensor_id, time, values = record.sensor_id, record.timestamp, record.values
        if sensor_id is UNSET:
            raise UnusableError("missing-field: the sensor_id is missing")
        if record.timestamps is not UNSET:
            self._add_many(message, sensor_id, record.timestamps, record)
            return
        if time is UNSET:
            raise UnusableError("missing-field: the timestamp is missing")
        names: tuple[str, ...] = SINGLE
        row: Iterable[Number]
        if isinstance(values, dict):
            names, row = tuple(values), values.values()
        elif isinstance(values, list):
            raise UnusableError("missing-field: values is a list, so it needs timestamps, one for each entry")
        elif record.value is UNSET:
            raise UnusableError("missing-field: it has neither value nor values")
        else:
            row = (record.value,)
        block = self._single.get(names)
        if block is None:
            block = self._single[names] = self._new_block(names)
        block.flat.extend(row)
        block.times.append(time)
        block.sensor_ids.append(sensor_id)
        block.messages.append(message)

    def _add_many(self, message: int, sensor_id: str, times: list[Time], record: Record) -> None:
        rows = record.values
        if not isinstance(rows, list):
            raise UnusableError("missing-field: beside timestamps it needs values, a list with one entry for each")
        if not times or len(times) != len(rows):
            raise UnusableError(f"wrong-length: there are {len(times):,} timestamps and {len(rows):,} values")
        if len(times) > self._limits.readings:
            raise UnusableError(
                f"too-large: the message has {len(times):,} readings, more than {self._limits.readings:,}; send fewer "
                f"in one"
            )
        names = SINGLE if record.channels is UNSET else tuple(record.channels)
        flat = _in_order(rows, len(names), record.channels is UNSET)
        block = self._many.get(names)
        if block is None:
            block = self._many[names] = self._new_block(names)
        block.chunks.append(_packed(flat))
        block.times += times
        block.sensor_ids.append(sensor_id)
        block.messages.append(message)
        block.counts.append(len(times))

    def _add_packed(self, message: int, value: bytes) -> None:
        one = packed.cut(value, self._limits)
        key = one.names, one.width
        block = self._packed.get(key)
        if block is None:
            names = tuple(packed.decoded(one.names).split("\n"))
            self._check_channels(names)
            block = self._packed[key] = PackedBlock(names, one.width)
        block.add(message, one)

    def _new_block(self, names: tuple[str, ...]) -> Block:
        self._check_channels(names)
        return Block(names)

    def _check_channels(self, names: tuple[str, ...]) -> None:
        if not any(map(is_channel, names)):
            raise UnusableError("missing-field: it has no value of any channel")
        if len(names) > self._limits.channels:
            raise UnusableError(
                f"too-many-channels: it has {len(names):,} channels, more than {self._limits.channels:,}; a sensor may "
                f"be split into several"
            )
        if len(set(names)) != len(names):
            raise UnusableError(f"bad-channel: {shown(max(names, key=names.count))} is among the channels twice")
        for name in names:
            check_name(name, "bad-channel", "the name of a channel")


def _gather_usual(shape: Shape, values: Sequence[bytes]) -> tuple[Block, list[int]]:
    """The messages of the usual kind, and those that are not; all from one on, when these are too many."""
    block = Block(shape.channels, shape)
    decode, others, times = shape.decode, list[int](), block.times
    add_id, add_time, add_row = block.sensor_ids.append, times.append, block.rows.append
    for value in values:
        try:
            record = decode(value)
        except UNREADABLE:
            others.append(len(times) + len(others))
            if len(others) * PATIENCE > len(times) + LEAST:
                break
            continue
        add_id(record.sensor_id)
        add_time(record.timestamp)
        add_row(record.values)
    read = len(times) + len(others)
    block.messages = [*range(read)] if not others else np.delete(np.arange(read), others).tolist()
    return block, [*others, *range(read, len(values))]


def _in_order(rows: list[Row], width: int, may_be_flat: bool) -> list[Number]:
    """The values of many readings one after the other; raises UnusableError unless all have the same width."""
    flat: list[Number] = []
    try:
        lists = cast("list[list[Number]]", rows)
        if set(map(len, lists)) == {width}:
            for row in lists:
                flat += row
            return flat
    except TypeError:  # a number or None has no length
        if may_be_flat and list not in set(map(type, rows)):
            return cast("list[Number]", rows)
    numbers = "number" if width == 1 else f"{width} numbers"
    raise UnusableError(f"wrong-length: each entry of values must be a list of {numbers}, one for each channel")


def _packed(flat: list[Number]) -> Floats:
    """The values as an array; NaN for None."""
    try:
        return np.frombuffer(struct.pack(f"{len(flat)}d", *flat))  # twice as quick as numpy's own way
    except struct.error:
        return np.array(flat, np.float64)
