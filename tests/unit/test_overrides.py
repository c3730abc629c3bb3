"""Settings of some sensors only: which entry counts, and which entries contradict each other."""

from __future__ import annotations

import itertools
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from stream_detector.errors import ConfigError
from stream_detector.settings import Overrides, SensorSettings, load
from stream_detector.settings.sensors import _covers


def entries(*given: dict[str, Any]) -> list[SensorSettings]:
    """Entries as a file would give them."""
    return [SensorSettings(**one) for one in given]


def test_the_first_entry_that_sets_a_key_counts() -> None:
    """Key by key, over all entries that fit; labels are put together."""
    overrides = Overrides(
        entries(
            {"match": "pump-1", "budget": "1 per day", "labels": {"line": "1", "crit": "yes"}},
            {"match": "pump-*", "budget": "1 per 30d", "stride": 2, "group": "pumps", "labels": {"site": "north"}},
            {"match": "*", "stride": 5, "threshold": "spot", "labels": {"owner": "ops"}},
        )
    )
    one, two, fan = (overrides.of(name) for name in ("pump-1", "pump-2", "fan"))
    assert (one.budget, one.stride, one.group, one.threshold) == ("1 per day", 2, "pumps", "spot")
    assert one.labels == {"line": "1", "crit": "yes", "site": "north", "owner": "ops"}
    assert (two.budget, two.labels) == ("1 per 30d", {"site": "north", "owner": "ops"})
    assert (fan.budget, fan.stride, fan.group) == (None, 5, None)


def test_without_entries_nothing_differs() -> None:
    """No entry, or none that fits."""
    assert not Overrides()
    assert Overrides().of("pump-1").model_dump(exclude_unset=True) == {"match": "pump-1", "labels": {}}
    assert Overrides(entries({"match": "fan", "stride": 2})).of("pump").stride is None


def test_patterns() -> None:
    """Any text, any letter, one of some letters; capitals matter."""
    overrides = Overrides(entries({"match": "p?mp-[12]*", "stride": 2}))
    fits = {name: overrides.of(name).stride == 2 for name in ("pump-1", "pimp-23", "pump-3", "Pump-1", "xpump-1")}
    assert fits == {"pump-1": True, "pimp-23": True, "pump-3": False, "Pump-1": False, "xpump-1": False}


@pytest.mark.parametrize("first", [{"budget": "1 per day"}, {"sensitivity": "high"}, {"threshold": "fixed:3"}])
@pytest.mark.parametrize("second", [{"budget": "1 per 2d"}, {"sensitivity": "low"}, {"threshold": "quantile:0.9"}])
def test_ways_to_set_how_rare_an_alert_is_are_not_mixed(first: dict[str, Any], second: dict[str, Any]) -> None:
    """The narrow entry's way counts alone; the wide one's stays with the other sensors."""
    overrides = Overrides(entries({"match": "pump-1", **first}, {"match": "pump-*", **second}))
    for sensor_id, said in (("pump-1", first), ("pump-2", second)):
        of = overrides.of(sensor_id)
        found = {"budget": of.budget, "sensitivity": of.sensitivity, "threshold": of.threshold}
        assert {key: value for key, value in found.items() if value} == said


def test_a_threshold_that_keeps_a_budget_goes_with_one() -> None:
    """Another method in one entry and the budget in another: both count."""
    of = Overrides(entries({"match": "a", "threshold": "spot"}, {"match": "*", "budget": "1 per day"})).of("a")
    assert (of.threshold, of.budget) == ("spot", "1 per day")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"match": "a", "stride": 2}, {"match": "a", "stride": 3}, "the stride of"),
        ({"match": "pump-*", "budget": "1 per day"}, {"match": "pump-1", "budget": "1 per 2d"}, "the budget of"),
        ({"match": "*", "budget": "1 per day"}, {"match": "pump-?", "sensitivity": "low"}, "the sensitivity of"),
        ({"match": "*", "sensitivity": "low"}, {"match": "pump-?", "budget": "1 per day"}, "the budget of"),
        ({"match": "*", "budget": "1 per day"}, {"match": "x", "threshold": "fixed:3"}, "the threshold of"),
        ({"match": "*", "threshold": "spot"}, {"match": "x", "threshold": "fixed:3"}, "the threshold of"),
        ({"match": "[a-c]*", "group": "x"}, {"match": "[ab]*", "group": "y"}, "the group of"),
        ({"match": "*", "labels": {"l": "1"}}, {"match": "a", "labels": {"l": "2"}}, "the label l of"),
        ({"match": "[!a]", "model": "x"}, {"match": "[!a]", "model": "y"}, "the model of"),
    ],
)
def test_contradictions_are_refused(first: dict[str, Any], second: dict[str, Any], said: str) -> None:
    """An entry that can never have its say, since one before it fits all its sensors and says otherwise."""
    with pytest.raises(ValueError, match="can never apply") as caught:
        Overrides(entries({"match": "other", "stride": 9}, first, second))
    message = str(caught.value)
    assert said in message
    assert f"entry 3 (match {second['match']!r})" in message
    assert f"entry 2 (match {first['match']!r})" in message
    assert "put the narrower pattern first" in message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("pump-1", "pump-*"),
        ("pump-1", "pump-[123]"),
        ("a*b", "a*b*"),
        ("[!x]", "?"),
        ("?", "*"),
        ("pump-*", "fan-*"),
        ("a*", "*b"),
        ("[ab]", "[bc]"),
    ],
)
def test_narrow_before_wide_is_no_contradiction(first: str, second: str) -> None:
    """Nor are patterns that overlap in part, or not at all."""
    Overrides(entries({"match": first, "stride": 2}, {"match": second, "stride": 3}))


