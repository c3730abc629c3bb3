"""What is shown of incidents, in words and in order. Pure: the time comes in, text goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from urllib.parse import urlencode

from stream_detector.console.incidents import Answer, Incident
from stream_detector.errors import ConfigError
from stream_detector.records import SEVERITIES, Alert, Channel, format_duration, parse_time
from stream_detector.settings import parse_duration

VERDICTS = {
    "false_positive": "false alarm",
    "confirmed": "confirmed",
    "change_point": "change point",
    "maintenance": "maintenance",
}
CLOSED = {
    "recovered": "recovered",
    "timed_out": "taken as the new normal after a long time",
    "silent": "the sensor fell silent",
    "false_positive": "answered: false alarm",
    "change_point": "answered: change point",
    "maintenance": "answered: maintenance",
}
KINDS = {
    "anomaly": "anomaly",
    "regime_change": "regime change",
    "sensor_silent": "silent sensor",
    "value_stuck": "stuck value",
    "value_missing": "missing value",
    "clock_skewed": "wrong clock",
    "state_gap": "state lost",
}
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
        now_ms = _parsed(newest) or 0
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
        what=without(last.group or last.sensor_id, one.telling.summary),
        when=", ".join(filter(None, (clock(one.first.starts_at), lasting(one)))),
        labels=tuple(f"{name}={value}" for name, value in sorted(last.labels.items())),
        state="open" if one.open else CLOSED.get(last.close_reason or "", "told once"),
        target=f"/incident?{urlencode({'id': last.alert_id})}",
        group=_group(one),
        folded=folded,
    )


def without(subject: str, summary: str) -> str:
    """A summary without the name that stands before it anyway."""
    rest = summary.removeprefix(subject)
    return rest[1:].lstrip() if rest != summary and rest[:1] in (":", " ") else summary


def lasting(one: Incident) -> str:
    """How long it has gone on, in event time."""
    begin, end = _parsed(one.first.starts_at), _parsed(one.last.ends_at or one.last.window.end)
    if begin is None or end is None or end <= begin:
        return "just begun" if one.open else ""
    return f"{'for' if one.open else 'lasted'} {format_duration(end - begin)}"


def clock(text: str | None) -> str:
    """A time as people write it; what is none is shown as it is."""
    moment = _parsed(text or "")
    return (text or "") if moment is None else (text or "").replace("T", " ").replace("Z", " UTC")


def age(span_s: float) -> str:
    """How long ago, in words."""
    if span_s < 2:
        return "just now"
    return f"{format_duration(int(span_s) * 1000)} ago"


def number(value: float | None) -> str:
    """A value of a reading or a score; a dash where there is none."""
    return "-" if value is None else f"{value:.6g}"


def big(value: float) -> str:
    """A count, short enough for a tile."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def why(one: Incident) -> str:
    """Why there is an incident, in one sentence."""
    step = one.telling
    if step.kind != "anomaly" or not step.channels:
        return f"{step.summary}."
    worst = step.channels[0]
    parts = [f"{worst.name} {_against(worst)}, which is {worst.contribution:.0%} of the score"]
    if step.score is not None and step.threshold is not None:
        scope = "this sensor's own" if step.threshold.scope == "sensor" else "the fleet's"
        parts.append(
            f"the score {step.score:.3g} exceeds {scope} threshold of {step.threshold.value:.3g}"
            f" (budget {step.threshold.budget})"
        )
    if step.p_value is not None:
        parts.append(f"a normal reading scores so high {_seldom(step.p_value)}")
    return f"{'; '.join(parts)}."


def _against(channel: Channel) -> str:
    if channel.actual is None:
        return f"is missing where {number(channel.expected)} was expected"
    if channel.lower is not None and channel.upper is not None:
        return f"is {number(channel.actual)} where {number(channel.lower)} to {number(channel.upper)} was expected"
    return f"is {number(channel.actual)} where {number(channel.expected)} was expected"


def _seldom(p_value: float) -> str:
    times = 1 / max(p_value, 1e-300)
    if times < 1e12:
        return f"once in {times:,.0f} times" if times < 1e6 else f"once in {times:.0e} times".replace("e+", "e")
    return "practically never"


def step_words(step: Alert) -> str:
    """What a step in an incident's life is."""
    if step.event == "closed":
        return CLOSED.get(step.close_reason or "", "closed")
    return "opened" if step.event == "opened" else "went on"


def answer_words(answer: Answer, taken: bool | None) -> str:
    """What was answered, and whether the worker has taken it. taken: None where that cannot be known now."""
    said = VERDICTS.get(answer.feedback.verdict, answer.feedback.verdict)
    if answer.feedback.verdict == "maintenance":
        said += f" from {clock(answer.feedback.begins)} until {clock(answer.feedback.ends)}"
    if taken is None:
        return f"{said}: sent; whether the worker has taken it cannot be seen while its state is not to be reached"
    return f"{said}: {'taken by the worker' if taken else 'sent, the worker has not taken it yet'}"


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
    first, last = _parsed(one.first.starts_at), _parsed(one.last.ends_at or one.last.window.end)
    if begin_ms is not None and last is not None and last < begin_ms:
        return False
    return not (end_ms is not None and first is not None and first > end_ms)


def _moment(text: str, now_ms: int) -> int | None:
    """A span back from now, or a time; None where it is neither."""
    try:
        return now_ms - round(parse_duration(text))
    except (ValueError, ConfigError):
        return _parsed(text)


def _parsed(text: str) -> int | None:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        return None
