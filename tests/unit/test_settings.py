"""Settings: where a value comes from, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_detector.errors import ConfigError
from stream_detector.settings import Budget, load, override

DAY = 86_400_000


@pytest.mark.parametrize(
    ("text", "alerts", "period_ms", "readings"),
    [
        ("1 per 7d", 1, 7 * DAY, None),
        ("one per week", 1, 7 * DAY, None),
        ("2 per 12h", 2, DAY / 2, None),
        ("0.5 per day", 0.5, DAY, None),
        ("1 per 5000 readings", 1, None, 5000),
        ("3 per 250ms", 3, 250, None),
    ],
)
def test_budgets_are_read(text: str, alerts: float, period_ms: float | None, readings: float | None) -> None:
    """A budget in its owner's words becomes alerts and a period, or a number of readings."""
    assert Budget.parse(text) == Budget(alerts, period_ms, readings, text)


@pytest.mark.parametrize("text", ["", "1", "1 per", "0 per day", "1 per 0d", "one per fortnight", "-1 per day", "1/7d"])
def test_other_budgets_are_refused(text: str) -> None:
    """What cannot be read is refused with an example of what can."""
    with pytest.raises(ValueError, match="1 per 7d"):
        Budget.parse(text)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, then file, then default; the file may be named by a variable."""
    path = tmp_path / "settings.toml"
    path.write_text('[detector]\nwindow = 50\nbudget = "1 per day"\n')
    monkeypatch.setenv("STREAM_DETECTOR_CONFIG", str(path))
    monkeypatch.setenv("STREAM_DETECTOR_DETECTOR__WINDOW", "60")
    detector = load().detector
    assert (detector.window, detector.budget, detector.stride) == (60, "1 per day", 1)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("STREAM_DETECTOR_DETECTR__WINDOW", "50", "DETECTR__WINDOW"),
        ("STREAM_DETECTOR_DETECTOR__WINDW", "50", "windw"),
        ("STREAM_DETECTOR_DETECTOR__WINDOW", "many", "window"),
        ("STREAM_DETECTOR_DETECTOR__WINDOW", "1", "window"),
        ("STREAM_DETECTOR_DETECTOR__BUDGET", "now and then", "1 per 7d"),
        ("STREAM_DETECTOR_CONFIG", "absent.toml", "absent.toml"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str) -> None:
    """A misspelt or impossible setting is refused by name, at every level."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=said):
        load()


def test_options_are_checked_like_settings() -> None:
    """What the command line gives goes through the same checks."""
    assert override(load(), {"window": 64}).detector.window == 64
    with pytest.raises(ConfigError, match="--stride"):
        override(load(), {"stride": 0})
