"""`stream-detector models` as a user types it, on a directory and on a real server."""

from __future__ import annotations

import json
import os
import pty
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stream_detector.cli import main
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact, SensorSeed, TrainedOn, build
from stream_detector.settings import load
from stream_detector.streaming.registry import Line, Tally, open_registry

COMMAND = Path(sys.executable).with_name("stream-detector")
LINE = Line("encoder", ("temperature", "[red]v\x1b"))


def artifact_of(seed: int) -> Artifact:
    """A small encoder with random weights."""
    torch.manual_seed(seed)
    return Artifact(
        model=build("encoder", {"window": 16, "channels": 2, "width": 8, "feedforward": 8, "layers": 1}),
        channels=("temperature", "[red]v\x1b"),
        scaler={"pump-7": SensorSeed([1.0, 2.0], [0.5, 0.25], -3.0, 0.5)},
        calibration=None,
        trained_on=TrainedOn("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 12_345, 7),
        metrics={"fit_loss": 0.123456},
        created="2026-01-03T04:05:06+00:00",
    )


ONE, TWO = artifact_of(1), artifact_of(2)
A, B = ONE.digest[:12], TWO.digest[:12]
NUMBERS = {"recall": 0.25, "champion_recall": 0.5, "alarms": 3, "champion_alarms": 2, "loss": None, "planted": 96}
DECISION: dict[str, Any] = {"passed": False, "reasons": ["it finds too few"], "numbers": NUMBERS}


@pytest.fixture(params=["directory", "redis"], autouse=True)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry of the test's own, by the environment."""
    if request.param == "redis":
        monkeypatch.setenv("STREAM_DETECTOR_REDIS__URL", request.getfixturevalue("redis_url"))
        monkeypatch.setenv("STREAM_DETECTOR_REDIS__PREFIX", f"test-{secrets.token_hex(6)}")
    else:
        monkeypatch.setenv("STREAM_DETECTOR_MODELS__REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("COLUMNS", "200")
    return str(request.param)


class Typed:
    """Runs a command in this process, and gives its exit code, what it printed, and its errors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        """One command."""
        self._monkeypatch.setattr(sys, "argv", ["stream-detector", "models", *map(str, words)])
        self._capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *self._capsys.readouterr()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Commands, typed."""
    # The commands look at what their output goes to, which here is no file.
    monkeypatch.setattr("stream_detector.cli.models.reader_may_leave", lambda: open_registry(load()))
    return Typed(monkeypatch, capsys)


def two_versions() -> None:
    """The first is the champion, the second was refused."""
    with open_registry(load()) as registry:
        registry.put(ONE, LINE)
        registry.put(TWO, LINE, parent=ONE.digest, decision=DECISION)
        registry.promote(LINE, ONE.digest, "better")


def test_from_a_directory_and_back(typed: Typed, tmp_path: Path) -> None:
    """Imported under a name it is in use at once; exported it is the same artifact."""
    ONE.save(tmp_path / "one")
    TWO.save(tmp_path / "two")
    code, out, _ = typed("import", tmp_path / "one", "--name", "pumps")
    assert (code, out.splitlines()) == (
        0,
        [
            f"pumps ([red]v\\x1b, temperature) has version {A}.",
            "It is the champion. Use it: detector.model = pumps",
        ],
    )
    code, out, _ = typed("import", tmp_path / "two", "--name", "pumps")
    assert (code, out.splitlines()[1]) == (0, f"It is not in use yet: stream-detector models promote {B}")
    code, out, _ = typed("export", A[:6], "--output", tmp_path / "out")
    assert (code, out) == (
        0,
        f"{tmp_path}/out holds version {A}. Use it: stream-detector detect FILE --model {tmp_path}/out\n",
    )
    had = artifacts.load(tmp_path / "out")
    assert (had.info, had.created, had.metrics) == (ONE.info, ONE.created, ONE.metrics)
    with open_registry(load()) as registry:
        assert registry.champion(Line("pumps", ONE.channels)) == ONE.digest


def test_choosing_a_version(typed: Typed) -> None:
    """Promote and rollback say what was before and what is now; without a terminal they want --yes."""
    two_versions()
    code, out, err = typed("promote", B)
    assert (code, out) == (2, "")
    assert "--yes" in err
    code, out, _ = typed("promote", B, "--yes", "--reason", "I know better")
    assert (code, out) == (0, f"encoder ([red]v\\x1b, temperature): {A} -> {B}\n")
    assert typed("promote", f"sha256:{TWO.digest}")[1].startswith(f"{B} is the champion")
    code, out, _ = typed("rollback", "encoder", "-y")
    assert (code, out) == (0, f"encoder ([red]v\\x1b, temperature): {B} -> {A}\n")
    code, out, err = typed("rollback", "--yes")
    assert (code, out) == (2, "")
    assert "nothing to go back to" in err
    with open_registry(load()) as registry:
        assert [(one.status, one.reason) for one in registry.versions(LINE)] == [
            ("former", "I know better"),
            ("champion", "rolled back by hand"),
        ]


def test_tables_that_can_be_read(typed: Typed) -> None:
    """One row a version; everything of one; names from outside do nothing to the terminal."""
    assert typed("list") == (0, "There are no trained weights yet: run a trainer, or import some.\n", "")
    two_versions()
    code, out, _ = typed("list")
    title, _, head, _, second, first = [line.rstrip() for line in out.splitlines()][:6]
    assert code == 0
    assert title == f"encoder ([red]v\\x1b, temperature)  line {LINE.key}"
    assert head.split() == ["version", "status", "created", "(UTC)", "loss", "false", "alarms", "recall"]
    assert first.split() == [A, "in", "use", "2026-01-03", "04:05", "-", "-", "-"]
    assert second.split() == [B, "refused", "2026-01-03", "04:05", "-", "3", "/", "2", "0.25", "/", "0.5"]
    assert out.endswith("its own number / that of the weights that were in use then\n")
    code, out, _ = typed("show", B)
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    for row in (
        ["digest", f"sha256:{TWO.digest}"],
        ["line", f"encoder ([red]v\\x1b, temperature)  ({LINE.key})"],
        ["status", "refused"],
        ["parent", ONE.digest],
        ["numbers.recall", "0.25"],
        ["reasons.1", "it finds too few"],
        ["window", "16"],
    ):
        assert row in [[part.rstrip() for part in line] for line in lines]


def test_a_shadow_is_shown(typed: Typed) -> None:
    """With what workers have counted of it so far; a promotion by hand ends its trial."""
    with open_registry(load()) as registry:
        registry.promote(LINE, registry.put(ONE, LINE), "better")
        registry.try_beside(LINE, registry.put(TWO, LINE, parent=ONE.digest))
        (shadow,) = registry.shadows().values()
    assert f"shadow {B}: no worker has scored a window with it yet" in typed("list")[1]
    with open_registry(load()) as registry:
        counts = {"windows": 1234, "sensors": 10, "challenger": 5, "champion": 3, "allowed": 2.5, "span_ms": 36_000_000}
        registry.tally(shadow, "a:1", Tally(trial=1, **counts))
    words = "1,234 windows of 10 sensors over 1 h, 5 alarms, the champion 3, the budget allows 2.5"
    _, out, _ = typed("list")
    assert f"shadow {B}: {words}" in out
    assert [line.split()[1] for line in out.splitlines() if line.strip().startswith((A, B))] == ["shadow", "in"]
    assert words in typed("show", B)[1]
    assert words not in typed("show", A)[1]
    objects = [json.loads(line) for line in typed("list", "--json")[1].splitlines()]
    assert [(one["status"], one.get("counted", {}).get("windows")) for one in objects] == [
        ("shadow", 1234),
        ("champion", None),
    ]
    with open_registry(load()) as registry:
        registry.tally(shadow, "b:1", Tally(trial=1, fault="\x1b[2J"))
    assert "cannot be run: \\x1b[2J" in typed("list")[1]
    assert typed("promote", B, "--yes")[0] == 0
    assert "shadow" not in typed("list")[1]


@pytest.mark.parametrize("place", ["directory"], indirect=True)
def test_json() -> None:
    """One object a version and line, and nothing else."""
    two_versions()
    done = subprocess.run([COMMAND, "models", "list", "--json"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    second, first = map(json.loads, done.stdout.splitlines())
    assert first["line"] == {"model": "encoder", "channels": list(LINE.channels), "key": LINE.key}
    assert (first["version"], first["status"], first["trained_on"]["readings"]) == (A, "champion", 12_345)
    assert (second["decision"], second["parent"]) == (DECISION, ONE.digest)


def test_what_is_wrong_is_said(typed: Typed, tmp_path: Path) -> None:
    """Exit code 2 and one sentence for each way to name what is not there."""
    two_versions()
    with open_registry(load()) as registry:
        registry.put(ONE, Line("pumps", ONE.channels))
    ONE.save(tmp_path / "one")
    for words, said in (
        (("show", "000000000000"), "no version begins with 000000000000"),
        (("show", A[:5]), "at least 6 of its digits"),
        (("promote", A, "--yes"), "is in 2 lines, say which: --line"),
        (
            ("promote", A, "--yes", "--line", "fans"),
            "there is no line 'fans' of trained weights: choose one of encoder",
        ),
        (("rollback", "--yes"), "which line? "),
        (("import", tmp_path / "nowhere"), "is not an artifact"),
        (("import", tmp_path / "one", "--name", "encoder"), "is the name of a model"),
        (("import", tmp_path / "one", "--name", "a/b"), "is not a name for weights"),
    ):
        code, out, err = typed(*words)
        assert (code, out, err.count("\n")) == (2, "", 1), words
        assert said in err
    code, out, _ = typed("promote", A, "--yes", "--line", "pumps")
    assert (code, out) == (0, f"pumps ([red]v\\x1b, temperature): the untrained or pretrained model -> {A}\n")


@pytest.mark.parametrize("place", ["directory"], indirect=True)
def test_a_person_is_asked() -> None:
    """On a terminal the change waits for a yes."""
    two_versions()
    for answer, code_of, said in ((b"n\n", A, "Nothing was changed."), (b"y\n", B, f"{A} -> {B}")):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([COMMAND, "models", "promote", B], stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.write(ours, answer)
        assert process.wait(60) == 0
        shown = os.read(ours, 10_000).decode()
        os.close(ours)
        assert f"{B} was refused by its validation. Let encoder" in shown
        assert said in shown
        with open_registry(load()) as registry:
            assert (registry.champion(LINE) or "")[:12] == code_of
