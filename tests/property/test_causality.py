"""What every model must hold: no later value, no other window and no call before changes a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.models import MODELS
from stream_detector.models.artifact import Artifact, TrainedOn, build
from stream_detector.models.interface import Model, Scores
from stream_detector.records import Readings
from stream_detector.settings import Budget

WINDOW, CHANNELS, STEPS = 32, 3, 4
FITTED: dict[str, Model] = {}
NAMES = [name for name in MODELS if not name.endswith("-paper")]
"""Models of published size differ from the small ones in their numbers alone, and take minutes here."""
TOLERANCE: dict[str, Any] = {"rtol": 2e-4, "atol": 2e-4}


def fitted(name: str) -> Model:
    """A model of this name that has taken from noise what it computes rather than learns; made once."""
    if name not in FITTED:
        torch.manual_seed(0)
        model = build(name, {"window": WINDOW, "channels": CHANNELS})
        noise = torch.randn(400, WINDOW, CHANNELS).cumsum(dim=1) * 0.3
        with torch.no_grad():
            model.prepare(noise)
            model.calibrate(noise[:100])
        model.train(False)
        FITTED[name] = model
    return FITTED[name]


def score(model: Model, windows: torch.Tensor, steps: int = STEPS) -> Scores:
    """As production calls it."""
    with torch.inference_mode():
        return model.score(windows, steps)


def same(one: Scores, other: Scores, rows: Any = slice(None), steps: Any = slice(None)) -> None:
    """All five outputs agree, `one` on its rows and steps with the whole of `other`'s steps."""
    for name in ("score", "expected", "lower", "upper", "contribution"):
        got, wanted = getattr(one, name)[rows][:, steps], getattr(other, name)[:, steps]
        torch.testing.assert_close(got, wanted, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


windows_of = st.builds(
    lambda seed, size, kind: _windows(seed, size, kind),
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.sampled_from(["noise", "walk", "flat", "wave", "extreme"]),
)


def _windows(seed: int, size: int, kind: str) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, WINDOW, CHANNELS, generator=chance)
    if kind == "walk":
        return noise.cumsum(dim=1).clamp(-20, 20)
    if kind == "flat":
        return noise[:, :1].expand(-1, WINDOW, -1).clone()
    if kind == "wave":
        return torch.sin(torch.arange(WINDOW)[:, None] * (0.2 + noise[:, :1].abs())) + 0.1 * noise
    return noise if kind == "noise" else (noise * 100).clamp(-20, 20)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(windows=windows_of, later=st.integers(1, STEPS - 1))
def test_later_values_change_no_earlier_score(name: str, windows: torch.Tensor, later: int) -> None:
    """Of several fresh steps in a window, a step's score and expectation stay when the steps behind it change."""
    changed = windows.clone()
    changed[:, -later:] = -changed[:, -later:] + 5
    model = fitted(name)
    same(score(model, windows), score(model, changed), steps=slice(None, STEPS - later))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(windows=windows_of)
def test_other_windows_change_no_score(name: str, windows: torch.Tensor) -> None:
    """Alone and among 255 others a window has the same scores, to float tolerance."""
    others = torch.randn(256 - len(windows), WINDOW, CHANNELS, generator=torch.Generator().manual_seed(1)) * 5
    model = fitted(name)
    same(score(model, torch.cat([others, windows])), score(model, windows), rows=slice(len(others), None))
    same(score(model, windows), score(model, windows[:1]), rows=slice(0, 1))


@pytest.mark.parametrize("name", NAMES)
def test_scoring_changes_nothing(name: str) -> None:
    """The same call gives the same bits again, and neither the model nor torch's chance has moved."""
    model, windows = fitted(name), _windows(3, 8, "walk")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    chance, given = torch.get_rng_state(), windows.clone()
    first = score(model, windows)
    score(model, _windows(4, 8, "extreme"))
    assert torch.equal(score(model, windows).score, first.score)
    assert torch.equal(windows, given)
    assert torch.equal(torch.get_rng_state(), chance)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(windows=windows_of, steps=st.integers(1, STEPS))
def test_scores_are_numbers(name: str, windows: torch.Tensor, steps: int) -> None:
    """Finite, at least 0, of the promised shapes, with the expectation inside its band."""
    found = score(fitted(name), windows, steps)
    assert found.score.shape == (len(windows), steps)
    assert found.expected.shape == found.contribution.shape == (len(windows), steps, CHANNELS)
    for values in (found.score, found.contribution):
        assert torch.isfinite(values).all()
        assert (values >= 0).all()
    assert (found.lower <= found.expected).all()
    assert (found.expected <= found.upper).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_scores_a_prefix_as_it_scores_the_whole(name: str) -> None:
    """Through buffers, scale and batches: what comes later, and when, changes no score. Bit for bit."""
    rng = np.random.default_rng(5)
    values = np.sin(np.arange(300) / 7)[:, None] + 0.2 * rng.normal(size=(300, CHANNELS))
    values[150:160] += 4
    changed = values.copy()
    changed[200:] = rng.normal(size=(100, CHANNELS)) * 50
    whole = _scores(name, values, [300])
    assert whole[:200].tolist() == _scores(name, values[:200], [77, 200]).tolist()
    assert whole[:200].tolist() == _scores(name, changed, [300])[:200].tolist()


def _scores(name: str, values: np.ndarray, stops: list[int]) -> np.ndarray:
    """Scores by reading of one sensor, -1 where there is none, fed in batches that end at these readings."""
    nothing = TrainedOn("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", 0, 0)
    channels = tuple(f"c{i}" for i in range(CHANNELS))
    detector = Detector(
        Artifact(fitted(name), channels, {}, None, nothing), DetectorOptions(Budget.parse("1 per 100 readings"))
    )
    row, found, start = detector.sensors(["a"])[0], np.full(len(values), -1.0), 0
    for stop in stops:
        time_ms = np.arange(start, stop) * 1000
        detector.step(Readings(np.full(stop - start, row), time_ms, values[start:stop]))
        evidence = detector.evidence
        assert evidence is not None
        found[evidence.due.time_ms[:, -1] // 1000] = evidence.scored.score[:, -1]
        start = stop
    return found
