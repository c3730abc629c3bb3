"""What holds for every fault in every array, and for every fleet."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stream_detector.simulate import FIELDS, INJECTORS, KINDS, deviation, draw_magnitude, simulate

numbers = st.floats(-1e6, 1e6, allow_subnormal=False) | st.just(float("nan"))


@st.composite
def injections(draw):
    """An array with missing values, a span in it, some of its channels and a kind with a magnitude."""
    rows, channels = draw(st.integers(1, 60)), draw(st.integers(1, 4))
    values = draw(arrays.arrays(np.float64, (rows, channels), elements=numbers))
    start = draw(st.integers(0, rows - 1))
    length = draw(st.integers(1, rows - start))
    chosen = draw(st.lists(st.integers(0, channels - 1), min_size=1, unique=True))
    kind, seed = draw(st.sampled_from(KINDS)), draw(st.integers(0, 1000))
    return kind, values, start, length, chosen, seed


@given(injections())
def test_an_injector_changes_its_span_and_channels_and_nothing_else(case):
    """Whatever the array: the input stays, the rest stays, shape and type stay, the same chance does the same."""
    kind, values, start, length, chosen, seed = case
    before = values.copy()
    magnitude = draw_magnitude(kind, np.random.default_rng(seed))
    once, twice = (
        INJECTORS[kind](values, start, length, chosen, magnitude, np.random.default_rng(seed)) for _ in range(2)
    )
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(once, twice)
    assert once.shape == values.shape
    assert once.dtype == np.float64
    untouched = np.ones(values.shape, dtype=bool)
    untouched[start : start + length, chosen] = False
    np.testing.assert_array_equal(once[untouched], values[untouched])
    assert not np.isinf(once).any()


@given(injections())
def test_kinds_without_size_bring_no_new_values(case):
    """A broken correlation or another frequency stays in the channel's range; stuck is one number."""
    _, values, start, length, chosen, seed = case
    rng, span = np.random.default_rng(seed), slice(start, start + length)
    for c in chosen:
        known = values[np.isfinite(values[:, c]), c]
        if len(known) == 0:
            continue
        swapped = INJECTORS["correlation_break"](values, start, length, [c], 1.0, rng)[span, c]
        np.testing.assert_array_equal(np.sort(swapped), np.sort(values[span, c]))
        faster = INJECTORS["frequency_change"](values, start, length, [c], 2.0, rng)[:, c]
        assert known.min() <= np.nanmin(faster, initial=np.inf)
        assert known.max() >= np.nanmax(faster, initial=-np.inf)
        assert len(set(INJECTORS["stuck"](values, start, length, [c], 1.0, rng)[span, c])) == 1


@given(injections())
def test_a_deviation_is_a_positive_number(case):
    """Constant, missing or wild: a channel always has a deviation to measure faults in."""
    _, values, start, length, chosen, _ = case
    size = deviation(values[:, chosen[0]], start, length)
    assert 0 < size < np.inf


@settings(max_examples=60, deadline=None)
@given(
    field=st.sampled_from(sorted(FIELDS)),
    sensors=st.integers(1, 5),
    rows=st.integers(1, 900),
    seed=st.integers(0, 2**64),
    clean=st.floats(0, 0.99),
    share=st.floats(0, 1),
)
def test_faults_are_apart_labelled_and_never_in_the_clean_part(field, sensors, rows, seed, clean, share):
    """In every fleet: the clean part is clean, faults keep their distance, labels are exactly their spans."""
    first = int(np.ceil(clean * rows))
    fleet = simulate(field, sensors, rows, seed, faults_per_sensor=share * ((rows - first) // 70), clean=clean)
    for series in fleet.series:
        assert not series.label[:first].any()
        expected, last_ms = np.zeros(rows, dtype=bool), -np.inf
        for fault in (f for f in fleet.faults if f.sensor_id == series.sensor_id):
            assert fault.start_ms - last_ms > 60 * fleet.interval_ms
            expected |= (series.time_ms >= fault.start_ms) & (series.time_ms <= fault.end_ms)
            assert set(fault.channels) <= set(series.channels)
            last_ms = fault.end_ms
        np.testing.assert_array_equal(series.label, expected)
        assert not np.isnan(series.values[~series.label]).any()
