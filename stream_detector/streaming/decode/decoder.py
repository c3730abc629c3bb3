"""Blocks of messages -> columns by channels: times are judged, sensors numbered, values put in the channels' order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.errors import DataError
from stream_detector.records import Floats, Ints
from stream_detector.streaming.decode import times
from stream_detector.streaming.decode.careful import is_channel
from stream_detector.streaming.decode.gathering import Block, Gatherer
from stream_detector.streaming.decode.limits import Columns, Decoded, Limits, Rejected, UnusableError, ranks
from stream_detector.streaming.decode.packed import PackedBlock
from stream_detector.streaming.decode.sensors import ChannelsOf, Sensors
from stream_detector.streaming.files.times import shown


class Decoder:
    """Decodes batch after batch, and remembers the sensors.

    `channels_of(sensor_id, offered)` is asked once for a sensor that was not met, with the channels of its first
    usable message, and says which channels the sensor has, in order. It may raise DataError to refuse the sensor:
    the message is then rejected with the error's text, and it is asked again for the sensor's next message.
    `expect` is told before of all that a batch will ask for: message and sensor id of each.
    """

    def __init__(
        self,
        channels_of: ChannelsOf,
        limits: Limits | None = None,
        expect: Callable[[Sequence[tuple[int, str]]], None] = lambda new: None,
    ) -> None:
        self._expect = expect
        self._gatherer = Gatherer(limits or Limits())
        self._sensors = Sensors(channels_of)
        self._clock = times.Clock()

    def forget(self, sensor_ids: Collection[str] | None = None) -> None:
        """Ask anew for the channels of these sensors, or of all."""
        self._sensors.forget(sensor_ids)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The readings of the messages; a message that cannot be used is rejected whole. Bad input never raises."""
        self._sensors.forget_if_too_many()
        blocks, rejected = self._gatherer.gather(values)
        parts = [_Part(block, self._clock) for block in blocks]
        for part in parts:
            part.reject_bad_times()
        self._meet(parts)
        pieces: dict[int, list[_Piece]] = {}
        for part in parts:
            for profile, piece in self._pieces(part):
                pieces.setdefault(profile, []).append(piece)
            rejected += [Rejected(message, reason) for message, reason in part.rejected.items()]
        columns = [self._columns(profile, pieces[profile]) for profile in sorted(pieces)]
        return Decoded(columns, sorted(rejected, key=lambda one: one.message))

    def _meet(self, parts: list[_Part]) -> None:
        """Number the sensors that are new, in order of arrival."""
        unknown: dict[int, list[tuple[str, _Part]]] = {}
        for part in parts:
            part.code = self._sensors.codes(part.block.sensor_ids)
            for place in np.flatnonzero(part.code < 0).tolist():
                unknown.setdefault(part.block.messages[place], []).append((part.block.sensor_ids[place], part))
        if unknown:
            self._expect([(message, text.strip()) for message, several in unknown.items() for text, _ in several])
        for message, several in sorted(unknown.items(), key=lambda one: one[0]):
            texts, part = [text for text, _ in several], several[0][1]
            if message not in part.rejected and (reason := self._meet_all(texts, part.channels)):
                part.rejected[message] = reason
        for part in parts if unknown else []:
            part.code = self._sensors.codes(part.block.sensor_ids)

    def _meet_all(self, texts: Sequence[str], offered: tuple[str, ...]) -> str | None:
        """Number the sensors of one message, or none of them and why not."""
        met = []
        try:
            for text in texts:
                met += [text] if self._sensors.meet(text, offered) else []
        except (UnusableError, DataError) as error:
            self._sensors.unmeet(met)
            return str(error)
        return None

    def _pieces(self, part: _Part) -> Iterator[tuple[int, _Piece]]:
        """The usable readings of a part, by their sensors' channels."""
        found = self._by_profile(part.usable())
        if self._reject_unknown(part, found):
            found = self._by_profile(part.usable())
        for index, piece in found:
            yield index, self._ordered(part, piece, self._sensors.profiles[index])

    def _by_profile(self, piece: _Piece) -> list[tuple[int, _Piece]]:
        if not len(piece.message):
            return []
        profile = self._sensors.profile(piece.code)
        first = int(profile[0])
        if (profile == first).all():
            return [(first, piece)]
        return [(index, piece.at(np.flatnonzero(profile == index))) for index in np.unique(profile).tolist()]

    def _reject_unknown(self, part: _Part, found: Sequence[tuple[int, _Piece]]) -> bool:
        """Reject what has channels that its sensor does not; whether there is such a message."""
        before = len(part.rejected)
        for index, piece in found:
            channels = self._sensors.profiles[index]
            if part.channels != channels and (unknown := [name for name in part.channels if name not in channels]):
                reason = f"unknown-channel: {shown(unknown)} is not among the sensor's channels {shown(channels)}"
                part.rejected.update(dict.fromkeys(piece.message.tolist(), reason))
        return len(part.rejected) > before

    @staticmethod
    def _ordered(part: _Part, piece: _Piece, channels: tuple[str, ...]) -> _Piece:
        """The values in the order of the sensors' channels, NaN for those that did not come."""
        if part.block.names == channels == part.channels:
            return piece
        values = np.full((len(piece.message), len(channels)), np.nan)
        for column, name in enumerate(part.block.names):
            if name in channels and is_channel(name):
                values[:, channels.index(name)] = piece.values[:, column]
        return _Piece(piece.code, piece.time_ms, values, piece.message, piece.rank)

    def _columns(self, profile: int, pieces: list[_Piece]) -> Columns:
        whole = pieces[0]
        if len(pieces) > 1:
            ranked = any(piece.rank is not None for piece in pieces)
            whole = _Piece(
                np.concatenate([piece.code for piece in pieces]),
                np.concatenate([piece.time_ms for piece in pieces]),
                np.concatenate([piece.values for piece in pieces]),
                np.concatenate([piece.message for piece in pieces]),
                np.concatenate([piece.ranks() for piece in pieces]) if ranked else None,
            )
            whole = whole.at(np.argsort(whole.message, kind="stable"))
        index = np.full(len(self._sensors.ids), -1, np.int64)
        index[whole.code] = 0
        present = np.flatnonzero(index == 0)
        index[present] = np.arange(len(present))
        ids = self._sensors.ids
        return Columns(
            channels=self._sensors.profiles[profile],
            sensor_ids=[ids[code] for code in present.tolist()],
            sensor=index[whole.code],
            time_ms=whole.time_ms,
            values=whole.values,
            message=whole.message,
            rank=whole.rank,
        )


