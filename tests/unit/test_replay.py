"""How far dead letters are decided: no letter is sent twice, and none is passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import InvalidProducerEpochError, KafkaError, KafkaTimeoutError, ProducerFencedError

from stream_detector.errors import ConfigError
from stream_detector.streaming.replay import Decided, overtaken, slug_of

LETTERS = st.lists(st.tuples(st.sampled_from(["readings", "other"]), st.sampled_from(["a", "b", "c"])), max_size=30)
REPLAYS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["readings", "other"]), st.none() | st.sampled_from("abc")),
    max_size=12,
)


@given(LETTERS, REPLAYS)
def test_every_letter_is_sent_once(letters: list[tuple[str, str]], replays: list[tuple[int, str, str | None]]) -> None:
    """Replays of all and of one reason, to one topic and another, in any order: each sends what is not sent."""
    sent: list[int] = []
    offset, note, end = 0, "", 0
    for more, to, slug in [*replays, (30, "readings", None), (30, "other", None)]:
        end = min(len(letters), end + more)
        decided = Decided(offset, note)
        now = [
            at
            for at, (topic, reason) in enumerate(letters[:end])
            if topic == to and slug in (None, reason) and at >= decided.until(to, reason)
        ]
        assert all(at >= decided.until(to, slug) for at in now), "a replay begins behind a letter that it must send"
        wanted = [at for at, (topic, reason) in enumerate(letters[:end]) if topic == to and slug in (None, reason)]
        assert now == [at for at in wanted if at not in sent]
        sent += now
        decided.advance(end, to, slug)
        offset, note = decided.until(to), decided.note()
    assert sorted(sent) == list(range(len(letters)))


def test_an_offset_without_a_note_decides_for_all() -> None:
    """An operator sets the group to a place with the broker's tools, which write no note."""
    for note in ("", "somebody's", '{"a": "b"}'):
        assert Decided(7, note).until("readings", "bad-time") == 7
    assert Decided(7, '{"readings":3}').until("readings") == 3


def test_the_note_stays_short() -> None:
    """A replay of all makes the notes of single reasons superfluous; too many of them are refused."""
    decided = Decided()
    for number in range(100):
        decided.advance(5, "readings", f"reason-{number}")
    decided.advance(5, "readings", None)
    assert len(decided.note()) < 40
    with pytest.raises(ConfigError, match="replay once without --reason"):
        for number in range(300):
            decided.advance(9, "readings", f"reason-{number}")
            decided.note()


def test_a_reason_begins_with_its_word() -> None:
    """What stands before the colon; a reason without one is its own."""
    assert (slug_of("bad-time: 'a:b'"), slug_of("odd"), slug_of("")) == ("bad-time", "odd", "")


@pytest.mark.parametrize(
    ("error", "it_is"),
    [
        (ProducerFencedError(), True),
        (InvalidProducerEpochError(), True),
        (KafkaError(f"we are in an error state: {ProducerFencedError()}"), True),
        (KafkaError("a request has failed", ProducerFencedError()), True),
        (KafkaTimeoutError(), False),
        (None, False),
    ],
)
def test_a_newer_replay_is_recognised(error: BaseException | None, it_is: bool) -> None:
    """Also where the client wraps what the broker said."""
    assert overtaken(error) is it_is
