"""The simulator: fleets that repeat, faults that are where the labels say, files that say what memory holds."""

import csv
import gzip
import io
from dataclasses import replace

import numpy as np
import pytest

from stream_detector.errors import ConfigError, DataError, OutputError
from stream_detector.records import format_time, parse_time
from stream_detector.simulate import (
    FIELDS,
    INJECTORS,
    KINDS,
    MAGNITUDES,
    deviation,
    draw_magnitude,
    faults_path,
    read_faults,
    simulate,
    write_csv,
)

fields = pytest.mark.parametrize("field", FIELDS)
START, LENGTH = 200, 120


def waves(rows: int = 600) -> np.ndarray:
    """Two coupled noisy sines of period 40 rows, (rows, 2)."""
    rng = np.random.default_rng(5)
    sine = np.sin(2 * np.pi * np.arange(rows) / 40)
    return np.column_stack([sine, 3 * sine + 10]) + 0.05 * rng.standard_normal((rows, 2))


def inject(kind: str, values: np.ndarray, magnitude: float = 3.0, length: int = LENGTH) -> np.ndarray:
    """The first channel with one fault of this kind."""
    return INJECTORS[kind](values, START, length, [0], magnitude, np.random.default_rng(0))


def span_rows(fleet, fault) -> slice:
    """The rows of a fault's first to last reading."""
    series = next(s for s in fleet.series if s.sensor_id == fault.sensor_id)
    first, last = np.searchsorted(series.time_ms, [fault.start_ms, fault.end_ms])
    return slice(first, last + 1)


