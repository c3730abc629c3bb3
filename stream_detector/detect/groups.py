"""Sensors of one group that turn anomalous together share one incident.

The first that opens gives the incident its id; those that open within a short time of the latest join it, as updates;
it closes with the last of them. Updates that only repeat are left out: joins are told when the number of members
reaches a power of two, and the last word names all. What a group shares is kept in the rows of its members.

Exact inside a partition: the readings of a group share a message key, and so a partition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream_detector.detect.changes import Change
from stream_detector.detect.state import Fields, SensorTable

FIELDS: Fields = [
    ("gr_start_ms", "<i8"),  # start of the group's incident that the sensor is part of; 0 is none
    ("gr_seq", "<i4"),  # steps that the group's incident has told, as of the latest that this sensor caused
    ("gr_joined_ms", "<i8"),
    ("gr_ended_ms", "<i8"),  # the end of the sensor's own part in it, once that is over
    ("gr_severity", "<u1"),  # the incident's, as of the latest change of this sensor
    ("gr_leads", "<u1"),
]


@dataclass(slots=True)
class Story:
    """A group's incident. members: by sensor id, where the state lies, and whether its own incident is open."""

    start_ms: int
    joined_ms: int
    leader: str
    severity: int
    seq: int = 0
    ended_ms: int = 0
    members: dict[str, tuple[SensorTable, int]] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)

    @property
    def teller(self) -> str:
        """The member whose repeats are told for all."""
        return self.leader if self.leader in self.active else min(self.active)


class Groups:
    """The open incidents of all groups; `group_of` names a sensor's group, if it has one."""

    def __init__(self, group_of: Callable[[str], str | None], within_ms: int) -> None:
        self.group_of = group_of
        self.within_ms = within_ms
        self._stories: dict[tuple[int, str], list[Story]] = {}

    def fold(self, table: SensorTable, change: Change) -> Change | None:
        """The change as the group tells it; None where there is nothing to tell. Others pass through."""
        sensor_id = table.ids[change.sensor]
        group = self.group_of(sensor_id)
        if group is None or change.kind != "anomaly":
            return change
        stories = self._stories.setdefault((int(table.partition[change.sensor]), group), [])
        known = next((story for story in stories if sensor_id in story.active), None)
        if change.event == "opened":
            story = self._join(stories, table, change, sensor_id)
            told = story.seq == 0 or _power_of_two(len(story.members)) or change.severity > story.severity
        elif known is not None:
            story = known
            told = change.severity > story.severity or sensor_id == story.teller
        else:  # it opened before its sensor was in a group
            return change
        if change.event == "closed":
            story.active.discard(sensor_id)
            told = not story.active
            story.ended_ms = max(story.ended_ms, change.end_ms or 0)
            table.state["gr_ended_ms"][change.sensor] = story.ended_ms
        story.severity = max(story.severity, change.severity)
        table.state["gr_severity"][change.sensor] = story.severity
        if not told:
            return None
        change = self._tell(story, table, change)
        if not story.active:
            stories.remove(story)
            for where, row in story.members.values():
                where.state["gr_start_ms"][row] = 0
        return change

    def rows(self, table: SensorTable, change: Change) -> list[int]:
        """Rows of the table that a change has touched beside the sensor's own: those of a story that is over."""
        return [row for name in change.members for row in table.find(name)] if change.event == "closed" else []

    def recall(self, tables: Sequence[SensorTable]) -> None:
        """Find the open incidents in the rows again, after they were loaded or rearranged."""
        self._stories = {}
        for table in tables:
            state = table.state
            for row in np.flatnonzero(state["gr_start_ms"] != 0).tolist():
                self._recall(table, row)

    def _recall(self, table: SensorTable, row: int) -> None:
        state, sensor_id = table.state[row], table.ids[row]
        group = self.group_of(sensor_id)
        if group is None:
            return
        stories = self._stories.setdefault((int(table.partition[row]), group), [])
        start = int(state["gr_start_ms"])
        story = next((story for story in stories if story.start_ms == start), None)
        if story is None:
            story = Story(start, start, sensor_id, 0)
            stories.append(story)
        story.members[sensor_id] = table, row
        story.joined_ms = max(story.joined_ms, int(state["gr_joined_ms"]))
        story.severity = max(story.severity, int(state["gr_severity"]))
        story.ended_ms = max(story.ended_ms, int(state["gr_ended_ms"]))
        story.seq = max(story.seq, int(state["gr_seq"]))
        if state["gr_leads"]:
            story.leader = sensor_id
        if state["in_open"]:
            story.active.add(sensor_id)

    def _join(self, stories: list[Story], table: SensorTable, change: Change, sensor_id: str) -> Story:
        """The story that an opening belongs to, which may be a new one."""
        row, start = change.sensor, change.start_ms
        story = next((story for story in stories if sensor_id in story.members), None)
        if story is None:
            near = [story for story in stories if self._near(story, start)]
            if not near:
                near = [Story(start, start, sensor_id, change.severity)]
                stories += near
            story = max(near, key=lambda story: (story.joined_ms, story.start_ms))
        story.members[sensor_id] = table, row
        story.active.add(sensor_id)
        story.joined_ms = max(story.joined_ms, start)
        state = table.state
        state["gr_start_ms"][row], state["gr_joined_ms"][row] = story.start_ms, start
        state["gr_leads"][row] = sensor_id == story.leader
        state["gr_seq"][row], state["gr_ended_ms"][row] = story.seq, 0
        return story

    def _near(self, story: Story, start_ms: int) -> bool:
        # Rows know their story by its start: two of a group cannot have the same.
        return abs(start_ms - story.joined_ms) <= self.within_ms or start_ms == story.start_ms

    @staticmethod
    def _tell(story: Story, table: SensorTable, change: Change) -> Change:
        seq, story.seq = story.seq, story.seq + 1
        table.state["gr_seq"][change.sensor] = story.seq
        event = "updated" if change.event == "opened" and seq else change.event
        return replace(
            change,
            event=event,
            seq=seq,
            start_ms=story.start_ms,
            end_ms=story.ended_ms if change.event == "closed" else None,
            severity=story.severity,
            leader=story.leader,
            members=tuple(sorted(story.members)),
        )


def _power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