def test_the_same_said_twice_is_no_contradiction() -> None:
    """An entry may repeat what one before it says, or say what that leaves open."""
    Overrides(entries({"match": "*", "stride": 2}, {"match": "a", "stride": 2, "group": "x"}))


def test_which_pattern_covers_which() -> None:
    """As found by trying all texts of up to four letters, for all patterns of two parts."""
    parts = ["a", "b", "*", "?", "[ab]", "[!a]", "[a-c]"]
    patterns = ["".join(pair) for pair in itertools.product(["", *parts], parts)]
    texts = ["".join(letters) for length in range(5) for letters in itertools.product("abcz", repeat=length)]
    fitting = {pattern: {text for text in texts if fnmatchcase(text, pattern)} for pattern in patterns}
    for wide, narrow in itertools.product(patterns, patterns):
        assert _covers(wide, narrow) == (fitting[narrow] <= fitting[wide]), (wide, narrow)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"budget": "1 per day", "sensitivity": "low"}, "budget and sensitivity say the same thing"),
        ({"budget": "1 per day", "threshold": "fixed:3"}, "the threshold fixed:3 keeps no budget"),
        ({"sensitivity": "low", "threshold": "quantile:0.99"}, "the threshold quantile:0.99 keeps no budget"),
        ({"budget": "now and then"}, "1 per 7d"),
        ({"stride": 0}, "greater than or equal to 1"),
        ({"sensitivity": "extreme"}, "'low', 'normal' or 'high'"),
        ({"match": ""}, "at least 1 character"),
        ({"gruop": "x"}, "gruop"),
    ],
)
def test_an_entry_is_checked_by_itself(entry: dict[str, Any], said: str) -> None:
    """What one entry says must make sense."""
    with pytest.raises(ValueError, match=said):
        SensorSettings(**{"match": "a", **entry})


FILE = """
[detector]
budget = "1 per 7d"

[[sensors]]
match = "pump-1"
sensitivity = "high"
group = "hall 2"
labels = { line = "1" }

[[sensors]]
match = "pump-*"
channels = ["temperature", "vibration"]
threshold = "spot"
"""


def test_entries_come_from_a_file(tmp_path: Path) -> None:
    """As `[[sensors]]` of a TOML file."""
    (tmp_path / "settings.toml").write_text(FILE)
    of = Overrides(load(tmp_path / "settings.toml").sensors).of("pump-1")
    assert (of.sensitivity, of.group, of.threshold) == ("high", "hall 2", "spot")
    assert (of.labels, of.channels) == ({"line": "1"}, ("temperature", "vibration"))


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('[[sensors]]\nmatch = "pump-2"\nthreshold = "dspot"', "setting sensors: the threshold of .* entry 3"),
        ('[[sensors]]\nmatch = "fan"\nstride = 0', r"setting sensors\.2\.stride: input should be greater"),
        ("[[sensors]]\nstride = 2", r"setting sensors\.2\.match: field required"),
        ('[[sensors]]\nmatch = "fan"\nbudgt = "1 per day"', r"setting sensors\.2\.budgt: .*misspelling"),
        ('[[sensors]]\nmatch = "fan"\nsensitivity = "low"\nbudget = "1 per day"', "leave one of them out"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, added: str, said: str) -> None:
    """One sentence with the place and what to do."""
    (tmp_path / "settings.toml").write_text(FILE + added)
    with pytest.raises(ConfigError, match=said) as caught:
        load(tmp_path / "settings.toml")
    assert "\n" not in str(caught.value)