@fields
def test_same_seed_same_bytes(field, tmp_path):
    """The same arguments write the same bytes, plain and compressed; another seed writes others."""
    for name in ("a.csv", "b.csv", "a.csv.gz", "b.csv.gz"):
        write_csv(simulate(field, sensors=3, rows=500, seed=4), tmp_path / name)
    write_csv(simulate(field, sensors=3, rows=500, seed=5), tmp_path / "c.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert (tmp_path / "a.faults.json").read_bytes() == (tmp_path / "b.faults.json").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() != (tmp_path / "c.csv").read_bytes()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()


@fields
def test_more_sensors_leave_the_first_as_they_were(field):
    """A larger fleet begins with the smaller one, faults included."""
    small, large = simulate(field, sensors=3, rows=800, seed=1), simulate(field, sensors=8, rows=800, seed=1)
    for few, many in zip(small.series, large.series, strict=False):
        assert few.sensor_id == many.sensor_id
        np.testing.assert_array_equal(few.values, many.values)
        np.testing.assert_array_equal(few.label, many.label)
    assert large.faults[: len(small.faults)] == small.faults


@fields
def test_faults_change_nothing_outside_their_spans(field):
    """Against the same fleet without faults, only labelled rows and the named channels differ."""
    faulty, healthy = (simulate(field, sensors=6, seed=2, faults_per_sensor=n) for n in (2.0, 0.0))
    assert not healthy.faults
    assert not any(series.label.any() for series in healthy.series)
    for bad, good in zip(faulty.series, healthy.series, strict=True):
        allowed = np.zeros(bad.values.shape, dtype=bool)
        for fault in (f for f in faulty.faults if f.sensor_id == bad.sensor_id):
            named = [bad.channels.index(name) for name in fault.channels]
            allowed[span_rows(faulty, fault), named] = True
        differs = (bad.values != good.values) & ~(np.isnan(bad.values) & np.isnan(good.values))
        assert differs.any() == allowed.any()
        assert not (differs & ~allowed).any()
        np.testing.assert_array_equal(bad.label, allowed.any(axis=1))


@fields
def test_a_default_fleet_has_every_kind_that_applies(field):
    """Five sensors with two faults each show all kinds of the field, and about ten faults."""
    applicable = {kind for channel in FIELDS[field].channels for kind in channel.kinds}
    for seed in range(10):
        fleet = simulate(field, seed=seed)
        assert {fault.kind for fault in fleet.faults} == applicable
        assert 9 <= len(fleet.faults) <= 11


@fields
def test_values_keep_to_the_channels_limits(field):
    """No fault pushes a count below zero or an oxygen saturation above 100 %."""
    for series in simulate(field, sensors=10, seed=3, faults_per_sensor=3).series:
        for channel, column in zip(FIELDS[field].channels, series.values.T, strict=True):
            assert np.nanmin(column) >= channel.low
            assert np.nanmax(column) <= channel.high
            np.testing.assert_array_equal(column, np.round(column, channel.decimals))


def test_spike_leaves_the_range_by_its_magnitude():
    """A spike's first reading lies `magnitude` deviations beyond everything around it, on either side."""
    values = waves()
    around = np.delete(values[:, 0], range(START, START + 2))
    size = deviation(values[:, 0], START, 2)
    up, down = inject("spike", values, 3.0, length=2), inject("spike", values, -3.0, length=2)
    assert up[START, 0] == pytest.approx(around[:500].max() + 3 * size)
    assert down[START, 0] == pytest.approx(around[:500].min() - 3 * size)
    assert around.max() < up[START, 0] < around.max() + 3 * np.ptp(around)


def test_level_shift_and_drift_move_by_their_magnitude():
    """A level shift is a constant offset, a drift a straight ramp that ends at the magnitude."""
    values = waves()
    size = deviation(values[:, 0], START, LENGTH)
    rows = slice(START, START + LENGTH)
    shift = (inject("level_shift", values, -2.0) - values)[rows, 0]
    ramp = (inject("drift", values, 4.0) - values)[rows, 0]
    np.testing.assert_allclose(shift, -2 * size)
    np.testing.assert_allclose(ramp, np.arange(1, LENGTH + 1) / LENGTH * 4 * size)


def test_stuck_repeats_the_last_known_value():
    """A stuck channel holds what it said last, past missing values."""
    values = waves()
    values[START - 2 : START, 0] = np.nan
    held = inject("stuck", values)[START : START + LENGTH, 0]
    assert (held == values[START - 3, 0]).all()


def test_dropout_is_missing_values():
    """All of a dropout's readings are missing, no more."""
    assert np.isnan(inject("dropout", waves())).sum() == LENGTH


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_frequency_change_moves_the_spectrum_and_keeps_the_range(speed):
    """A period of 40 rows becomes one of 40 / speed; no value leaves the range."""
    values = waves()
    changed = inject("frequency_change", values, speed)[START : START + LENGTH, 0]
    assert values[:, 0].min() <= changed.min() < -0.8
    assert values[:, 0].max() >= changed.max() > 0.8
    spectrum = np.abs(np.fft.rfft(changed - changed.mean(), 2400))
    assert 2400 / np.argmax(spectrum) == pytest.approx(40 / speed, rel=0.15)


def test_correlation_break_keeps_the_values_and_loses_the_relation():
    """The span's values are the same numbers in another order that no longer follows the other channel."""
    values = waves()
    before, after = values[START : START + LENGTH], inject("correlation_break", values)[START : START + LENGTH]
    np.testing.assert_array_equal(np.sort(before[:, 0]), np.sort(after[:, 0]))
    assert np.corrcoef(before.T)[0, 1] > 0.95
    assert np.corrcoef(after.T)[0, 1] < 0.5
    assert np.abs(np.diff(after[:, 0])).mean() < 2 * np.abs(np.diff(before[:, 0])).mean()


def test_correlation_break_works_where_there_is_no_other_time():
    """A span as long as the whole window is turned round."""
    values = waves(100)
    changed = INJECTORS["correlation_break"](values, 0, 100, [0], 1.0, np.random.default_rng(0))
    assert (changed[:, 0] != values[:, 0]).any()
    np.testing.assert_array_equal(np.sort(values[:, 0]), np.sort(changed[:, 0]))


def test_magnitudes_stay_in_their_range_and_direction():
    """Drawn magnitudes follow the table; a direction fixes the sign; a speed is never 1 or negative."""
    rng = np.random.default_rng(0)
    for kind in KINDS:
        low, high = MAGNITUDES[kind]
        for direction in (-1, 0, 1):
            size = draw_magnitude(kind, rng, direction)
            if kind == "frequency_change":
                assert low <= max(size, 1 / size) <= high + 0.01
            else:
                assert low <= abs(size) <= high
    assert all(draw_magnitude("spike", rng, -1) < 0 for _ in range(20))


def test_plant_channels_follow_the_load_and_the_day():
    """Temperature, vibration and current rise together and follow a daily cycle; noise has memory."""
    for series in simulate("plant", rows=2016, faults_per_sensor=0).series:
        related = np.corrcoef(series.values.T)
        assert related[0, 2] > 0.5
        assert related[1, 2] > 0.5
        assert related[3, 2] < -0.3
        temperature = series.values[:, 0] - series.values[:, 0].mean()
        assert np.corrcoef(temperature[:-288], temperature[288:])[0, 1] > 0.3
        assert np.corrcoef(temperature[:-1], temperature[1:])[0, 1] > 0.95


def test_payments_have_zeros_and_a_daily_and_a_weekly_rhythm():
    """Nights are mostly silent, weekends differ from weekdays, an amount is there exactly when a payment is."""
    fleet = simulate("payments", sensors=6, rows=4 * 2016, faults_per_sensor=0)
    for series in fleet.series:
        transactions, amount, declined = series.values.T
        hour = series.time_ms // 3_600_000 % 24
        weekend = (series.time_ms // 86_400_000 + 3) % 7 >= 5
        day, night = transactions[(hour >= 11) & (hour < 14)], transactions[hour < 4]
        assert np.mean(night == 0) > 0.4
        assert day.mean() > 10 * night.mean()
        ratio = transactions[weekend].mean() / transactions[~weekend].mean()
        assert ratio < 0.8 or ratio > 1.25
        np.testing.assert_array_equal(transactions > 0, amount > 0)
        assert (declined <= transactions).all()
        assert day.var() > day.mean()


def test_patients_have_a_beating_heart():
    """The ECG's strongest rhythm is a resting heart rate, its peaks are far above its noise, pressure follows."""
    for series in simulate("patients", rows=3000, faults_per_sensor=0).series:
        ecg, _, pressure, spo2 = series.values.T
        frequency = np.fft.rfftfreq(len(pressure), 0.04)
        power = np.abs(np.fft.rfft(pressure - pressure.mean())) ** 2
        beats = frequency[np.argmax(power * (frequency > 0.6))]
        assert 55 < 60 * beats < 90
        peaks = np.flatnonzero((ecg[1:-1] > ecg[:-2]) & (ecg[1:-1] >= ecg[2:]) & (ecg[1:-1] > 0.5))
        assert len(peaks) == pytest.approx(beats * 120, abs=3 + 0.05 * beats * 120)
        assert 40 < pressure.min() < pressure.max() < 180
        assert 90 < spo2.min() <= spo2.max() <= 100


@fields
@pytest.mark.parametrize("name", ["fleet.csv", "fleet.csv.gz"])
def test_file_round_trip(field, name, tmp_path):
    """The file holds exactly the numbers, times, labels and faults of memory, in time order."""
    fleet = simulate(field, sensors=3, rows=700, seed=9)
    write_csv(fleet, tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    rows = list(csv.DictReader(io.StringIO((gzip.decompress(raw) if name.endswith("gz") else raw).decode())))
    assert list(rows[0]) == ["timestamp", "sensor_id", *fleet.series[0].channels, "label"]
    times = [row["timestamp"] for row in rows]
    assert [parse_time(t) for t in times] == sorted(parse_time(t) for t in times)
    for series in fleet.series:
        own = [row for row in rows if row["sensor_id"] == series.sensor_id]
        assert [row["timestamp"] for row in own] == [format_time(int(t)) for t in series.time_ms]
        values = [[float(row[c] or "nan") for c in series.channels] for row in own]
        np.testing.assert_array_equal(np.array(values), series.values)
        assert [row["label"] == "1" for row in own] == series.label.tolist()
    assert fleet.faults
    assert read_faults(tmp_path / "fleet.faults.json") == fleet.faults == read_faults(faults_path(tmp_path / name))


def test_series_of_different_times_interleave(tmp_path):
    """Rows are in time order over all sensors also when the sensors start at different times."""
    fleet = simulate(sensors=2, rows=100, faults_per_sensor=0)
    late = replace(fleet.series[1], time_ms=fleet.series[1].time_ms + 1500)
    write_csv(replace(fleet, series=[late, fleet.series[0]]), tmp_path / "late.csv")
    lines = (tmp_path / "late.csv").read_text().splitlines()
    assert [line.split(",")[0][11:] for line in lines[1:4]] == ["00:00:00Z", "00:00:01.500Z", "00:05:00Z"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"field": "boats"}, "plant, payments, patients"),
        ({"sensors": 0}, "at least 1"),
        ({"rows": 0}, "at least 1"),
        ({"seed": -1}, "seed"),
        ({"clean": 1.0}, "clean"),
        ({"clean": float("nan")}, "clean"),
        ({"faults_per_sensor": -1}, "faults per sensor"),
        ({"faults_per_sensor": float("nan")}, "faults per sensor"),
        ({"faults_per_sensor": 50, "rows": 400}, "at most 4 do"),
        ({"interval_ms": 0}, "interval"),
        ({"field": "patients", "interval_ms": 60_000}, "between 1 and 100 ms"),
        ({"start_ms": 10**15}, "earlier start"),
    ],
)
def test_bad_arguments_are_refused(wrong, says):
    """Arguments that cannot be used raise ConfigError and say which."""
    with pytest.raises(ConfigError, match=says):
        simulate(**wrong)


def test_a_file_that_cannot_be_written_says_so(tmp_path):
    """A missing folder raises OutputError with the path and what to do."""
    with pytest.raises(OutputError, match=r"nowhere.*choose a folder"):
        write_csv(simulate(rows=100, faults_per_sensor=0), tmp_path / "nowhere" / "fleet.csv")


def test_a_faults_file_that_cannot_be_read_says_so(tmp_path):
    """A missing or broken file of faults raises DataError with the path."""
    broken = tmp_path / "fleet.faults.json"
    with pytest.raises(DataError, match=r"fleet\.faults\.json"):
        read_faults(broken)
    broken.write_text('{"field": 3}')
    with pytest.raises(DataError, match="not a file of faults"):
        read_faults(broken)
