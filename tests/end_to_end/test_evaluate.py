"""`evaluate` on labelled series: what it writes, that it goes on where it stopped, and that labels change no score."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from stream_detector.cli import evaluate
from stream_detector.errors import StreamDetectorError
from stream_detector.evaluation.report.figure import moments
from tests.end_to_end.conftest import Run

MODELS = ("squared-difference", "knn")
ROWS, TRAINED = 900, 250
EVENTS = ((400, 410), (700, 730))


def values() -> np.ndarray:
    """A noisy wave with two bursts."""
    rng = np.random.default_rng(0)
    x = np.sin(np.arange(ROWS) / 5) + 0.1 * rng.normal(size=ROWS)
    for start, stop in EVENTS:
        x[start:stop] += 3 * rng.normal(size=stop - start)
    return x


def labels() -> np.ndarray:
    """1 inside the bursts."""
    found = np.zeros(ROWS, np.int64)
    for start, stop in EVENTS:
        found[start:stop] = 1
    return found


def write_series(path: Path, x: np.ndarray, of: np.ndarray | None) -> None:
    """A labelled file; without labels when there are none."""
    lines = ["timestamp,value" + ("" if of is None else ",label")]
    lines += [f"{1_600_000_000 + 60 * i},{v:.5f}" + ("" if of is None else f",{of[i]}") for i, v in enumerate(x)]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def scores_of(path: Path) -> list[dict[str, str]]:
    """Rows of a scores file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def call(*arguments: object) -> tuple[int, str]:
    """The command in this process: exit code, and what it printed or was told by an error."""
    app = typer.Typer()
    evaluate.register(app)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, StreamDetectorError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a good series, one upside down and compressed, and one without labels."""
    directory = tmp_path_factory.mktemp("data")
    write_series(directory / f"good_train{TRAINED}.csv", values(), labels())
    (directory / "sub").mkdir()
    write_series(directory / "sub" / f"other_train{TRAINED}.csv.gz", -values() * 7, labels())
    write_series(directory / "unlabelled.csv", values(), None)
    return directory


@pytest.fixture(scope="module")
def evaluated(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run over these writes, two series at a time; the one without labels fails."""
    output = tmp_path_factory.mktemp("evaluated") / "out"
    done = run(
        "evaluate", data, "--models", ",".join(MODELS), "--window", 40, "--output", output, "--jobs", 2,
        "--budget", "1 per 40 readings",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "failed: knn on unlabelled:" in done.stderr
    assert "has no column label" in done.stderr
    assert "Traceback" not in done.stderr
    assert "knn" in done.stdout
    return output


def test_one_score_an_input_row(evaluated: Path) -> None:
    """In input order with the input's own times, none in the part that was learned from, and flags of 0 and 1."""
    for detector in MODELS:
        for name in (f"good_train{TRAINED}", f"sub/other_train{TRAINED}"):
            rows = scores_of(evaluated / "scores" / detector / f"{name}.csv")
            assert list(rows[0]) == ["timestamp", "score", "is_anomaly"]
            assert [row["timestamp"] for row in rows] == [str(1_600_000_000 + 60 * i) for i in range(ROWS)]
            assert all((row["score"] == "") == (i < TRAINED) for i, row in enumerate(rows))
            assert {row["is_anomaly"] for row in rows} <= {"0", "1"}


def test_tables_agree_with_the_written_scores(evaluated: Path) -> None:
    """Computed here once more, plainly, from scores and labels."""
    with (evaluated / "results.csv").open(newline="") as file:
        results = {(row["detector"], row["series"]): row for row in csv.DictReader(file)}
    assert set(results) == {(d, s) for d in MODELS for s in (f"good_train{TRAINED}", f"sub/other_train{TRAINED}")}
    for (detector, series), row in results.items():
        kept = scores_of(evaluated / "scores" / detector / f"{series}.csv")[TRAINED:]
        score = np.array([float(one["score"]) for one in kept])
        flags = np.array([one["is_anomaly"] == "1" for one in kept])
        truth = labels()[TRAINED:] == 1
        hit, miss = score[truth], score[~truth]
        pairs = (hit[:, None] > miss[None]).mean() + 0.5 * (hit[:, None] == miss[None]).mean()
        assert float(row["roc_auc"]) == pytest.approx(pairs)
        steps = sorted(set(score.tolist()), reverse=True)
        recall = np.array([0, *(truth[score >= level].sum() / truth.sum() for level in steps)])
        precision = np.array([truth[score >= level].mean() for level in steps])
        assert float(row["auc_pr"]) == pytest.approx(np.sum(np.diff(recall) * precision))
        found = [flags[a - TRAINED : b - TRAINED].any() for a, b in EVENTS]
        assert float(row["event_recall"]) == pytest.approx(np.mean(found))
        assert float(row["in_alarm"]) == pytest.approx(flags.mean())
        assert (int(row["rows"]), int(row["events"])) == (ROWS - TRAINED, 2)
        assert float(row["vus_pr"]) > 0.5
    assert any(float(row["event_recall"]) > 0 for row in results.values())


def test_pages_for_people(evaluated: Path) -> None:
    """The Markdown has every detector and what failed; the HTML page has a picture of each series."""
    text = (evaluated / "results.md").read_text()
    assert "| knn | 2 |" in text
    assert "unlabelled: " in text
    assert "point-adjusted" in text.lower()
    page = (evaluated / "report.html").read_text()
    assert f"sub/other_train{TRAINED}" in page
    assert page.count('class="sensor"') == 2


def test_times_near_zero_are_not_taken_for_years() -> None:
    """Series that count their rows from 0 are drawn where they are: plotly reads 2024 as a year, and 2024.001 not."""
    drawn = moments(np.array([0, 70, 2024, 9999, 10_000]))
    assert all(value % 1 for value in drawn[:4].tolist())
    assert np.abs(drawn - [0, 70, 2024, 9999, 10_000]).max() < 0.01


def test_goes_on_where_it_stopped(evaluated: Path, data: Path) -> None:
    """What is there is kept as it is, what is missing comes out the same, one at a time as two at a time."""
    before = {path: path.read_bytes() for path in evaluated.glob("scores/**/*.csv")}
    gone = evaluated / "scores" / "knn" / f"good_train{TRAINED}.csv"
    gone.unlink()
    stamps = {path: path.stat().st_mtime_ns for path in before if path != gone}
    code, _ = call(data, "--models", ",".join(MODELS), "--window", 40, "--output", evaluated, "--jobs", 1,
                   "--budget", "1 per 40 readings")  # fmt: skip
    assert code == 1
    assert {path: path.read_bytes() for path in evaluated.glob("scores/**/*.csv")} == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_results_of_other_settings_are_not_mixed(evaluated: Path, data: Path) -> None:
    """Refused with a word on what to do."""
    code, told = call(data, "--models", "knn", "--window", 50, "--output", evaluated)
    assert code == 1
    assert "name another --output" in told


def test_labels_and_later_rows_have_no_part(data: Path, tmp_path: Path, evaluated: Path) -> None:
    """Other labels, and another end of the series, leave scores as they were. Bit for bit."""
    changed = values()
    changed[800:] = 50
    (tmp_path / "data").mkdir()
    write_series(tmp_path / "data" / f"good_train{TRAINED}.csv", changed, 1 - labels())
    code, told = call(tmp_path / "data", "--models", ",".join(MODELS), "--window", 40, "--output", tmp_path / "out",
                      "--jobs", 1, "--budget", "1 per 40 readings")  # fmt: skip
    assert code == 0, told
    for detector in MODELS:
        name = Path("scores", detector, f"good_train{TRAINED}.csv")
        assert scores_of(tmp_path / "out" / name)[:800] == scores_of(evaluated / name)[:800]


def test_nab(tmp_path: Path) -> None:
    """A corpus of two files, one without a window; scores lie in its folders, and its three scores in the table."""
    x = values()
    for name in ("real/one", "calm/two"):
        path = tmp_path / "nab" / "data" / f"{name}.csv"
        path.parent.mkdir(parents=True)
        lines = [f"2014-01-0{1 + i // 288} {i % 288 // 12:02}:{i % 12 * 5:02}:00,{v:.4f}" for i, v in enumerate(x)]
        path.write_text("\n".join(["timestamp,value", *lines]) + "\n")
    (tmp_path / "nab" / "labels").mkdir()
    window = ["2014-01-03 10:20:00.000000", "2014-01-03 12:55:00.000000"]
    windows = {"real/one.csv": [window], "calm/two.csv": []}
    (tmp_path / "nab" / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    code, told = call(tmp_path / "nab", "--format", "nab", "--models", "squared-difference", "--window", 30,
                      "--output", tmp_path / "out", "--jobs", 1)  # fmt: skip
    assert code == 0, told
    rows = scores_of(tmp_path / "out" / "scores" / "squared-difference" / "real" / "one.csv")
    assert next(i for i, row in enumerate(rows) if row["score"]) == int(0.15 * ROWS)
    text = (tmp_path / "out" / "results.md").read_text()
    assert "tuned, standard" in text
    assert "deployed, low FN" in text
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        one, two = sorted(csv.DictReader(file), key=lambda row: row["series"], reverse=True)
    assert (one["events"], one["anomalous_rows"], two["events"], two["vus_pr"]) == ("1", "32", "0", "")


def test_several_sensors_in_a_file(plant: Path, tmp_path: Path) -> None:
    """What `simulate` writes: each sensor is judged by itself, and the scores stand in one file beside its rows."""
    lines = plant.read_text().splitlines()
    (tmp_path / "plant.csv").write_text("\n".join(line.replace(",", ";") for line in lines) + "\n")
    code, told = call(tmp_path / "plant.csv", "--models", "moving-z", "--output", tmp_path / "out", "--window", 40)
    assert code == 0, told
    assert len(scores_of(tmp_path / "out" / "scores" / "moving-z" / "plant.csv")) == len(lines) - 1
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = {row["series"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"plant/machine-001", "plant/machine-002"}
    for name in ("machine-001", "machine-002"):
        mine = [line for line in lines if f",{name}," in line]
        expected = sum(line.endswith(",1") for line in mine[len(mine) - int(rows[f"plant/{name}"]["rows"]) :])
        assert int(rows[f"plant/{name}"]["anomalous_rows"]) == expected
        assert expected > 0


def test_without_training(data: Path, tmp_path: Path) -> None:
    """All rows behind the first window are scored by what needs no weights; what needs them is refused by name."""
    code, told = call(data / f"good_train{TRAINED}.csv", "--models", "moving-variance", "--train", "none",
                      "--window", 40, "--output", tmp_path / "out")  # fmt: skip
    assert code == 0, told
    rows = scores_of(tmp_path / "out" / "scores" / "moving-variance" / f"good_train{TRAINED}.csv")
    assert [i for i, row in enumerate(rows) if row["score"]] == list(range(39, ROWS))
    code, told = call(data, "--models", "sub-pca", "--train", "none")
    assert code == 2
    assert "sub-pca must be trained" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not exist"),
        ([".", "--format", "xml"], "choose one of csv, nab"),
        ([".", "--train", "all"], "choose one of prefix, none"),
        ([".", "--models", "enkoder"], "neither a model"),
        ([".", "--models", ","], "names none"),
        ([".", "--format", "nab"], "combined_windows.json"),
        ([".", "--budget", "often"], "cannot be read"),
        (["."], "holds no .csv"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 and one clear sentence."""
    monkeypatch.chdir(tmp_path)
    code, told = call(*arguments)
    assert code == 2
    assert words in told
