"""What is shown of incidents, in words and in order. Pure: the time comes in, text goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from urllib.parse import urlencode

from stream_detector.console import phrases
from stream_detector.console.incidents import Incident
from stream_detector.detect import summary
from stream_detector.errors import ConfigError
from stream_detector.records import SEVERITIES
from stream_detector.settings import parse_duration

STATES = ("open", "closed", "all")
LONGEST = 200
"""Characters of a filter; whatever an address says beyond is cut."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What the overview is narrowed to; all of it is in the address.

    sensor: an id, a part of one, or a pattern with * or ?. label: `name` or `name=value`. severity: the least. since: a
    span back from the newest event, such as 6h, or a time. until: a time. state: one of `STATES`.
    """

    sensor: str = ""
    label: str = ""
    severity: str = ""
    since: str = ""
    until: str = ""
    state: str = "open"

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Filters:
        """From an address; what makes no sense there is as if it were not there."""
        given = {field.name: query.get(field.name, "").strip()[:LONGEST] for field in fields(cls)}
        given["severity"] = given["severity"] if given["severity"] in SEVERITIES else ""
        given["state"] = given["state"] if given["state"] in STATES else "open"
        return cls(**given)

    @property
    def query(self) -> str:
        """For an address: what is not as usual, with a question mark before it; empty where all is as usual."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return f"?{urlencode(said)}" if said else ""

    @property
    def problem(self) -> str:
        """Why a time in it cannot be used; it is then passed over."""
        for name in ("since", "until"):
            if (text := getattr(self, name)) and _moment(text, 0) is None:
                return f"{text!r} is no time: write a span like 6h, or a time like 2026-01-05T08:00"
        return ""

    def some(self, incidents: Iterable[Incident]) -> list[Incident]:
        """Those that are asked for, in the order in which they are shown: the worst first, then the newest."""
        held = [one for one in incidents if self.state == "all" or one.open == (self.state == "open")]
        newest = max((one.last.window.end for one in held), default="")
        now_ms = phrases.parsed(newest) or 0
        begin, end = (_moment(text, now_ms) if text else None for text in (self.since, self.until))
        kept = [one for one in held if self._has(one) and _within(one, begin, end)]
        kept.sort(key=lambda one: one.first.starts_at, reverse=True)
        return sorted(kept, key=lambda one: -one.severity)

    def _has(self, one: Incident) -> bool:
        if self.severity and one.severity < SEVERITIES.index(self.severity):
            return False
        if self.label and not _labelled(one.last.labels, self.label):
            return False
        names = (one.last.sensor_id, one.last.group or "", *one.last.members)
        return not self.sensor or any(_named(name, self.sensor) for name in names)


@dataclass(frozen=True, slots=True)
class Row:
    """An incident in the list, or the several of a group that are folded into one row."""

    key: str
    severity: str
    title: str
    what: str
    when: str
    labels: tuple[str, ...]
    state: str
    target: str
    group: str = ""
    folded: int = 0


def rows(incidents: Sequence[Incident], unfolded: frozenset[str] = frozenset()) -> list[Row]:
    """A row each; incidents of one group that go on at once are folded behind the worst, unless asked not to be."""
    found: list[Row] = []
    of_group: dict[str, list[Incident]] = {}
    for one in incidents:
        if one.open:
            of_group.setdefault(_group(one), []).append(one)
    done: set[str] = set()
    for one in incidents:
        group = _group(one)
        several = of_group[group] if group and one.open else [one]
        if len(several) < 2 or group in unfolded:
            found.append(_row(one))
        elif group not in done:
            done.add(group)
            found.append(_row(one, len(several) - 1))
    return found


def _group(one: Incident) -> str:
    return one.last.group or ""


def _row(one: Incident, folded: int = 0) -> Row:
    last = one.last
    several = f"{len(last.members)} sensor{'' if len(last.members) == 1 else 's'}"
    sensors = f"{last.group} · {several}" if last.group else last.sensor_id
    return Row(
        key=last.alert_id,
        severity=SEVERITIES[one.severity],
        title=sensors,
        what=summary.without(last.group or last.sensor_id, one.telling.summary),
        when=", ".join(filter(None, (phrases.clock(one.first.starts_at), phrases.lasting(one)))),
        labels=tuple(f"{name}={value}" for name, value in sorted(last.labels.items())),
        state="open" if one.open else phrases.CLOSED.get(last.close_reason or "", "told once"),
        target=f"/incident?{urlencode({'id': last.alert_id})}",
        group=_group(one),
        folded=folded,
    )


def sensor_target(sensor_id: str) -> str:
    """The address of a sensor's page."""
    return f"/sensor?{urlencode({'id': sensor_id}, errors='surrogatepass')}"


def _named(name: str, wanted: str) -> bool:
    if any(char in wanted for char in "*?["):
        return fnmatchcase(name.lower(), wanted.lower())
    return wanted.lower() in name.lower()


def _labelled(labels: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = (part.strip() for part in wanted.partition("="))
    return name in labels and (not equals or labels[name] == value)


def _within(one: Incident, begin_ms: int | None, end_ms: int | None) -> bool:
    first, last = phrases.parsed(one.first.starts_at), phrases.parsed(one.last.ends_at or one.last.window.end)
    if begin_ms is not None and last is not None and last < begin_ms:
        return False
    return not (end_ms is not None and first is not None and first > end_ms)


def _moment(text: str, now_ms: int) -> int | None:
    """A span back from now, or a time; None where it is neither."""
    try:
        return now_ms - round(parse_duration(text))
    except (ValueError, ConfigError):
        return phrases.parsed(text)
