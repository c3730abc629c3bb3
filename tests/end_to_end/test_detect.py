"""`detect` on files: what comes out, and that it is the same whichever way the same readings go in."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import pytest

from stream_detector.records import Alert, parse_time
from tests.end_to_end.conftest import Run

import msgspec  # isort: skip


KEYS = ("timestamp", "sensor_id", "label")
"""Columns that are not channels."""


def alerts_of(path: Path) -> list[Alert]:
    """Alert records of a file of JSON lines, strictly checked."""
    return [msgspec.json.decode(line, type=Alert, strict=True) for line in path.read_bytes().splitlines()]


def scores_of(path: Path) -> list[dict[str, str]]:
    """Rows of a scores file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def detected(run: Run, plant: Path, artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything that one run writes."""
    directory = tmp_path_factory.mktemp("detected")
    done = run(
        "detect", plant, "--model", artifact,
        "--output", directory / "alerts.jsonl", "--scores", directory / "scores.csv",
        "--report", directory / "report.html", "--state", directory / "state", "--budget", "1 per 300 readings",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (directory / "stdout.txt").write_text(done.stdout)
    return directory


def test_alerts_are_lives_of_incidents(detected: Path) -> None:
    """Every incident opens with seq 0, counts up, closes at most once and last; times are in order."""
    alerts = alerts_of(detected / "alerts.jsonl")
    assert alerts
    for alert_id in {alert.alert_id for alert in alerts}:
        life = [alert for alert in alerts if alert.alert_id == alert_id]
        assert [alert.seq for alert in life] == list(range(len(life)))
        assert [alert.event == "opened" for alert in life] == [True] + [False] * (len(life) - 1)
        once = life[0].kind == "regime_change"
        assert all((alert.status == "resolved") == (alert.event == "closed" or once) for alert in life)
        assert all(alert is life[-1] for alert in life if alert.event == "closed")
        for alert in life:
            assert parse_time(alert.window.start) < parse_time(alert.window.end)
            assert parse_time(alert.starts_at) <= parse_time(alert.detected_at or "")
            assert sum(channel.contribution for channel in alert.channels) == pytest.approx(1, abs=1e-3)


def test_one_score_a_row_in_input_order(detected: Path, plant: Path) -> None:
    """Scores stand beside the rows they belong to; the first window of each sensor has none."""
    rows, scores = scores_of(plant), scores_of(detected / "scores.csv")
    assert [(s["timestamp"], s["sensor_id"]) for s in scores] == [(r["timestamp"], r["sensor_id"]) for r in rows]
    first = {name: next(i for i, s in enumerate(mine) if s["score"]) for name, mine in by_sensor(scores).items()}
    assert set(first.values()) == {39}
    assert all(float(s["score"]) >= 0 and 0 < float(s["p_value"]) <= 1 for s in scores if s["score"])
    assert any(s["is_anomaly"] == "1" for s in scores)


def by_sensor(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Rows by their sensor id."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["sensor_id"], []).append(row)
    return found


def test_the_report_needs_nothing_else(detected: Path) -> None:
    """One page, no outside address to load from, every sensor in it."""
    page = (detected / "report.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?https?:", page)
    assert "machine-001" in page
    assert "machine-002" in page


def test_the_summary_is_for_people(detected: Path) -> None:
    """The terminal shows sensors and incidents."""
    printed = (detected / "stdout.txt").read_text()
    assert "machine-001" in printed
    assert "Incidents" in printed


def test_a_second_run_gives_the_same_bytes(
    run: Run, detected: Path, plant: Path, artifact: Path, tmp_path: Path
) -> None:
    """Alerts and scores are equal byte for byte."""
    again = run("detect", plant, "--model", artifact, "--output", tmp_path / "a", "--scores", tmp_path / "s",
                "--budget", "1 per 300 readings")  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "a").read_bytes() == (detected / "alerts.jsonl").read_bytes()
    assert (tmp_path / "s").read_bytes() == (detected / "scores.csv").read_bytes()


@pytest.mark.parametrize("cut", [61, 1000, 2222])
def test_a_file_in_two_parts_gives_the_same_alerts(
    run: Run, detected: Path, plant: Path, artifact: Path, tmp_path: Path, cut: int
) -> None:
    """State carried from one run to the next: the alerts are those of one run, and so is the state itself."""
    header, *rows = plant.read_text().splitlines()
    for number, part in enumerate((rows[:cut], rows[cut:])):
        (tmp_path / f"{number}.csv").write_text("\n".join([header, *part]) + "\n")
        done = run("detect", tmp_path / f"{number}.csv", "--model", artifact, "--state", tmp_path / "state",
                   "--output", tmp_path / f"{number}.jsonl", "--budget", "1 per 300 readings")  # fmt: skip
        assert done.returncode == 0, done.stderr
    both = (tmp_path / "0.jsonl").read_bytes() + (tmp_path / "1.jsonl").read_bytes()
    assert both == (detected / "alerts.jsonl").read_bytes()
    after, whole = (
        {path.parent.name: path.read_bytes() for path in (place / "state").glob("*/sensors.bin")}
        for place in (tmp_path, detected)
    )
    assert after == whole
    assert after


def test_later_rows_do_not_change_earlier_scores(
    run: Run, detected: Path, plant: Path, artifact: Path, tmp_path: Path
) -> None:
    """Scores and decisions of the first rows are the same when all later rows are different."""
    header, *rows = plant.read_text().splitlines()
    cut = 1500
    changed = [",".join([*row.split(",")[:2], "9999", "9999", "9999", "9999", "0"]) for row in rows[cut:]]
    (tmp_path / "changed.csv").write_text("\n".join([header, *rows[:cut], *changed]) + "\n")
    done = run("detect", tmp_path / "changed.csv", "--model", artifact, "--scores", tmp_path / "s",
               "--budget", "1 per 300 readings")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert scores_of(tmp_path / "s")[:cut] == scores_of(detected / "scores.csv")[:cut]
    assert scores_of(tmp_path / "s")[cut:] != scores_of(detected / "scores.csv")[cut:]


def test_the_label_is_never_read(run: Run, detected: Path, plant: Path, artifact: Path, tmp_path: Path) -> None:
    """Without the label, or with another, and compressed or as JSON lines, the alerts are the same."""
    rows = scores_of(plant)
    with gzip.open(tmp_path / "plant.csv.gz", "wt") as file:
        file.write(plant.read_text().replace(",1\n", ",0\n"))
    channels = [name for name in rows[0] if name not in KEYS]
    with (tmp_path / "plant.jsonl").open("w") as file:
        for row in rows:
            values = {name: float(row[name]) if row[name] else None for name in channels}
            file.write(
                json.dumps({"sensor_id": row["sensor_id"], "timestamp": row["timestamp"], "values": values}) + "\n"
            )
    for name in ("plant.csv.gz", "plant.jsonl"):
        done = run(
            "detect", tmp_path / name, "--model", artifact, "--output", tmp_path / "a", "--budget", "1 per 300 readings"
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "a").read_bytes() == (detected / "alerts.jsonl").read_bytes()


def test_it_trains_by_itself_and_reads_standard_input(run: Run, plant: Path) -> None:
    """Without an artifact the first rows are learned from, and `-` is standard input and output."""
    done = run(
        "detect", "-", "--window", 40, "--train-rows", 900, "--epochs", 1, "--scores", "-", text=plant.read_text()
    )
    assert done.returncode == 0, done.stderr
    scores = list(csv.DictReader(done.stdout.splitlines()))
    assert len(scores) == 3000
    valued = [any(value for name, value in row.items() if name not in KEYS) for row in scores_of(plant)]
    assert [bool(s["score"]) for s in scores] == [False] * 900 + valued[900:]
    assert "Sensors (2)" in done.stderr


def test_without_a_training_part_all_full_windows_are_judged(run: Run, plant: Path, tmp_path: Path) -> None:
    """By weights that come with the program, and then by others that know what has passed; a later run goes on."""
    given = ("detect", plant, "--epochs", 1, "--budget", "1 per 300 readings")
    done = run(*given, "--train-rows", 0, "--output", tmp_path / "a", "--scores", "-", "--state", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    rows = [row for row in csv.DictReader(done.stdout.splitlines()) if row["sensor_id"] == "machine-001"]
    unscored = [i for i, row in enumerate(rows) if not row["score"]]
    assert unscored[:127] == list(range(127))
    assert len({alert.model.digest for alert in alerts_of(tmp_path / "a") if alert.model}) == 2
    done = run(*given, "--state", tmp_path / "s")
    assert done.returncode == 0, done.stderr
