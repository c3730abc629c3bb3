"""Blocks of messages -> columns by channels: times are judged, sensors numbered, values put in the channels' order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stream_detector.errors import DataError
from stream_detector.records import Floats, Ints
from stream_detector.streaming.decode import times
from stream_detector.streaming.decode.careful import is_channel
from stream_detector.streaming.decode.gathering import Block, Gatherer
from stream_detector.streaming.decode.limits import Columns, Decoded, Limits, Rejected, UnusableError
from stream_detector.streaming.decode.sensors import ChannelsOf, Sensors
from stream_detector.streaming.files.times import shown


class Decoder:
    """Decodes batch after batch, and remembers the sensors.

    `channels_of(sensor_id, offered)` is asked once for a sensor that was not met, with the channels of its first
    usable message, and says which channels the sensor has, in order. It may raise DataError to refuse the sensor:
    the message is then rejected with the error's text, and it is asked again for the sensor's next message.
    """

    def __init__(self, channels_of: ChannelsOf, limits: Limits | None = None) -> None:
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
        parts = [_Part(block, self._clock.to_ms(block.times)) for block in blocks]
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
        unknown = []
        for part in parts:
            part.code = self._sensors.codes(part.block.sensor_ids)
            for place in np.flatnonzero(part.code < 0).tolist():
                unknown.append((part.block.messages[place], place, part))
        for message, place, part in sorted(unknown, key=lambda one: one[0]):
            if message in part.rejected:
                continue
            try:
                self._sensors.meet(part.block.sensor_ids[place], part.channels)
            except (UnusableError, DataError) as error:
                part.rejected[message] = str(error)
        for part in parts if unknown else []:
            part.code = self._sensors.codes(part.block.sensor_ids)

    def _pieces(self, part: _Part) -> Iterator[tuple[int, _Piece]]:
        """The usable readings of a part, by their sensors' channels."""
        piece = part.usable()
        if not len(piece.message):
            return
        profile = self._sensors.profile(piece.code)
        first = int(profile[0])
        if (profile == first).all():
            found = [(first, piece)]
        else:
            found = [(index, piece.at(np.flatnonzero(profile == index))) for index in np.unique(profile).tolist()]
        for index, same in found:
            ordered = self._ordered(part, same, self._sensors.profiles[index])
            if ordered is not None:
                yield index, ordered

    def _ordered(self, part: _Part, piece: _Piece, channels: tuple[str, ...]) -> _Piece | None:
        """The values in the order of the sensors' channels, NaN for those that did not come."""
        if part.block.names == channels == part.channels:
            return piece
        unknown = [name for name in part.channels if name not in channels]
        if unknown:
            reason = f"unknown-channel: {shown(unknown)} is not among the sensor's channels {shown(channels)}"
            part.rejected.update(dict.fromkeys(piece.message.tolist(), reason))
            return None
        values = np.full((len(piece.message), len(channels)), np.nan)
        for column, name in enumerate(part.block.names):
            if name in channels and is_channel(name):
                values[:, channels.index(name)] = piece.values[:, column]
        return _Piece(piece.code, piece.time_ms, values, piece.message)

    def _columns(self, profile: int, pieces: list[_Piece]) -> Columns:
        whole = pieces[0]
        if len(pieces) > 1:
            code, time_ms, values, message = (
                np.concatenate([getattr(piece, name) for piece in pieces]) for name in _Piece.__slots__
            )
            whole = _Piece(code, time_ms, values, message).at(np.argsort(message, kind="stable"))
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
        )


@dataclass(slots=True)
class _Piece:
    """Readings of sensors with the same channels, as columns (N,); values (N, C)."""

    code: Ints
    time_ms: Ints
    values: Floats
    message: Ints

    def at(self, rows: Ints) -> _Piece:
        return _Piece(self.code[rows], self.time_ms[rows], self.values[rows], self.message[rows])


class _Part:
    """A block on its way to columns, and its messages that turn out to be unusable, with the reason."""

    code: Ints

    def __init__(self, block: Block, time_ms: Ints) -> None:
        self.block = block
        self.channels = tuple(filter(is_channel, block.names))
        self.rejected: dict[int, str] = {}
        self._time_ms = time_ms
        self._message = np.array(block.messages, np.int64)
        if block.counts:
            self._message = np.repeat(self._message, block.counts)

    def reject_bad_times(self) -> None:
        """A message with a time that is none is rejected with all its readings."""
        for row in np.flatnonzero(self._time_ms < 0).tolist():
            self.rejected.setdefault(int(self._message[row]), times.fault(self.block.times[row]))

    def usable(self) -> _Piece:
        """The readings of the messages that were not rejected."""
        code = np.repeat(self.code, self.block.counts) if self.block.counts else self.code
        piece = _Piece(code, self._time_ms, self.block.values(), self._message)
        if self.rejected:
            bad = np.isin(piece.message, np.fromiter(self.rejected, np.int64))
            return piece.at(np.flatnonzero(~bad))
        return piece
