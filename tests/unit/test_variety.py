"""Signals of every kind: finite, alike for a seed, unlike otherwise, and what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.simulate import variety

ROWS = 2000


@pytest.mark.parametrize("kind", variety.KINDS)
def test_signals_vary_and_are_alike_for_a_seed(kind: str) -> None:
    """So many values, all finite, none constant."""
    drawn = [variety.signal(kind, np.random.default_rng(seed), ROWS) for seed in (*range(20), 0)]
    assert all(values.shape == (ROWS,) and np.isfinite(values).all() for values in drawn)
    assert all(0.5 < values.std() < 2 for values in drawn)
    assert (drawn[0] == drawn[-1]).all()
    assert len({values.tobytes() for values in drawn}) == 20


def test_a_counter_only_counts_up_until_it_is_full() -> None:
    """It falls seldom, and then almost all the way."""
    for seed in range(10):
        values = variety.counter(np.random.default_rng(seed), ROWS)
        falls = np.diff(values)[np.diff(values) < 0]
        assert len(falls) < ROWS / 10
        assert (falls < -0.5 * values.max()).all()


def test_regimes_are_held() -> None:
    """Most values are those before them."""
    for seed in range(10):
        values = variety.regimes(np.random.default_rng(seed), ROWS)
        assert np.mean(np.abs(np.diff(values)) < 1e-9) > 0.6


def test_switching_is_on_or_off() -> None:
    """Nothing else."""
    assert set(variety.switching(np.random.default_rng(0), ROWS)) == {0.0, 1.0}
