"""The whole detector: alerts and state depend on the readings, not on how they came in batches."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.detect.thresholds import calibrate
from stream_detector.models.artifact import Artifact, TrainedOn, build
from stream_detector.records import Readings, encode
from stream_detector.settings import Budget

SENSORS, STEPS = 3, 300


def artifact() -> Artifact:
    """A tiny encoder with random weights: its scores are poor, but scores."""
    torch.manual_seed(0)
    model = build("encoder", {"window": 16, "channels": 2, "width": 8, "feedforward": 8, "layers": 1})
    model.train(False)
    trained_on = TrainedOn("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0, 0)
    scores = np.exp(0.1 * np.random.default_rng(0).normal(size=2000))
    return Artifact(model, ("a", "b"), {}, calibrate([scores]).to_json(), trained_on)


ARTIFACT = artifact()


def readings_of(seed: int) -> Readings:
    """Noise of three sensors in turn with missing values, late and repeated readings, and a stretch of large values."""
    rng = np.random.default_rng(seed)
    N = SENSORS * STEPS
    time_ms = np.repeat(np.arange(STEPS), SENSORS) * 1000 - (rng.random(N) < 0.05) * rng.integers(1, 4, N) * 1000
    values = rng.normal(size=(N, 2))
    values[rng.random((N, 2)) < 0.05] = np.nan
    values[-90:-60] *= 30
    return Readings(np.tile(np.arange(SENSORS), STEPS), time_ms, values)


def run(readings: Readings, cuts: list[int], stride: int) -> tuple[list[bytes], bytes]:
    """Alerts and final state when the readings come in batches that end at the cuts."""
    detector = Detector(ARTIFACT, DetectorOptions(Budget.parse("1 per 50 readings"), stride=stride))
    detector.sensors([f"s{i}" for i in range(SENSORS)])
    alerts = []
    for start, stop in zip([0, *cuts], [*cuts, len(readings)], strict=True):
        alerts += detector.step(readings[start:stop])
    return [encode(alert) for alert in alerts], detector.table.state.tobytes()


@given(
    st.integers(0, 50), st.lists(st.integers(0, SENSORS * STEPS), max_size=8).map(sorted), st.sampled_from([1, 3, 4])
)
@settings(max_examples=25, deadline=None)
def test_batches_do_not_matter(seed: int, cuts: list[int], stride: int) -> None:
    """One batch or many: the same alerts in the same order, and the same state, byte for byte."""
    readings = readings_of(seed)
    assert run(readings, cuts, stride) == run(readings, [], stride)


def test_there_is_something_to_compare() -> None:
    """The readings of the test above do raise incidents, and close some."""
    alerts, _ = run(readings_of(0), [], 1)
    assert any(b'"opened"' in alert for alert in alerts)
    assert any(b'"closed"' in alert for alert in alerts)


def test_sensors_do_not_matter_to_each_other() -> None:
    """A sensor alone raises the same alerts as among others."""
    readings = readings_of(1)
    together, _ = run(readings, [], 1)
    own = readings.sensor == 1
    alone, _ = run(Readings(readings.sensor[own], readings.time_ms[own], readings.values[own]), [], 1)
    assert [alert for alert in together if b'"s1"' in alert] == alone
