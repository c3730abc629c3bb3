"""`simulate`, `train`, `demo` and the help, and what every wrong input says."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from stream_detector.errors import StreamDetectorError
from tests.end_to_end.conftest import COMMAND, Run

ROWS = "".join(f"2026-01-01T{h:02}:{m:02}:00Z,{(h * 60 + m) % 7}\n" for h in range(10) for m in range(60))
GOOD = "timestamp,value\n" + ROWS


def test_help_teaches(run: Run) -> None:
    """The help names all commands, and each command's help its options."""
    assert all(name in run("--help").stdout for name in ("detect", "train", "simulate", "demo"))
    assert all(name in run("detect", "--help").stdout for name in ("--model", "--budget", "--train-rows", "--report"))


def test_simulate_writes_readings_and_faults(run: Run, tmp_path: Path) -> None:
    """The last column is the label, the faults lie beside, and the same seed gives the same bytes."""
    for name in ("a.csv", "b.csv"):
        done = run(
            "simulate", "--field", "payments", "--sensors", 2, "--rows", 800, "--seed", 5, "--output", tmp_path / name
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv").read_text().splitlines()[0].endswith(",label")
    assert json.loads((tmp_path / "a.faults.json").read_text())["faults"]


def test_demo_needs_nothing(run: Run, tmp_path: Path) -> None:
    """The demo runs in an empty directory and leaves readings, alerts and a report."""
    done = run("demo", "--files", "--sensors", 2, "--rows", 1200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Injected faults" in done.stdout
    names = {path.name for path in (tmp_path / "stream-detector-demo").iterdir()}
    assert names == {"readings.csv", "readings.faults.json", "alerts.jsonl", "report.html"}


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    """Control-C while it works: exit code 130, no traceback."""
    command = [COMMAND, "demo", "--rows", "20000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "Simulated" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("time,value\n1,2\n", "timestamp"),
        ("timestamp\n1\n", "channel"),
        ("timestamp,value\nyesterday,1\n", "yesterday"),
        ("timestamp,value\n2026-01-01,much\n", "value"),
        ("timestamp,value\n" + ROWS[: ROWS.index("T00:30")] + "\n", "window"),
        (GOOD.replace(",3\n", ",inf\n").replace("timestamp", "zeit"), "timestamp"),
    ],
)
def test_unusable_files(run: Run, tmp_path: Path, content: str, said: str) -> None:
    """A file that cannot be used: exit code 2 and one sentence that names it, never a traceback."""
    (tmp_path / "readings.csv").write_text(content)
    done = run("detect", tmp_path / "readings.csv")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["detect", "absent.csv"], "absent.csv"),
        (["detect", "."], "director"),
        (["detect", "good.csv", "--model", "oracle"], "oracle"),
        (["detect", "good.csv", "--model", "."], "artifact"),
        (["detect", "good.csv", "--budget", "never"], "1 per 7d"),
        (["detect", "good.csv", "--window", "3"], "window"),
        (["detect", "good.csv", "--stride", "50"], "stride"),
        (["detect", "good.csv", "--device", "abacus"], "abacus"),
        (["detect", "good.csv", "--train-rows", "100000"], "--train-rows"),
        (["detect", "good.csv", "--config", "absent.toml"], "absent.toml"),
        (["detect", "good.csv", "--no-such-option"], "no-such-option"),
        (["simulate", "--field", "zoo", "--output", "x.csv"], "zoo"),
        (["train", "good.csv", "--model", "oracle", "--output", "x"], "oracle"),
    ],
)
def test_wrong_usage(run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    """Wrong arguments: exit code 2 and what to do about it."""
    (tmp_path / "good.csv").write_text(GOOD)
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_result_that_cannot_be_written(run: Run, tmp_path: Path, artifact: Path, plant: Path) -> None:
    """No such directory: exit code 1, and the path is named."""
    done = run("detect", plant, "--model", artifact, "--output", tmp_path / "absent" / "alerts.jsonl")
    assert done.returncode == 1
    assert "absent" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_channels_than_the_artifact_s(run: Run, tmp_path: Path, artifact: Path) -> None:
    """Weights for other channels are refused with both lists."""
    (tmp_path / "good.csv").write_text(GOOD)
    done = run("detect", tmp_path / "good.csv", "--model", artifact)
    assert done.returncode == 2
    assert "vibration" in done.stderr
    assert "value" in done.stderr


def test_a_corrupt_artifact(run: Run, tmp_path: Path, artifact: Path, plant: Path) -> None:
    """Weights that were changed are refused."""
    copy = tmp_path / "artifact"
    copy.mkdir()
    for path in artifact.iterdir():
        (copy / path.name).write_bytes(path.read_bytes()[: -1 if path.suffix == ".safetensors" else None])
    done = run("detect", plant, "--model", copy)
    assert done.returncode == 2
    assert "damaged" in done.stderr


def test_constant_sensors_are_quiet(run: Run, tmp_path: Path) -> None:
    """A sensor that always says the same, zero included, is learned and judged without an alert."""
    for value in ("0", "5.5"):
        (tmp_path / "flat.csv").write_text("timestamp,value\n" + "".join(f"{i * 60_000},{value}\n" for i in range(400)))
        done = run(
            "detect", tmp_path / "flat.csv", "--window", 40, "--epochs", 1, "--output", tmp_path / "alerts.jsonl"
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "alerts.jsonl").read_bytes() == b""


def test_a_state_keeps_its_weights_and_settings(run: Run, tmp_path: Path, artifact: Path, plant: Path) -> None:
    """A saved state refuses other weights, other settings and a training part; alone it brings its weights along."""
    state = tmp_path / "state"
    assert run("detect", plant, "--model", artifact, "--state", state).returncode == 0
    other = tmp_path / "other"
    assert run("train", plant, "--output", other, "--window", 40, "--epochs", 1, "--seed", 9).returncode == 0
    for arguments in (["--model", other], ["--budget", "1 per day"], ["--train-rows", 500]):
        done = run("detect", plant, "--state", state, *arguments)
        assert done.returncode == 2, arguments
        assert len(done.stderr.strip().splitlines()) == 1
    assert run("detect", plant, "--state", state).returncode == 0


def test_bad_rows_are_counted_and_named(run: Run, tmp_path: Path) -> None:
    """Rows that cannot be used are left out and counted, the first is named with its line; each row keeps its place."""
    lines = GOOD.splitlines()
    lines[5], lines[9], lines[12] = "2026-01-01T00:04:00Z,inf", "someday,1", "2026-01-01T00:11:00Z,x"
    lines[200], lines[201] = lines[201], lines[200]
    (tmp_path / "untidy.csv").write_text("\n".join(lines) + "\n")
    done = run("detect", tmp_path / "untidy.csv", "--window", 40, "--epochs", 1, "--scores", tmp_path / "s.csv")
    assert done.returncode == 0, done.stderr
    assert "3 rows could not be used" in done.stdout
    assert "line 6" in done.stdout
    assert "1 rows were not in time order" in done.stdout
    scores = (tmp_path / "s.csv").read_text().splitlines()
    assert len(scores) == len(lines)
    assert scores[9].startswith("someday,")


def test_every_error_has_an_exit_code() -> None:
    """The tree of errors promises 1 or 2."""
    leaves = StreamDetectorError.__subclasses__()
    assert leaves
    assert {leaf.exit_code for leaf in leaves} <= {1, 2}
