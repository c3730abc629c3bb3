"""Rolling windows against a reference that keeps one sorted list a sensor, and their independence of batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.detect.buffers import Buffers, fields
from stream_detector.detect.due import Due
from stream_detector.detect.state import SensorTable
from stream_detector.records import Readings

SENSORS = 3


class Reference:
    """The rules of the buffers, one reading at a time."""

    def __init__(self, window: int, stride: int) -> None:
        self.window, self.stride = window, stride
        self.held: list[list[tuple[int, float]]] = [[] for _ in range(SENSORS)]
        self.fresh = [0] * SENSORS

    def append(self, sensor: int, time_ms: int, value: float) -> list[tuple[int, float]] | None:
        """Take one reading; the window, when it is due."""
        held = self.held[sensor]
        if held and time_ms <= held[-1][0]:
            if time_ms in [t for t, _ in held] or (len(held) == self.window and time_ms < held[0][0]):
                return None
            grows = len(held) < self.window
            self.held[sensor] = sorted([*held, (time_ms, value)])[-self.window :]
            self.fresh[sensor] += int(grows)
            return None
        self.held[sensor] = [*held, (time_ms, value)][-self.window :]
        self.fresh[sensor] += 1
        if len(self.held[sensor]) == self.window and self.fresh[sensor] >= self.stride:
            self.fresh[sensor] = 0
            return self.held[sensor]
        return None


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[int, int, float]], list[int], int, int]:
    """Readings with late and repeated times, cut points for batches, a window and a stride."""
    window = draw(st.integers(2, 12))
    stride = draw(st.integers(1, window))
    steps = draw(st.lists(st.tuples(st.integers(0, SENSORS - 1), st.integers(-8, 12)), min_size=1, max_size=150))
    clock = [1000] * SENSORS
    readings = []
    for number, (sensor, step) in enumerate(steps):
        time_ms = clock[sensor] + step
        clock[sensor] = max(clock[sensor], time_ms)
        readings.append((sensor, time_ms, float(number)))
    cuts = draw(st.lists(st.integers(0, len(readings)), max_size=6))
    return readings, sorted(cuts), window, stride


def run(
    readings: list[tuple[int, int, float]], cuts: list[int], window: int, stride: int
) -> tuple[list[Due], SensorTable]:
    """Append in batches that end at the cuts."""
    table = SensorTable(fields(window, 1))
    table.rows([f"s{i}" for i in range(SENSORS)])
    buffers = Buffers(table, window, stride)
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, len(readings)], strict=True):
        batch = readings[start:stop]
        columns = Readings(
            np.array([r[0] for r in batch], np.int64),
            np.array([r[1] for r in batch], np.int64),
            np.array([[r[2]] for r in batch], np.float64).reshape(-1, 1),
        )
        parts.append(buffers.append(columns))
    return parts, table


def by_sensor(parts: list[Due]) -> dict[int, list[tuple[bytes, ...]]]:
    """Everything that is said of each sensor's windows, in order."""
    found: dict[int, list[tuple[bytes, ...]]] = {i: [] for i in range(SENSORS)}
    for due in parts:
        for indices in due.rounds:
            for i in indices.tolist():
                columns = (
                    due.windows,
                    due.time_ms,
                    due.start_ms,
                    due.center,
                    due.spread,
                    due.interval_ms,
                    due.settling,
                )
                found[int(due.sensor[i])].append(tuple(np.asarray(column[i]).tobytes() for column in columns))
    return found


@given(streams())
@settings(max_examples=300, deadline=None)
def test_windows_are_those_of_the_reference(
    stream: tuple[list[tuple[int, int, float]], list[int], int, int],
) -> None:
    """Which windows fall due, when, and what they hold: as if readings came one at a time."""
    readings, cuts, window, stride = stream
    reference = Reference(window, stride)
    expected: list[list[list[tuple[int, float]]]] = [[] for _ in range(SENSORS)]
    for sensor, time_ms, value in readings:
        held = reference.append(sensor, time_ms, value)
        if held is not None:
            expected[sensor].append(held)
    parts, table = run(readings, cuts, window, stride)
    for sensor in range(SENSORS):
        got = [
            list(due.windows[i, :, 0])
            for due in parts
            for indices in due.rounds
            for i in indices
            if due.sensor[i] == sensor
        ]
        assert got == [[value for _, value in held] for held in expected[sensor]]
        state = table.state[sensor]
        end, fill = int(state["end"]), int(state["fill"])
        assert state["time_ms"][end - fill : end].tolist() == [t for t, _ in reference.held[sensor]]


@given(streams())
@settings(max_examples=200, deadline=None)
def test_batches_do_not_matter(stream: tuple[list[tuple[int, int, float]], list[int], int, int]) -> None:
    """The same readings in other batches give the same windows, scales and rows, byte for byte."""
    readings, cuts, window, stride = stream
    once, table = run(readings, [], window, stride)
    parts, other = run(readings, cuts, window, stride)
    single, third = run(readings, list(range(1, len(readings))), window, stride)
    assert by_sensor(once) == by_sensor(parts) == by_sensor(single)
    assert table.state.tobytes() == other.state.tobytes() == third.state.tobytes()
