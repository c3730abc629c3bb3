"""The house keeps its shape: imports point one way, and only the edge knows brokers and stores."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import stream_detector

PACKAGE = Path(stream_detector.__file__).parent
FLOORS = [
    {"cli"},
    {"console", "benchmark"},
    {"streaming", "training", "evaluation", "local"},
    {"detect"},
    {"models", "simulate"},
    {"records", "packed", "settings", "schemas", "errors", "directories", ""},
]
"""From the top down: a room may import rooms of its own floor and of lower ones."""
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
EDGE_ONLY = {"kafka", "redis", "socket", "asyncio", "threading"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(parts: tuple[str, ...]) -> str:
    """The room that a path below the package, or a dotted name split at its dots, belongs to."""
    return parts[0].removesuffix(".py").removesuffix("__init__") if parts else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    """No file imports from a floor above its own."""
    mine = FLOOR_OF[room(path.relative_to(PACKAGE).parts)]
    for name in imported(path):
        first, *rest = name.split(".")
        if first == "stream_detector":
            target = room(tuple(rest))
            assert FLOOR_OF.get(target, mine) >= mine, f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_edge_knows_the_network(path: Path) -> None:
    """Brokers, stores, sockets and threads are for `streaming`, `local` and what measures them; pages have threads."""
    here = room(path.relative_to(PACKAGE).parts)
    if here not in {"streaming", "local", "cli", "benchmark"}:
        barred = EDGE_ONLY - ({"asyncio", "threading"} if here == "console" else set())
        assert not {name.split(".")[0] for name in imported(path)} & barred


def test_only_pages_know_the_library_of_pages() -> None:
    """What is shown is computed without it, and the rest of the house works where it is not installed."""
    pages = {"app.py", "frame.py", "plot.py", "overview.py", "sensor.py", "incident.py"}
    for path in FILES:
        known = {name.split(".")[0] for name in imported(path)} & {"nicegui", "fastapi", "uvicorn"}
        assert not known or (room(path.relative_to(PACKAGE).parts) == "console" and path.name in pages), path


def test_the_core_knows_no_clock_and_no_files() -> None:
    """`detect` and `models` compute: no time, no randomness from outside, no open files but the artifact's."""
    for path in (PACKAGE / "detect").rglob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {
            "time",
            "pathlib",
            "os",
            "random",
            "io",
        }, path


def test_pickle_is_never_loaded() -> None:
    """Weights are safetensors: nothing imports pickle or calls torch.load."""
    for path in FILES:
        assert not {name.split(".")[0] for name in imported(path)} & {"pickle", "joblib", "dill"}, path
        assert not re.search(r"(?<!safetensors\.)torch\.load\(", path.read_text(encoding="utf-8")), path
