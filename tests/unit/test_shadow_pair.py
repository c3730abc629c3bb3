"""A challenger beside a champion, window by window: who takes part, what is counted, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_detector.detect.detector import Detector, DetectorOptions
from stream_detector.detect.quality import QualityRules
from stream_detector.detect.scoring import BUCKET
from stream_detector.errors import ArtifactError
from stream_detector.models.artifact import Artifact, TrainedOn, build
from stream_detector.records import Readings
from stream_detector.settings import Budget
from stream_detector.streaming.shadow_pair import LEAST_SENSORS, Counted, Pair, drawn

WINDOW, STEP_MS = 16, 1000
NOTHING = TrainedOn("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 0, 0)


def weights(window: int = WINDOW, coverage: float = 0.99) -> Artifact:
    """A moving z-score; another coverage, another digest."""
    return Artifact(
        build("moving-z", {"window": window, "channels": 1, "coverage": coverage}), ("value",), {}, None, NOTHING
    )


def champion(threshold: str = "fixed:5") -> Detector:
    """A detector that is in use, without anything that closes incidents but their scores."""
    options = DetectorOptions(
        Budget.parse("1 per 100 readings"), threshold=threshold, quality=QualityRules(silent_after=0, stuck_after=0)
    )
    return Detector(weights(), options)


def feed(detector: Detector, values: np.ndarray, begin: int = 0, first: int = 0) -> int:
    """Readings (steps, sensors) from a step on; how many anomalies they open. first: number of the first sensor."""
    steps, sensors = values.shape
    rows = detector.sensors([f"pump-{first + i}" for i in range(sensors)])
    time_ms = STEP_MS * (begin + np.arange(steps)).repeat(sensors)
    told = detector.step(Readings(np.tile(rows, steps), time_ms, values.reshape(-1, 1)))
    return sum(alert.kind == "anomaly" and alert.event == "opened" for alert in told)


def noise(steps: int, sensors: int, seed: int = 0) -> np.ndarray:
    """Sensors with a spike now and then."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(steps, sensors))
    return values + 30 * (rng.random((steps, sensors)) < 0.01)


def test_both_are_counted_alike() -> None:
    """The same weights open what the champion opens, in every batch; its rows stay what they would be without."""
    detector, alone = champion(), champion()
    feed(detector, noise(40, 12))
    feed(alone, noise(40, 12))
    pair, opened, total = Pair(detector, weights(), share=1.0), 0, Counted()
    for batch in range(20):
        values = noise(7, 12, seed=batch + 1)
        found = feed(detector, values, 40 + 7 * batch)
        assert found == feed(alone, values, 40 + 7 * batch)
        counted = pair.step()
        assert (counted.challenger, counted.champion, counted.windows) == (found, found, 7 * 12)
        assert counted.span_ms == (6 if batch == 0 else 7) * 12 * STEP_MS
        opened, total = opened + found, counted
    assert (opened > 10, pair.sensors, total.readings) == (True, 12, 7 * 12)
    assert detector.table.state.tobytes() == alone.table.state.tobytes()


def test_other_weights_count_otherwise() -> None:
    """The challenger decides by its own scores, and opens more or fewer than the champion."""
    detector = champion()
    feed(detector, noise(40, 12))
    torch.manual_seed(0)
    config = {"window": WINDOW, "channels": 1, "width": 8, "feedforward": 8, "layers": 1}
    unlike = Artifact(build("encoder", config), ("value",), {}, None, NOTHING)
    pair, old, new = Pair(detector, unlike, share=1.0), 0, 0
    for batch in range(20):
        feed(detector, noise(7, 12, seed=batch + 1), 40 + 7 * batch)
        counted = pair.step()
        old, new = old + counted.champion, new + counted.challenger
    assert new != old > 10


def test_a_share_takes_part() -> None:
    """About so many as are asked for, others for another challenger; of a small fleet a few in any case."""
    ids = [f"pump-{i}" for i in range(5000)]
    one, two = ({i for i in ids if drawn(i, key) < 0.1} for key in (b"one", b"two"))
    assert 400 < len(one) < 600
    assert len(one & two) < 100
    detector = champion()
    feed(detector, noise(WINDOW, 5))
    pair = Pair(detector, weights(), share=1e-9)
    feed(detector, noise(1, 5), WINDOW)
    assert pair.step().windows == 5
    feed(detector, noise(WINDOW, 30), WINDOW + 1, first=100)
    pair.step()
    feed(detector, noise(1, 30), 2 * WINDOW + 1, first=100)
    assert pair.step().windows == LEAST_SENSORS - 5


def test_a_step_stays_cheap() -> None:
    """However many windows of the few sensors fall due, no more are scored than twice the share, or one call's."""
    detector = champion()
    feed(detector, noise(WINDOW, 8))
    pair = Pair(detector, weights(), share=0.1)
    feed(detector, noise(100, 8), WINDOW)
    assert pair.step().windows == 2 * 0.1 * 800
    feed(detector, noise(10, 8), WINDOW + 100)
    assert pair.step().windows == BUCKET


def test_rows_that_changed_are_copied_anew() -> None:
    """After sensors went and came, or when told so: a step is left out, and the next ones count again."""
    detector = champion()
    feed(detector, noise(WINDOW, 8))
    pair = Pair(detector, weights(), share=1.0)
    feed(detector, noise(1, 8), WINDOW)
    assert pair.step().windows == 8
    detector.table.drop(0)
    feed(detector, noise(WINDOW, 9), WINDOW + 1)
    assert pair.step() == Counted()
    feed(detector, noise(2, 9), 2 * WINDOW + 1)
    assert (pair.step().windows, pair.sensors) == (18, 9)
    pair.renew()
    feed(detector, noise(1, 9), 2 * WINDOW + 3)
    assert pair.step() == Counted()
    feed(detector, noise(1, 9), 2 * WINDOW + 4)
    assert pair.step().windows == 9


def test_the_default_threshold_takes_part() -> None:
    """Each has thresholds of its own, which learn; the champion's row does not."""
    detector, alone = champion("block-maximum"), champion("block-maximum")
    for one in (detector, alone):
        feed(one, noise(200, 10))
    pair = Pair(detector, weights(coverage=0.9), share=1.0)
    for batch in range(10):
        for one in (detector, alone):
            feed(one, noise(20, 10, seed=batch), 200 + 20 * batch)
        pair.step()
    assert detector.table.state.tobytes() == alone.table.state.tobytes()
    assert not np.array_equal(pair._new.table.state["th_center"], detector.table.state["th_center"])


def test_weights_for_something_else() -> None:
    """Other windows cannot be compared."""
    with pytest.raises(ArtifactError, match="other channels or windows"):
        Pair(champion(), weights(window=24), 0.1)
