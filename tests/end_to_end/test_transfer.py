"""`train --from`: weights for a machine with little data, from another machine's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_detector.simulate import simulate, write_csv
from tests.end_to_end.conftest import Run


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few readings of another machine of the kind."""
    path = tmp_path_factory.mktemp("little") / "little.csv"
    write_csv(simulate("plant", sensors=1, rows=220, seed=8, faults_per_sensor=0), path)
    return path


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings with other channels."""
    path = tmp_path_factory.mktemp("payments") / "payments.csv"
    write_csv(simulate("payments", sensors=2, rows=400, seed=8, faults_per_sensor=0), path)
    return path


def test_from_an_artifact(run: Run, artifact: Path, little: Path, tmp_path: Path) -> None:
    """Its model and window come along, and the manifest names it; `detect` takes the result."""
    done = run("train", little, "--from", artifact, "--output", tmp_path / "tuned", "--epochs", 2)
    assert done.returncode == 0, done.stderr
    old, new = (json.loads((path / "manifest.json").read_text()) for path in (artifact, tmp_path / "tuned"))
    assert new["config"] == old["config"]
    assert new["parent"] == old["digest"] != new["digest"]
    assert run("detect", little, "--model", tmp_path / "tuned").returncode == 0


def test_from_the_pretrained_to_other_channels(run: Run, payments: Path, tmp_path: Path) -> None:
    """Weights that look at each channel alone fit any."""
    done = run("train", payments, "--from", "encoder", "--frozen", "--output", tmp_path / "tuned", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "tuned" / "manifest.json").read_text())
    assert manifest["channels"] == ["transactions", "amount", "declined"]


def test_what_does_not_fit_is_said(run: Run, artifact: Path, payments: Path, little: Path, tmp_path: Path) -> None:
    """With exit code 2, and nothing is written."""
    out = tmp_path / "x"
    for arguments, said in (
        ((payments, "--from", artifact), "shared=true"),
        ((little, "--from", artifact, "--model", "encoder"), "--from brings its model"),
        ((little, "--frozen"), "--from"),
        ((little, "--from", tmp_path / "nowhere"), "nowhere"),
        ((little, "--set", "depth=3"), "has no 'depth'"),
    ):
        done = run("train", *arguments, "--output", out)
        assert (done.returncode, said in " ".join(done.stderr.split())) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
    assert not out.exists()
