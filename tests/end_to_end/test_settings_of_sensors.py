"""`[[sensors]]` in a configuration file: groups, labels, budgets of their own, and contradictions."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Run
from tests.end_to_end.test_feedback import alerts_of, call
from tests.unit.plant import at, noise

__all__ = ["call"]
NAMES = {"a": "pump-1", "b": "pump-2", "c": "pump-3", "d": "fan-1"}
FAULT = 400
HALL = """
[detector]
budget = "1 per 20000 readings"

[incidents]
group_within = "10s"

[[sensors]]
match = "pump-*"
group = "hall 2"
labels = { line = "2" }
"""
FAN = """
[[sensors]]
match = "fan-*"
sensitivity = "low"
stride = 4
"""


def write(path: Path, start: int, stop: int, names: str = "abcd") -> Path:
    """Readings of a plant; a fault hits all sensors within three seconds."""
    rows = [
        f"{at(t)},{NAMES[name]},{30.0 if t == FAULT + names.index(name) else value}"
        for name, t, value in noise(names, start, stop)
    ]
    path.write_text("timestamp,sensor_id,value\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def model(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that cost nothing."""
    directory = tmp_path_factory.mktemp("model")
    done = run("train", write(directory / "clean.csv", -2000, 100), "--model", "moving-z", "--window", 16, "--output",
               directory / "weights")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return directory / "weights"


def test_a_fault_of_a_whole_group_is_one_incident(run: Run, model: Path, tmp_path: Path) -> None:
    """One id for all pumps, opened once and closed once, with the group and its labels; the fan stands alone."""
    (tmp_path / "s.toml").write_text(HALL)
    readings = write(tmp_path / "plant.csv", 100, 500)
    done = run("detect", readings, "--model", model, "--config", tmp_path / "s.toml", "--output", tmp_path / "alerts")
    assert done.returncode == 0, done.stderr
    alerts = alerts_of(tmp_path / "alerts")
    pumps = [alert for alert in alerts if alert.group == "hall 2"]
    assert len({alert.alert_id for alert in pumps}) == 1
    assert [alert.event for alert in pumps] == ["opened", "updated", "closed"]
    assert pumps[-1].members == ["pump-1", "pump-2", "pump-3"]
    assert all(alert.labels == {"line": "2"} for alert in pumps)
    fan = [alert for alert in alerts if alert.group is None]
    assert [fan[0].event, fan[-1].event] == ["opened", "closed"]
    assert len({alert.alert_id for alert in fan}) == 1
    assert all((alert.sensor_id, alert.members, alert.labels) == ("fan-1", [], {}) for alert in fan)


def test_without_settings_each_has_its_own(call: Callable[..., tuple[int, str]], model: Path, tmp_path: Path) -> None:
    """The same file without a group: four incidents."""
    readings = write(tmp_path / "plant.csv", 100, 500)
    code, said = call("detect", readings, "--model", model, "--budget", "1 per 20000 readings", "--output",
                      tmp_path / "alerts")  # fmt: skip
    assert code == 0, said
    assert len({alert.alert_id for alert in alerts_of(tmp_path / "alerts")}) == 4


def test_sensors_have_budgets_of_their_own(call: Callable[..., tuple[int, str]], model: Path, tmp_path: Path) -> None:
    """Each alert says by which budget it was judged; every row of the other stride has its score too."""
    (tmp_path / "s.toml").write_text(HALL + FAN)
    readings = write(tmp_path / "plant.csv", 100, 500)
    code, said = call("detect", readings, "--model", model, "--config", tmp_path / "s.toml", "--output",
                      tmp_path / "alerts", "--scores", tmp_path / "scores")  # fmt: skip
    assert code == 0, said
    budgets = {alert.sensor_id: alert.threshold.budget for alert in alerts_of(tmp_path / "alerts") if alert.threshold}
    assert budgets == {"pump-1": "1 per 20000 readings", "fan-1": "1 per 30d"}
    with (tmp_path / "scores").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["sensor_id"] == "fan-1"]
    assert [bool(row["score"]) for row in rows] == [False] * 12 + [True] * 388


@pytest.mark.parametrize("cut", [300, FAULT + 1])
def test_a_state_holds_all_profiles(
    call: Callable[..., tuple[int, str]], model: Path, tmp_path: Path, cut: int
) -> None:
    """Cut in two, also within the group's incident, a run tells the same; then comes a file without fans."""
    (tmp_path / "s.toml").write_text(HALL + FAN)
    found = {}
    for name, start, stop, more in (
        ("whole", 100, 500, []),
        ("first", 100, cut, ["--state", tmp_path / "state"]),
        ("second", cut, 500, ["--state", tmp_path / "state"]),
    ):
        readings = write(tmp_path / f"{name}.csv", start, stop)
        code, said = call("detect", readings, "--model", model, "--config", tmp_path / "s.toml", "--output",
                          tmp_path / name, *more)  # fmt: skip
        assert code == 0, said
        found[name] = (tmp_path / name).read_bytes()
    assert found["first"] + found["second"] == found["whole"]
    for name, names in (("pumps", "abc"), ("all", "abcd")):
        start = {"pumps": 500, "all": 510}[name]
        readings = write(tmp_path / f"{name}.csv", start, start + 10, names)
        code, said = call("detect", readings, "--model", model, "--config", tmp_path / "s.toml", "--state",
                          tmp_path / "state", "--scores", tmp_path / "scores")  # fmt: skip
        assert code == 0, said
    assert all(line.split(",")[2] for line in (tmp_path / "scores").read_text().splitlines() if "pump" in line)
    assert any(line.split(",")[2] for line in (tmp_path / "scores").read_text().splitlines() if "fan" in line)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (
            '[[sensors]]\nmatch = "pump-1"\ngroup = "x"',
            "the group of [[sensors]] entry 2 (match 'pump-1') can never apply",
        ),
        ('[[sensors]]\nmatch = "x"\nbudget = "1 per 1d"\nsensitivity = "low"', "budget and sensitivity say the same"),
        (
            '[[sensors]]\nmatch = "x"\nbudget = "1 per 1d"\nthreshold = "fixed:3"',
            "the threshold fixed:3 keeps no budget",
        ),
    ],
)
def test_contradictions_are_refused(
    call: Callable[..., tuple[int, str]], model: Path, tmp_path: Path, added: str, said: str
) -> None:
    """Exit code 2, one sentence, and nothing is written."""
    (tmp_path / "s.toml").write_text(HALL + added)
    code, complaint = call("detect", write(tmp_path / "plant.csv", 100, 120), "--model", model, "--config",
                           tmp_path / "s.toml", "--output", tmp_path / "alerts")  # fmt: skip
    assert code == 2
    assert said in complaint
    assert len(complaint.strip().splitlines()) == 1
    assert not (tmp_path / "alerts").exists()
