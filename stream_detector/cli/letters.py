"""The dead letters as a list for people, or as objects for programs.

What a letter says, its headers too, is data. Knows nothing of what a reading should look like.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import typer
from rich.box import SIMPLE
from rich.table import Table as Grid
from rich.text import Text

from stream_detector.cli.pipe import Pipe, print_line, visible
from stream_detector.errors import DataError
from stream_detector.records import format_time
from stream_detector.settings import Settings
from stream_detector.streaming.envelope import reason_of, restored
from stream_detector.streaming.replay import Decided, decided, slug_of
from stream_detector.streaming.topics import Record, end_offsets, read_topic

SHOWN_CHARS = 160
SLUG_CHARS = 24


@dataclass(slots=True)
class Reason:
    """The letters that share a reason's slug."""

    first_ms: int
    last_ms: int = 0
    count: int = 0
    unsent: int = 0
    example: str = ""

    def add(self, letter: Letter) -> None:
        """Count one more; the newest is the example."""
        time_ms = letter.record.timestamp_ms
        self.count += 1
        self.unsent += not letter.replayed
        self.first_ms = min(self.first_ms, time_ms)
        if time_ms >= self.last_ms or not self.example:
            self.last_ms = max(time_ms, self.last_ms)
            self.example = letter.reason.removeprefix(letter.slug).removeprefix(":").strip()


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter with what its headers say; `replayed` if it was sent back."""

    record: Record
    reason: str
    replayed: bool

    @property
    def slug(self) -> str:
        """The word that the reason begins with."""
        return slug_of(self.reason)

    def origin(self, what: str) -> str:
        """What the last header of this name says: those before are the message's own."""
        return dict(self.record.headers)[f"x-origin-{what}"].decode(errors="replace")


def _letters(settings: Settings, reason: str | None) -> Iterator[Letter]:
    """All that are there now; what is no letter is told on standard error."""
    kafka = settings.kafka
    places = decided(kafka, settings.worker, end_offsets(kafka, kafka.dead_letters_topic))
    for record in read_topic(kafka, kafka.dead_letters_topic):
        try:
            said, topic = reason_of(record), restored(record).topic
        except DataError as error:
            typer.echo(f"passed over: {visible(str(error))}", err=True)
            continue
        if reason is None or slug_of(said) == reason:
            place = places.get(record.partition, Decided())
            yield Letter(record, said, record.offset < place.until(topic, slug_of(said)))


@dataclass(slots=True)
class Newest:
    """The latest `limit` letters of all that are added, in their order."""

    limit: int
    _heap: list[tuple[int, int, int, Letter]] = field(default_factory=list)

    def add(self, letter: Letter) -> None:
        """Keep it if it is among the latest so far."""
        record = letter.record
        heapq.heappush(self._heap, (record.timestamp_ms, record.partition, record.offset, letter))
        if len(self._heap) > self.limit:
            heapq.heappop(self._heap)

    def all(self) -> list[Letter]:
        """The oldest first."""
        return [letter for *_, letter in sorted(self._heap, key=lambda one: one[:3])]


def print_list(settings: Settings, reason: str | None, limit: int) -> None:
    """A table by reason, then the latest letters one by one."""
    reasons: dict[str, Reason] = {}
    newest, waiting = Newest(limit), 0
    for letter in _letters(settings, reason):
        waiting += not letter.replayed and letter.origin("topic") == settings.kafka.readings_topic
        reasons.setdefault(letter.slug, Reason(letter.record.timestamp_ms)).add(letter)
        newest.add(letter)
    console = Pipe()
    kind = f" with the reason {visible(reason)}" if reason is not None else ""
    if not reasons:
        console.print(f"No dead letters{kind} in {settings.kafka.dead_letters_topic}.")
        return
    reasons = dict(sorted(reasons.items(), key=lambda item: -item[1].count))
    console.print(_table(reasons))
    console.print("An example of each:")
    for slug, one in reasons.items():
        console.print(
            Text(f"  {cut(visible(slug), SLUG_CHARS)}: {cut(visible(one.example), SHOWN_CHARS)}"), soft_wrap=True
        )
    latest = newest.all()
    if latest:
        console.print(f"The latest {len(latest):,}:")
    for letter in latest:
        for text in _lines(letter):
            console.print(text, soft_wrap=True)
    if waiting:
        console.print(
            f"{waiting:,} can be sent back after a fix: stream-detector dead-letters --replay", soft_wrap=True
        )


def _table(reasons: dict[str, Reason]) -> Grid:
    total = sum(one.count for one in reasons.values())
    grid = Grid(title=f"Dead letters ({total:,})", title_justify="left", box=SIMPLE)
    for name in ("reason", "letters", "unsent", "first (UTC)", "last (UTC)"):
        grid.add_column(name, justify="right" if name in ("letters", "unsent") else "left", no_wrap=True)
    for slug, one in reasons.items():
        times = (moment(at)[:19].replace("T", " ") for at in (one.first_ms, one.last_ms))
        grid.add_row(*map(Text, (cut(visible(slug), SLUG_CHARS), f"{one.count:,}", f"{one.unsent:,}", *times)))
    return grid


def _lines(letter: Letter) -> tuple[Text, Text]:
    """Where it came from and why it is no use; then the beginning of its bytes."""
    origin = visible(f"{letter.origin('topic')}/{letter.origin('partition')}, offset {letter.origin('offset')}")
    when = moment(letter.record.timestamp_ms)
    sent = "  (sent back)" if letter.replayed else ""
    head = Text.assemble(f"{when}  ", (origin, "bold"), "  ", (visible(letter.reason), "yellow"), (sent, "dim"))
    return head, Text(f"    {beginning(letter.record.value)}", style="dim")


def beginning(value: bytes | None) -> str:
    """The first bytes of a value, printable, in a line."""
    if value is None:
        return "(no value)"
    text = visible(value[: 4 * SHOWN_CHARS].decode(errors="backslashreplace"))
    return cut(text, SHOWN_CHARS) if len(value) <= 4 * SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


def cut(text: str, chars: int) -> str:
    """A text that is too long ends in dots."""
    return text if len(text) <= chars else f"{text[:chars]}..."


def print_json(settings: Settings, reason: str | None, limit: int | None) -> None:
    """One object a letter and line: all of them, or the latest."""
    letters = _letters(settings, reason)
    if limit is not None:
        newest = Newest(limit)
        for letter in letters:
            newest.add(letter)
        letters = iter(newest.all())
    for letter in letters:
        print_line(msgspec.json.encode(as_object(letter)))


def as_object(letter: Letter) -> dict[str, Any]:
    """What `--json` prints: key and value as text, or, where they are no UTF-8, as key_base64 and value_base64."""
    record = letter.record
    return {
        "reason": letter.reason,
        "origin": {
            "topic": letter.origin("topic"),
            "partition": number(letter.origin("partition")),
            "offset": number(letter.origin("offset")),
            "timestamp": moment(number(letter.origin("timestamp"))),
        },
        "timestamp": moment(record.timestamp_ms),
        "partition": record.partition,
        "offset": record.offset,
        "replayed": letter.replayed,
        **_plain("key", record.key),
        **_plain("value", record.value),
    }


def _plain(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def number(said: str) -> int | str:
    """A header as the number that it should be; a forged one stays as it is."""
    return int(said) if said.removeprefix("-").isdecimal() and said.isascii() and len(said) < 20 else said


def moment(time_ms: int | str) -> str:
    """A time for people; what is no time at all stays as it is."""
    try:
        return format_time(time_ms) if isinstance(time_ms, int) else time_ms
    except OverflowError:
        return str(time_ms)
