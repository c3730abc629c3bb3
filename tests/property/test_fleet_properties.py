"""Several profiles and partitions side by side: neither batches nor restarts nor other partitions change an alert."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.detect.thresholds import calibrate
from stream_detector.models.artifact import Artifact, TrainedOn, build
from stream_detector.records import Alert, Bools, encode
from stream_detector.settings import DetectorSettings, IncidentSettings, QualitySettings, SensorSettings, Settings
from stream_detector.streaming.profiles import Columns, Profiles

STEPS = 260
ONE, TWO = ("value",), ("a", "b")
SENSORS = {"pump-1": ONE, "pump-2": ONE, "pump-3": ONE, "fan-1": TWO, "fan-2": TWO, "lone": ONE}
PARTITION = {"pump-1": 3, "pump-2": 3, "fan-1": 3, "pump-3": 5, "fan-2": 3, "lone": 5}


def artifact(channels: tuple[str, ...]) -> Artifact:
    """A model that needs no training."""
    model = build("moving-z", {"window": 16, "channels": len(channels)})
    scores = np.abs(np.random.default_rng(0).standard_t(15, size=4000))
    span = TrainedOn("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0, 0)
    return Artifact(model, channels, {}, calibrate([scores]).to_json(), span)


ARTIFACTS = {channels: artifact(channels) for channels in (ONE, TWO)}
SETTINGS = Settings(
    detector=DetectorSettings(budget="1 per 40 readings"),
    incidents=IncidentSettings(close_after=4, minimum_gap=3, group_within="20s"),
    quality=QualitySettings(silent_after=6, stuck_after=6, clock_ahead="1m"),
    sensors=(
        SensorSettings(match="fan-2", stride=3, labels={"line": "2"}),
        SensorSettings(match="pump-3", budget="1 per 60 readings"),
        SensorSettings(match="pump-*", group="hall", labels={"line": "1"}),
        SensorSettings(match="fan-1", group="hall"),
    ),
)


def fresh() -> Profiles:
    """Detectors that have seen nothing."""
    return Profiles(SETTINGS, lambda model, channels: ARTIFACTS[channels])


def columns_of(seed: int) -> dict[tuple[str, ...], Columns]:
    """A plant with all that can happen: noise, shifts of a whole group, gaps, stuck, missing and skewed readings."""
    rng = np.random.default_rng(seed)
    names = list(SENSORS)
    N = STEPS * len(names)
    sensor = np.tile(np.arange(len(names)), STEPS)
    time_ms = np.repeat(np.arange(STEPS), len(names)) * 1000 + 1_700_000_000_000
    time_ms = time_ms - (rng.random(N) < 0.03) * rng.integers(1, 4, N) * 1000
    values = rng.normal(size=(N, 2))
    step = np.repeat(np.arange(STEPS), len(names))
    values[(step > 225) & (step < 236) & (sensor < 5)] += 40
    values[(step > 60) & (step < 90) & (sensor == 0)] = 1.5
    values[(step > 180) & (step < 200) & (sensor == 3), 1] = np.nan
    received = time_ms.copy()
    skewed = (step > 100) & (step < 104) & (sensor == 1)
    time_ms[skewed] += 3_600_000
    keep = ~((step > 120) & (step < 145) & (sensor == 4)) & ~((step > 228) & (sensor == 2))
    position = np.cumsum(keep) - 1
    partition = np.array([PARTITION[name] for name in names])
    found = {}
    for channels in (ONE, TWO):
        of = [i for i, name in enumerate(names) if SENSORS[name] == channels]
        mine: Bools = keep & np.isin(sensor, of)
        found[channels] = Columns(
            channels,
            [names[i] for i in of],
            np.searchsorted(of, sensor[mine]),
            time_ms[mine],
            values[mine][:, : len(channels)],
            partition[sensor[mine]],
            position[mine],
            received[mine],
        )
    return found


def cut(columns: Columns, start: int, stop: int) -> Columns:
    """The readings at places from start to before stop."""
    at = (columns.position >= start) & (columns.position < stop)
    return Columns(
        columns.channels,
        columns.sensor_ids,
        columns.sensor[at],
        columns.time_ms[at],
        columns.values[at],
        columns.partition[at],
        columns.position[at] - start,
        None if columns.received_ms is None else columns.received_ms[at],
    )


def restarted(old: Profiles) -> Profiles:
    """A process that knows only the bytes that another has left."""
    new = fresh()
    for name, detector in old.fleet.detectors.items():
        ids, partition = detector.table.ids, detector.table.partition
        for row in np.random.default_rng(0).permutation(len(ids)).tolist():
            assert new.name(ids[row], detector.artifact.channels) == name
            packed = detector.table.pack(np.array([row]))[0]
            new.fleet.detectors[name].table.restore([ids[row]], packed, detector.table.layout(), int(partition[row]))
    new.fleet.watermarks.of.update(old.fleet.watermarks.of)
    new.fleet.recall()
    return new


def run(seed: int, cuts: list[int], restarts: bool = False) -> tuple[dict[int, list[bytes]], dict[str, bytes]]:
    """Alerts by partition and the final state of every sensor, when batches end at the cuts."""
    profiles, told = fresh(), {3: [], 5: []}
    whole = columns_of(seed)
    end = 1 + max(int(columns.position[-1]) for columns in whole.values())
    for start, stop in zip([0, *cuts], [*cuts, end], strict=True):
        if restarts:
            profiles = restarted(profiles)
        parts = [part for columns in whole.values() for part in profiles.parts(cut(columns, start, stop))]
        for one in profiles.fleet.step(parts):
            told[one.partition].append(encode(one.alert))
    states = {
        table.ids[row]: table.pack(np.array([row]))[0]
        for table in (detector.table for detector in profiles.fleet.detectors.values())
        for row in range(len(table))
    }
    return told, states


CUTS = st.lists(st.integers(0, 1400), max_size=10).map(sorted)


@given(st.integers(0, 20), CUTS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_batches_and_restarts_do_not_matter(seed: int, cuts: list[int], restarts: bool) -> None:
    """The same alerts in the same order of each partition, and the same rows, byte for byte."""
    assert run(seed, cuts, restarts) == run(seed, [])


def test_all_kinds_occur() -> None:
    """The readings above bring every kind of incident, groups of several members, and silence that ends an anomaly."""
    alerts = [
        msgspec.json.decode(line, type=Alert)
        for seed in range(6)
        for lines in run(seed, [])[0].values()
        for line in lines
    ]
    kinds = Counter((alert.kind, alert.event) for alert in alerts)
    for kind in ("anomaly", "sensor_silent", "value_stuck", "value_missing", "clock_skewed"):
        assert kinds[kind, "opened"] and kinds[kind, "closed"], kinds
    assert max(len(alert.members) for alert in alerts) >= 3
    assert {"recovered", "silent"} <= {alert.close_reason for alert in alerts}


def test_lives_are_whole() -> None:
    """Each incident opens once with seq 0, counts up, and closes at most once, at the end; groups too."""
    lives: dict[str, list[Alert]] = {}
    for lines in run(1, [])[0].values():
        for line in lines:
            alert = msgspec.json.decode(line, type=Alert)
            lives.setdefault(alert.alert_id, []).append(alert)
    for life in lives.values():
        assert [alert.seq for alert in life] == list(range(len(life)))
        assert life[0].event == "opened"
        assert all(alert.event == "updated" for alert in life[1:-1])


def test_a_partition_dropped_and_loaded_again_goes_on() -> None:
    """A partition that leaves and comes back with its rows changes nothing, for itself and for the other."""
    whole = columns_of(2)
    profiles, told = fresh(), []
    for start, stop in ((0, 700), (700, 3000)):
        parts = [part for columns in whole.values() for part in profiles.parts(cut(columns, start, stop))]
        told += [encode(one.alert) for one in profiles.fleet.step(parts)]
        if start == 0:
            saved = restarted(profiles)
            profiles.fleet.drop(3)
            for name, detector in saved.fleet.detectors.items():
                for row in np.flatnonzero(detector.table.partition == 3).tolist():
                    packed = detector.table.pack(np.array([row]))[0]
                    mine = profiles.fleet.detectors[name].table
                    mine.restore([detector.table.ids[row]], packed, mine.layout(), 3)
            profiles.fleet.watermarks.of[3] = saved.fleet.watermarks.of[3]
            profiles.fleet.recall()
    expected, _ = run(2, [700])
    assert sorted(told) == sorted(expected[3] + expected[5])
