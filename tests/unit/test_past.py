"""A scale walked back through the windows that it took in, and where a sensor is taken up again."""

from __future__ import annotations

import numpy as np
import pytest

from stream_detector.detect import buffers, scale
from stream_detector.detect.buffers import Buffers
from stream_detector.detect.state import SensorTable, State
from stream_detector.records import Floats, Readings
from stream_detector.streaming.past import MOST_FOLDS, Scale, Start, start, unfolded, walked_back

WINDOW = 20


def sent(count: int, seed: int = 0) -> Floats:
    """Values of two channels with outliers, shifts far beyond the band, missing values and a flat stretch."""
    rng = np.random.default_rng(seed)
    values = rng.normal([3.0, -200.0], [1.0, 40.0], size=(count, 2))
    values[rng.random((count, 2)) < 0.05] *= 20
    values[count // 3 : count // 3 + 15] += [30.0, 4000.0]
    values[count // 2 : count // 2 + 12] -= [90.0, 9000.0]
    values[rng.random((count, 2)) < 0.03] = np.nan
    values[-70:-45, 0] = 3.5
    return values


def readings(values: Floats) -> Readings:
    """Values of one sensor, a second apart."""
    zeros = np.zeros(len(values), np.int64)
    return Readings(zeros, 1_000 * np.arange(len(values)), values)


def row(some: Readings, seed_scale: Scale | None = None) -> State:
    """A sensor's row after these readings."""
    table = SensorTable(buffers.fields(WINDOW, some.values.shape[1]))
    table.rows(["it"])
    if seed_scale is not None:
        table.state["center"], table.state["spread"] = seed_scale.center, seed_scale.spread
        table.state["folds"] = seed_scale.folds
    into = Buffers(table, WINDOW, 1)
    for begin in range(0, len(some), 100):
        into.append(some[begin : begin + 100])
    found: State = table.state[0]
    return found


@pytest.mark.parametrize("folds", [1, 2, 5, 31, 32])
def test_a_fold_is_taken_back(folds: int) -> None:
    """Whatever was cut off at either end, and however little weighed what came before."""
    rng = np.random.default_rng(folds)
    for _ in range(60):
        center, spread = rng.normal(scale=50, size=4), rng.gamma(1.0, 5.0, size=4)
        window = rng.normal(center, spread + 0.1, size=(WINDOW, 4)) + np.where(
            rng.random((WINDOW, 4)) < rng.choice([0, 0.1, 0.6, 0.9]), rng.normal(scale=400, size=4), 0
        )
        before = Scale(center, spread, np.full(4, folds, np.float32))
        after = Scale(*(one[0] for one in scale.fold(window[None], center[None], spread[None], before.folds[None])))
        found = unfolded(window, after)
        assert found is not None
        assert found.near(before)


def test_the_first_fold_cannot_be_taken_back() -> None:
    """There was no scale before it."""
    window = sent(WINDOW)
    none = np.zeros((1, 2))
    after = Scale(*(one[0] for one in scale.fold(window[None], none, none, none.astype(np.float32))))
    assert unfolded(window, after) is None


def test_a_channel_without_values_stays() -> None:
    """A window that holds nothing of a channel has changed nothing of it."""
    window = np.column_stack([np.full(WINDOW, np.nan), sent(WINDOW)[:, 1]])
    before = Scale(np.array([1.0, -200.0]), np.array([2.0, 40.0]), np.array([0, 7], np.float32))
    columns = (before.center[None], before.spread[None], before.folds[None])
    after = Scale(*(one[0] for one in scale.fold(window[None], *columns)))
    found = walked_back([window], after, None)
    assert found is not None
    assert found.near(before)
    assert found.folds.tolist() == [0, 7]


def test_all_is_there() -> None:
    """Where the first reading is retained the sensor is simply taken up from it."""
    some = readings(sent(700))
    assert start(some, 500, WINDOW, row(some), "") == Start(0, WINDOW, None, "whole")


@pytest.mark.parametrize("lost", [1, 19, 20, 137, 400])
@pytest.mark.parametrize("count", [700, 2000])
def test_the_beginning_is_gone(lost: int, count: int) -> None:
    """The scale at the first window that is retained, and how many readings there had been."""
    some = readings(sent(count))
    found = start(some[lost:], count - lost - 50, WINDOW, row(some), "")
    assert (found.first, found.seen, found.basis) == (0, lost + WINDOW, "state")
    then = row(some[: lost + WINDOW])
    assert found.scale is not None
    assert found.scale.near(Scale(then["center"], then["spread"], then["folds"]))


def test_training_knew_the_sensor() -> None:
    """A sensor that began on a scale from training is not taken for one that began on none."""
    some = readings(sent(700))
    known = Scale(np.array([3.0, -190.0]), np.array([1.0, 38.0]), np.full(2, scale.MEMORY, np.float32))
    found = start(some, 500, WINDOW, row(some, known), "")
    then = row(some[:WINDOW], known)
    assert (found.seen, found.basis) == (WINDOW, "state")
    assert found.scale is not None
    assert found.scale.near(Scale(then["center"], then["spread"], then["folds"]))
    # Without the first readings nothing tells whether it did: both are offered.
    late, then = start(some[5:], 500, WINDOW, row(some, known), ""), row(some[: 5 + WINDOW], known)
    assert late.other is not None
    assert late.other.near(Scale(then["center"], then["spread"], then["folds"]))


def test_the_state_began_later() -> None:
    """A state that was lost and built anew has not seen the first of what is retained."""
    some = readings(sent(700))
    assert start(some, 500, WINDOW, row(some[123:]), "") == Start(123, WINDOW, None, "whole")


def test_why_it_is_estimated() -> None:
    """Without a state, with one of other readings, and too long ago, it is said."""
    some = readings(sent(700))
    assert start(some, 500, WINDOW, None, "no reason").why == "no reason"
    assert start(some[:-1], 500, WINDOW, row(some), "").why == "its state holds other readings than its topic"
    many = readings(sent((MOST_FOLDS + 20) * WINDOW))
    assert "more than 600 windows" in start(many[5:], 100, WINDOW, row(many), "").why
    late = start(many[5:], 18 * WINDOW + 400, WINDOW, row(many), "")
    then = row(many[: 5 + late.first + WINDOW])
    assert (late.basis, late.seen) == ("state", 5 + late.first + WINDOW)
    assert late.scale is not None
    assert np.allclose(late.scale.center, then["center"], rtol=1e-6)
