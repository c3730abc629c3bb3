"""The commands as a user types them, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_detector.simulate import Fleet, simulate, write_csv

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = Path(sys.executable).with_name("stream-detector")


@pytest.fixture(scope="session")
def run() -> Run:
    """Run `stream-detector` with arguments; returns what it printed and its exit code."""

    def run_command(
        *arguments: object, cwd: Path | None = None, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
        return subprocess.run(
            [COMMAND, *map(str, arguments)],
            cwd=cwd,
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run_command


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Two machines with faults."""
    return simulate("plant", sensors=2, rows=1500, seed=3)


@pytest.fixture(scope="session")
def plant(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fleet's readings as a file."""
    path = tmp_path_factory.mktemp("plant") / "plant.csv"
    write_csv(fleet, path)
    return path


@pytest.fixture(scope="session")
def artifact(run: Run, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder trained by the command on the part without faults, with a small window to be quick."""
    directory = tmp_path_factory.mktemp("trained")
    clean = simulate("plant", sensors=2, rows=600, seed=3, faults_per_sensor=0)
    write_csv(clean, directory / "clean.csv")
    done = run("train", directory / "clean.csv", "--output", directory / "artifact", "--window", 40, "--epochs", 3)
    assert done.returncode == 0, done.stderr
    return directory / "artifact"
