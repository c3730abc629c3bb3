"""The registry's records, names and its place in a directory; what both places share is in the integration tests."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from stream_detector.errors import ArtifactError, ConfigError, StoreError
from stream_detector.models.artifact import Artifact, TrainedOn, build
from stream_detector.settings import load
from stream_detector.streaming.registry import Line, LineRecord, Registry, check_name, directory
from stream_detector.streaming.registry.directory import DirectoryPlace
from stream_detector.streaming.registry.records import FORMAT, packed, unpacked

LINE = Line("moving-z", ("value",))


def artifact_of(window: int = 16) -> Artifact:
    """The smallest there is; another window, another digest."""
    trained_on = TrainedOn("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 1000, 1)
    return Artifact(build("moving-z", {"window": window, "channels": 1}), ("value",), {}, None, trained_on)


def test_a_line_is_the_same_everywhere() -> None:
    """The order of channels does not count; names that run together are kept apart."""
    assert Line("m", ("a", "b")) == Line("m", ("b", "a"))
    assert Line("m", ("a", "b")).key == "fa3b82995c0e91fe"
    keys = {Line(model, channels).key for model, channels in (("m", ("a", "b")), ("m", ("ab",)), ("ma", ("b",)))}
    assert len(keys) == 3
    assert str(Line("m", ("b", "a"))) == "m (a, b)"


@pytest.mark.parametrize("name", ["pumps", "7", "a.b-c_D", "x" * 100])
def test_names(name: str) -> None:
    """Letters, digits and three signs."""
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a b", "a/b", "ä", "a\n", "x" * 101, "encoder", "moving-z"])
def test_other_names_are_refused(name: str) -> None:
    """What could be a path, an option or a model."""
    with pytest.raises(ConfigError, match="name"):
        check_name(name)


def test_records_are_checked() -> None:
    """What was changed, cut off, or written by a newer program is refused in words."""
    data = packed(LineRecord(line=LINE))
    assert unpacked(data, "it") == LineRecord(line=LINE)
    for damaged in (b"", data[:-1], data.replace(b"moving-z", b"moving-y"), b"{}"):
        with pytest.raises(StoreError, match="it is damaged"):
            unpacked(damaged, "it")
    with pytest.raises(ConfigError, match="newer version"):
        unpacked(packed(LineRecord(line=LINE, format=FORMAT + 1)), "it")


def test_back_and_forth_does_not_grow(tmp_path: Path) -> None:
    """A version counts once among those that a rollback goes back to."""
    registry = Registry(DirectoryPlace(tmp_path))
    one, two = (registry.put(artifact_of(window), LINE) for window in (16, 17))
    for _ in range(5):
        registry.promote(LINE, one, "")
        registry.promote(LINE, two, "")
    assert registry.rollback(LINE) == one
    with pytest.raises(ArtifactError, match="nothing to go back to"):
        registry.rollback(LINE)


def test_what_is_not_the_registrys_stays(tmp_path: Path) -> None:
    """A directory with other things in it loses none of them."""
    thesis = tmp_path / "artifacts" / "thesis"
    thesis.mkdir(parents=True)
    registry = Registry(DirectoryPlace(tmp_path))
    registry.put(artifact_of(), LINE)
    assert thesis.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifacts", "lines", "lock"]


def test_places_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, a place below a file, an address, and a writer that never ends."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        DirectoryPlace(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be used"):
        Registry(DirectoryPlace(tmp_path / "file" / "below")).put(artifact_of(), LINE)
    monkeypatch.setenv("STREAM_DETECTOR_MODELS__REGISTRY", "redis://host")
    with pytest.raises(ConfigError, match="must be a directory"):
        load()
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.05)
    with (tmp_path / "lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        registry = Registry(DirectoryPlace(tmp_path))
        assert registry.lines() == []
        with pytest.raises(StoreError, match="see whether one hangs"):
            registry.put(artifact_of(), LINE)


@pytest.mark.parametrize("start", ["", "abcde", "xyzxyz", "*" * 6, "a" * 65])
def test_versions_are_named_by_digits(tmp_path: Path, start: str) -> None:
    """At least six, and nothing else."""
    with pytest.raises(ConfigError, match="at least 6"):
        Registry(DirectoryPlace(tmp_path)).find(start)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "abc", "A" * 64])
def test_a_digest_is_no_path(tmp_path: Path, digest: str) -> None:
    """What is no digest is refused before any place is asked."""
    with pytest.raises(ArtifactError, match="64 digits"):
        Registry(DirectoryPlace(tmp_path)).get(digest)
