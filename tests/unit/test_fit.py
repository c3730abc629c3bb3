"""Fitting goes on where it was cut off, and stops when held-out windows no longer gain by it."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stream_detector.models.artifact import build
from stream_detector.models.interface import Model
from stream_detector.training.checkpoint import Checkpoint
from stream_detector.training.fit import FitOptions, Progress, fit, mean_loss

OPTIONS = FitOptions(steps=40, epochs=40, batch=16, rate=1e-2, patience=3, check_every=5)
SHAPE = {"window": 12, "channels": 1, "width": 8, "layers": 1, "feedforward": 8}


class CutOffError(Exception):
    """The power is gone."""


def model() -> Model:
    """Fresh weights, always the same."""
    torch.manual_seed(0)
    return build("encoder", SHAPE)


def windows(seed: int) -> Tensor:
    """Waves with noise."""
    chance = torch.Generator().manual_seed(seed)
    phase = torch.rand(64, 1, 1, generator=chance) * 6
    return torch.sin(torch.arange(12)[None, :, None] / 2 + phase) + torch.randn(64, 12, 1, generator=chance) / 5


def cut_off_at(step: int) -> Progress:
    """Progress that ends the fitting at a step."""

    def progress(done: int, total: int, loss: float) -> None:
        if done == step:
            raise CutOffError

    return progress


@pytest.mark.parametrize("patience", [0, 3])
def test_what_was_cut_off_comes_out_the_same(tmp_path: Path, patience: int) -> None:
    """Weights equal bit for bit those of a fitting that nobody disturbed, and no step is done twice."""
    options = replace(OPTIONS, patience=patience)
    whole, resumed = model(), model()
    fit(whole, windows(1), options, lambda *_: None, windows(2))
    kept = Checkpoint(tmp_path / "deep" / "kept.safetensors", "this")
    for cut in (17, 29):
        with pytest.raises(CutOffError):
            fit(model(), windows(1), options, cut_off_at(cut), windows(2), kept)
    steps: list[int] = []
    torch.manual_seed(99)
    fit(resumed, windows(1), options, lambda done, total, loss: steps.append(done), windows(2), kept)
    assert steps[0] == 26
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    kept.clear()
    assert kept.load() is None


def test_it_stops_when_nothing_is_gained() -> None:
    """Weights that are good already are not made worse: the best of all looks are taken, the first one included."""
    good = model()
    fit(good, windows(1), replace(OPTIONS, steps=300, epochs=300, patience=0), lambda *_: None)
    before, steps = mean_loss(good, windows(2)), []
    fit(good, windows(1), replace(OPTIONS, steps=200, epochs=200, rate=0.3), lambda *s: steps.append(s), windows(2))
    assert mean_loss(good, windows(2)) <= before
    assert len(steps) < 200


def test_the_loss_by_window_is_the_loss() -> None:
    """Averaged over the windows."""
    made = model()
    assert torch.allclose(made.losses(windows(1)).mean(), made.loss(windows(1), 1))  # type: ignore[attr-defined]


def test_faults_that_nobody_has_found_are_not_learned() -> None:
    """With a trim, sawteeth in every twelfth window change little; without, they are learned."""
    faulty = windows(1)
    faulty[::12] = 4 * ((torch.arange(12) % 3) - 1.0)[None, :, None]
    found = {}
    for trim in (0.0, 0.1):
        made = model()
        options = replace(OPTIONS, steps=300, epochs=300, patience=0, trim=trim)
        fit(made, faulty, options, lambda *_: None)
        found[trim] = mean_loss(made, faulty[::12]), mean_loss(made, windows(2))
    assert found[0.1][0] > 1.5 * found[0.0][0], "the faults are foretold as well as without a trim"
    assert found[0.1][1] < found[0.0][1], "normal windows are foretold no better"


def test_the_best_weights_outlive_a_crash(tmp_path: Path) -> None:
    """A fitting that has made things worse before it was cut off still gives the best weights of all."""
    options = replace(OPTIONS, rate=0.3)
    good, resumed = model(), model()
    fit(good, windows(1), replace(OPTIONS, patience=0), lambda *_: None)
    kept = Checkpoint(tmp_path / "kept.safetensors", "this")
    with pytest.raises(CutOffError):
        cut = model()
        cut.load_state_dict(good.state_dict())
        fit(cut, windows(1), options, cut_off_at(12), windows(2), kept)
    steps: list[int] = []
    fit(resumed, windows(1), options, lambda done, total, loss: steps.append(done), windows(2), kept)
    assert steps == list(range(11, 16)), "two looks were in vain before, and the third one after"
    assert all(torch.equal(tensor, good.state_dict()[name]) for name, tensor in resumed.state_dict().items())


def test_another_training_is_not_taken_up(tmp_path: Path) -> None:
    """By its key, by the number of steps, and when it was left alone for too long."""
    path = tmp_path / "kept.safetensors"
    with pytest.raises(CutOffError):
        fit(model(), windows(1), OPTIONS, cut_off_at(20), None, Checkpoint(path, "this"))
    assert Checkpoint(path, "this").load() is not None
    assert Checkpoint(path, "other").load() is None
    steps: list[int] = []
    fit(
        model(),
        windows(1),
        replace(OPTIONS, steps=30),
        lambda done, total, loss: steps.append(done),
        None,
        Checkpoint(path, "this"),
    )
    assert steps[0] == 1
    os.utime(path, (1, 1))
    assert Checkpoint(path, "this").load() is None


def test_a_damaged_checkpoint_costs_the_resumption_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and the fitting starts over."""
    path = tmp_path / "kept.safetensors"
    path.write_bytes(b"not what it should be")
    steps: list[int] = []
    fit(model(), windows(1), OPTIONS, lambda done, total, loss: steps.append(done), None, Checkpoint(path, "this"))
    assert steps[0] == 1
    assert "starts over" in caplog.text


def test_a_full_disk_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the fitting goes on without a checkpoint."""

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    steps: list[int] = []
    fit(
        model(),
        windows(1),
        OPTIONS,
        lambda done, total, loss: steps.append(done),
        None,
        Checkpoint(tmp_path / "kept.safetensors", "this"),
    )
    assert steps[-1] == 40
    assert caplog.text.count("No space left on device") == 1


def test_what_fits_worst_is_not_remembered_where_nobody_vouches() -> None:
    """With `trim`, a memory is made of the other windows; without it, of all."""
    chance = torch.Generator().manual_seed(0)
    windows = 0.1 * torch.randn(200, 32, 1, generator=chance)
    windows[::20, 16:] += 10 * torch.randn(10, 16, 1, generator=chance)
    largest = {}
    for trim in (0.0, 0.1):
        model = build("multiscale", {"window": 32, "channels": 1})
        fit(model, windows, FitOptions(steps=1, trim=trim), lambda *_: None)
        largest[trim] = float(model.state_dict()["memory.known"].abs().max())
    assert largest[0.0] > 5
    assert largest[0.1] < 1
