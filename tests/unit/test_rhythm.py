"""Rounds of training come at an interval, and sooner for lines that know nothing of their sensors."""

from __future__ import annotations

import pytest

from stream_detector.streaming.registry import Line
from stream_detector.streaming.rhythm import RETRY_S, Next, Rhythm

HOUR = 3600.0
NEW, OLD = Line("multiscale", ("value",)), Line("encoder", ("value",))


class Clock:
    """A clock that is set by hand."""

    now = 1e9

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of one's own."""
    return Clock()


def rounds(rhythm: Rhythm, clock: Clock, count: int) -> list[Next]:
    """The next rounds, if a round takes no time."""
    found = []
    for _ in range(count):
        found.append(rhythm.next)
        clock.now += found[-1].pause_s
        rhythm.ended(found[-1].only)
    return found


def test_learned_lines_wait_for_the_interval(clock: Clock) -> None:
    """Whatever the time that they have been known for; rounds for others do not put it off."""
    rhythm = Rhythm(6 * HOUR, clock)
    assert not rhythm.meet(OLD, learned=True)
    assert rounds(rhythm, clock, 3) == [Next(6 * HOUR)] * 3
    clock.now += HOUR
    rhythm.ended(frozenset({OLD}))
    assert rhythm.next == Next(5 * HOUR)


def test_a_new_line_comes_again_when_twice_as_much_has_passed(clock: Clock) -> None:
    """From a minute on, alone, until the others' turn comes; an interval old it is one of them."""
    rhythm = Rhythm(6 * HOUR, clock)
    rhythm.meet(OLD, learned=True)
    assert rhythm.meet(NEW, learned=False)
    found = rounds(rhythm, clock, 14)
    assert [one.pause_s for one in found[:6]] == [60, 60, 120, 240, 480, 960]
    assert all(one.only == {NEW} for one in found[:6])
    whole = [sum(one.pause_s for one in found[: i + 1]) for i, one in enumerate(found) if one.only is None]
    assert whole[:2] == [6 * HOUR, 12 * HOUR]
    assert found[-1] == Next(6 * HOUR)


def test_a_line_is_new_once(clock: Clock) -> None:
    """The first weights of a line know minutes of it: more follow soon, though it has learned since."""
    rhythm = Rhythm(6 * HOUR, clock)
    rhythm.meet(NEW, learned=False)
    clock.now += 100
    assert not rhythm.meet(NEW, learned=True)
    assert rhythm.next == Next(100, frozenset({NEW}))


def test_a_line_that_has_changed_is_young_again(clock: Clock) -> None:
    """What came after the change doubles as quickly."""
    rhythm = Rhythm(6 * HOUR, clock)
    rhythm.meet(OLD, learned=True)
    clock.now += HOUR
    rhythm.renew(OLD)
    assert rhythm.next == Next(60, frozenset({OLD}))


def test_an_empty_topic_is_looked_at_as_often_as_for_drift(clock: Clock) -> None:
    """At first each minute; sensors that come after days do not wait for hours."""
    rhythm = Rhythm(6 * HOUR, clock)
    assert [one.pause_s for one in rounds(rhythm, clock, 3)] == [60, 60, 120]
    clock.now += 100 * HOUR
    assert rhythm.next == Next(rhythm.look_every_s) == Next(HOUR / 2)


def test_a_short_interval_is_kept(clock: Clock) -> None:
    """No pause is longer than it, and none of no time at all."""
    rhythm = Rhythm(5.0, clock)
    assert rhythm.next.pause_s == rhythm.look_every_s == 1.0
    rhythm.meet(NEW, learned=False)
    assert rhythm.next == rhythm.retry == Next(5.0)
    assert Rhythm(6 * HOUR, clock).retry == Next(RETRY_S)
