"""Rounds of training come at an interval, and sooner for lines that know nothing of their sensors."""

from __future__ import annotations

import pytest

from stream_detector.streaming.registry import Line
from stream_detector.streaming.rhythm import RETRY_S, Rhythm

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


def pauses(rhythm: Rhythm, clock: Clock, count: int) -> list[float]:
    """The pauses before the next rounds, if a round takes no time."""
    found = []
    for _ in range(count):
        found.append(rhythm.pause_s)
        clock.now += found[-1]
    return found


def test_learned_lines_wait_for_the_interval(clock: Clock) -> None:
    """Whatever the time that they have been known for."""
    rhythm = Rhythm(6 * HOUR, clock)
    rhythm.meet(OLD, learned=True)
    assert pauses(rhythm, clock, 3) == [6 * HOUR] * 3


def test_a_new_line_comes_again_when_twice_as_much_has_passed(clock: Clock) -> None:
    """From a minute on, until that is the interval; other lines make no difference."""
    rhythm = Rhythm(6 * HOUR, clock)
    rhythm.meet(OLD, learned=True)
    rhythm.meet(NEW, learned=False)
    found = pauses(rhythm, clock, 12)
    assert found[:6] == [60, 60, 120, 240, 480, 960]
    assert found[-2:] == [6 * HOUR] * 2


def test_a_line_that_has_learned_since_is_still_young(clock: Clock) -> None:
    """The first weights of a line know minutes of it: more follow soon."""
    rhythm = Rhythm(6 * HOUR, clock)
    rhythm.meet(NEW, learned=False)
    clock.now += 100
    rhythm.meet(NEW, learned=True)
    assert rhythm.pause_s == 100


def test_an_empty_topic_is_looked_at_as_often_as_for_drift(clock: Clock) -> None:
    """At first each minute; sensors that come after days do not wait for hours."""
    rhythm = Rhythm(6 * HOUR, clock)
    assert pauses(rhythm, clock, 3) == [60, 60, 120]
    clock.now += 100 * HOUR
    assert rhythm.pause_s == rhythm.look_every_s == HOUR / 2


def test_a_short_interval_is_kept(clock: Clock) -> None:
    """No pause is longer than it, and none of no time at all."""
    rhythm = Rhythm(5.0, clock)
    assert rhythm.pause_s == rhythm.look_every_s == 1.0
    rhythm.meet(NEW, learned=False)
    assert rhythm.pause_s == rhythm.retry_s == 5.0
    assert Rhythm(6 * HOUR, clock).retry_s == RETRY_S