@dataclass(slots=True)
class _Piece:
    """Readings of sensors with the same channels, as columns (N,); values (N, C); rank as in `Columns`."""

    code: Ints
    time_ms: Ints
    values: Floats
    message: Ints
    rank: Ints | None

    def at(self, rows: Ints) -> _Piece:
        rank = None if self.rank is None else self.rank[rows]
        return _Piece(self.code[rows], self.time_ms[rows], self.values[rows], self.message[rows], rank)

    def ranks(self) -> Ints:
        """The rank of each reading, counted where it is not given."""
        return ranks(self.message) if self.rank is None else self.rank


class _Part:
    """A block on its way to columns, and its messages that turn out to be unusable, with the reason."""

    code: Ints

    def __init__(self, block: Block | PackedBlock, clock: times.Clock) -> None:
        self.block = block
        self.channels = tuple(filter(is_channel, block.names))
        self._time_ms = block.time_ms(clock)
        self._owner = block.owner()
        messages = np.array(block.messages, np.int64)
        self._message = messages if self._owner is None else messages[self._owner]
        self._values = block.values()
        self.rejected = block.faults(self._values)

    def reject_bad_times(self) -> None:
        """A message with a time that is none is rejected with all its readings."""
        for row in np.flatnonzero(self._time_ms < 0).tolist():
            message = int(self._message[row])
            if message not in self.rejected:
                self.rejected[message] = times.fault(self.block.stated(row))

    def usable(self) -> _Piece:
        """The readings of the messages that were not rejected."""
        code = self.code if self._owner is None else self.code[self._owner]
        piece = _Piece(code, self._time_ms, self._values, self._message, self.block.rank())
        if self.rejected:
            bad = np.isin(piece.message, np.fromiter(self.rejected, np.int64))
            return piece.at(np.flatnonzero(~bad))
        return piece
