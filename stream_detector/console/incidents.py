"""What the topics tell, as incidents with their steps and answers. Bounded and pure: no clock, no threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from stream_detector.records import SEVERITIES, Alert, Feedback

MOST_OPEN = 20_000
MOST_CLOSED = 5_000
MOST_STEPS = 60
MOST_ANSWERED = 5_000


@dataclass(slots=True)
class Incident:
    """The steps that were told of one incident, the latest last. number: rises with every change of the book."""

    steps: list[Alert]
    number: int

    @property
    def first(self) -> Alert:
        """How it began, as far as that is known."""
        return self.steps[0]

    @property
    def last(self) -> Alert:
        """How it stands."""
        return self.steps[-1]

    @property
    def open(self) -> bool:
        """Whether it goes on."""
        return self.last.status == "firing"

    @property
    def severity(self) -> int:
        """The rank of the worst step."""
        return max(SEVERITIES.index(step.severity) for step in self.steps)

    @property
    def telling(self) -> Alert:
        """The step that says what was wrong: the worst that comes with readings."""
        told = [step for step in self.steps if step.event != "closed" and step.channels] or self.steps
        return max(told, key=lambda step: (SEVERITIES.index(step.severity), step.score or 0.0, step.seq))


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer as it lies in the topic of feedback: the worker has taken it when it has heard that place."""

    feedback: Feedback
    partition: int
    offset: int
    time_ms: int


@dataclass
class Book:
    """All incidents that are known. number: changes with everything that is taken in."""

    number: int = 0
    open: dict[str, Incident] = field(default_factory=dict)
    closed: OrderedDict[str, Incident] = field(default_factory=OrderedDict)
    answers: OrderedDict[str, list[Answer]] = field(default_factory=OrderedDict)
    dropped: int = 0

    def take(self, alert: Alert) -> None:
        """A step of an incident; one that is known already changes nothing."""
        known = self.find(alert.alert_id)
        if known is not None and any(step.seq == alert.seq for step in known.steps):
            return
        self.number += 1
        if known is None:
            known = Incident([], self.number)
        known.number = self.number
        known.steps = sorted([*known.steps, alert], key=lambda step: step.seq)
        if len(known.steps) > MOST_STEPS:
            del known.steps[1]  # how it began stays, and how it stands
        self.open.pop(alert.alert_id, None)
        self.closed.pop(alert.alert_id, None)
        (self.open if known.open else self.closed)[alert.alert_id] = known
        self._make_room()

    def answer(self, answer: Answer) -> None:
        """An answer to an incident; the same once more does not count."""
        several = self.answers.setdefault(answer.feedback.alert_id, [])
        if any(one.feedback.feedback_id == answer.feedback.feedback_id for one in several):
            return
        self.number += 1
        several.append(answer)
        self.answers.move_to_end(answer.feedback.alert_id)
        while len(self.answers) > MOST_ANSWERED:
            self.answers.popitem(last=False)

    def find(self, alert_id: str) -> Incident | None:
        """One incident."""
        return self.open.get(alert_id) or self.closed.get(alert_id)

    def of_sensor(self, sensor_id: str) -> list[Incident]:
        """The incidents that a sensor takes part in, the latest last."""
        mine = (one for one in self.all() if sensor_id == one.last.sensor_id or sensor_id in one.last.members)
        return sorted(mine, key=lambda one: one.first.starts_at)

    def all(self) -> Iterator[Incident]:
        """Closed ones first."""
        yield from self.closed.values()
        yield from self.open.values()

    def _make_room(self) -> None:
        while len(self.closed) > MOST_CLOSED:
            self.closed.popitem(last=False)
        while len(self.open) > MOST_OPEN:
            del self.open[next(iter(self.open))]
            self.dropped += 1
