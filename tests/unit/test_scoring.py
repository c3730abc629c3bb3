"""Scoring: batches, missing values, rounding, and independence of a window from its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_detector.detect.due import Due
from stream_detector.detect.scoring import BUCKET, Scorer, fill_missing, round_bits
from stream_detector.detect.windows import Windows
from stream_detector.errors import ConfigError
from stream_detector.models.encoder import Encoder, EncoderConfig
from stream_detector.models.interface import Scores


def due_of(windows: np.ndarray, steps: int = 1) -> Due:
    """Windows (B, W, C) on a scale of centre 0 and spread 1."""
    B, _, C = windows.shape
    zeros = np.zeros(B, np.int64)
    return Due(
        sensor=np.arange(B),
        held=Windows.of(windows),
        time_ms=np.zeros((B, steps), np.int64),
        start_ms=zeros,
        center=np.zeros((B, C)),
        spread=np.ones((B, C)),
        interval_ms=np.ones(B),
        settling=np.zeros((B, steps), np.bool_),
        turn=zeros,
        reading=np.arange(B),
    )


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """An untrained encoder: what is tested here does not depend on the weights."""
    torch.manual_seed(0)
    return Encoder(EncoderConfig(window=32, channels=2)).eval()


@pytest.mark.parametrize("count", [1, BUCKET - 1, BUCKET, BUCKET + 1, 3 * BUCKET])
def test_a_score_is_the_same_alone_and_among_others(encoder: Encoder, count: int) -> None:
    """Bit for bit: the other windows of the batch, and a window's place in it, change nothing."""
    windows = np.random.default_rng(count).normal(size=(count, 32, 2))
    scorer = Scorer(encoder, torch.device("cpu"))
    together = scorer.score(due_of(windows))
    shuffled = np.random.default_rng(1).permutation(count)
    for got, chosen in (
        (scorer.score(due_of(windows[shuffled])), shuffled),
        (scorer.score(due_of(windows[-1:])), [-1]),
    ):
        assert got.score.tolist() == together.score[chosen].tolist()
        assert got.expected.tolist() == together.expected[chosen].tolist()
        assert got.contribution.tolist() == together.contribution[chosen].tolist()


def test_scores_use_no_later_step(encoder: Encoder) -> None:
    """With several fresh steps in a window, later values do not change the scores and expectations before them."""
    windows = np.random.default_rng(0).normal(size=(5, 32, 2))
    changed = windows.copy()
    changed[:, -3:] += 10
    scorer = Scorer(encoder, torch.device("cpu"))
    one, other = scorer.score(due_of(windows, 8)), scorer.score(due_of(changed, 8))
    np.testing.assert_array_equal(one.score[:, :5], other.score[:, :5])
    np.testing.assert_array_equal(one.expected[:, :6], other.expected[:, :6])
    assert (one.score[:, 5:] != other.score[:, 5:]).all()


def test_missing_values_are_filled_from_the_past() -> None:
    """A hole takes the last value before it, never one after it; without one, the centre."""
    nan = np.nan
    windows = np.array([[[nan, 1], [2, nan], [nan, nan], [4, 5]]], np.float32)
    assert fill_missing(windows)[0].tolist() == [[0, 1], [2, 1], [2, 1], [4, 5]]


def test_a_reading_without_any_value_has_no_score(encoder: Encoder) -> None:
    """All channels missing: NaN; one missing: a score."""
    windows = np.random.default_rng(0).normal(size=(2, 32, 2))
    windows[0, -1] = np.nan
    windows[1, -1, 0] = np.nan
    score = Scorer(encoder, torch.device("cpu")).score(due_of(windows)).score
    assert np.isnan(score[0, 0])
    assert np.isfinite(score[1, 0])


@pytest.mark.parametrize("value", [np.nan, 1e300, -1e300, 0.0])
def test_broken_windows_give_finite_scores(encoder: Encoder, value: float) -> None:
    """Constant, huge or empty windows: a finite score as long as the newest reading has a value."""
    windows = np.full((1, 32, 2), value)
    windows[:, -1] = 0.0 if np.isnan(value) else value
    assert np.isfinite(Scorer(encoder, torch.device("cpu")).score(due_of(windows)).score).all()


def test_rounding_keeps_five_digits_and_tames_overflow() -> None:
    """Scores keep about five digits; what overflowed becomes the largest score, not NaN."""
    score = np.array([[1.2345678, 0.0, 3e-20, np.nan, np.inf]], np.float32)
    rounded = round_bits(score)[0]
    assert rounded[:3] == pytest.approx([1.2345678, 0.0, 3e-20], rel=2**-17)
    assert (rounded[0] * 2**17).is_integer()
    assert np.isfinite(rounded).all()
    assert rounded[3] == rounded[4] > 1e38


class Crowded(Encoder):
    """An encoder on a device whose memory holds a few windows only; calls: windows of each call that it took."""

    def __init__(self, most: int) -> None:
        torch.manual_seed(0)
        super().__init__(EncoderConfig(window=32, channels=2))
        self.most, self.calls = most, list[int]()
        self.train(False)

    def score(self, windows: torch.Tensor, steps: int) -> Scores:
        """As a device does it."""
        if len(windows) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        self.calls.append(len(windows))
        return super().score(windows, steps)


def test_a_full_memory_halves_the_calls_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """All windows are scored, as before but for rounding; that is said once, and stays so."""
    windows = np.random.default_rng(0).normal(size=(100, 32, 2))
    crowded = Crowded(20)
    scorer = Scorer(crowded, torch.device("cpu"))
    found = scorer.score(due_of(windows))
    expected = Scorer(Crowded(BUCKET), torch.device("cpu")).score(due_of(windows))
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-4)
    np.testing.assert_allclose(found.expected, expected.expected, rtol=1e-3, atol=1e-4)
    scorer.score(due_of(windows))
    assert crowded.calls == [16] * 14
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "going on with 32 a call",
        "going on with 16 a call",
    ]


def test_a_memory_for_no_window_at_all_is_said() -> None:
    """In words that say what to do, once nothing is left to halve."""
    with pytest.raises(ConfigError, match=r"does not hold the model encoder and one window of 32 readings.*'cpu'"):
        Scorer(Crowded(0), torch.device("cpu")).score(due_of(np.zeros((3, 32, 2))))


def test_less_precision_gives_coarser_scores_of_the_same_size(encoder: Encoder) -> None:
    """bfloat16 has three digits."""
    windows = np.random.default_rng(0).normal(size=(10, 32, 2))
    fine = Scorer(encoder, torch.device("cpu")).score(due_of(windows)).score
    coarse = Scorer(encoder, torch.device("cpu"), precision="bfloat16").score(due_of(windows)).score
    assert (coarse != fine).any()
    np.testing.assert_allclose(coarse, fine, rtol=0.05)
