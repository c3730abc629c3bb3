"""The benchmark's messages, sums, tables and refusals; nothing is measured."""

from __future__ import annotations

import json
from io import StringIO

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from stream_detector.benchmark.delays import MARK, SETTLE_S, Delays, schedule
from stream_detector.benchmark.load import Load
from stream_detector.benchmark.plan import STAGES, Plan
from stream_detector.benchmark.report import Report, report
from stream_detector.benchmark.stages import Stages
from stream_detector.benchmark.throughput import Speed
from stream_detector.cli.benchmark import print_report, register
from stream_detector.errors import ConfigError
from stream_detector.records import Readings
from stream_detector.settings import DetectorSettings, KafkaSettings, Settings, WorkerSettings
from stream_detector.streaming.decode import Decoder
from stream_detector.streaming.profiles import Profiles

SECONDS = dict(zip(STAGES, (0.4, 0.2, 0.3, 0.5, 0.1, 0.05, 0.25, 0.15, 0.05), strict=True))


def measured() -> Speed:
    """Two rounds of 1,000 readings that took two seconds in all."""
    speed = Speed(1_000, poll=[(0.25, 0.2)] * 2, loop=[(0.5, 0.4)] * 2, score=[(0.1, 0.1)] * 2, worker=[(1.0, 0.8)] * 2)
    speed.stages.seconds.update(SECONDS)
    speed.windows, speed.alerts, speed.row_bytes, speed.stored_bytes = 2_000, 3, 2_000.0, 2_100.0
    return speed


def full_report(delays: Delays | None = None) -> Report:
    """All stages."""
    return report(Plan(readings=2_000, rounds=2, sensors=100), "all", measured(), delays)


@pytest.mark.parametrize(("channels", "batched"), [(1, 1), (3, 1), (1, 7), (3, 7)])
def test_messages_are_readings_of_all_sensors_in_turns(channels: int, batched: int) -> None:
    """Every kind of message decodes; times go on where the full windows end, none is lost or there twice."""
    plan = Plan(sensors=4, channels=channels, partitions=2, batched=batched, window=16, stride=4)
    load = Load(plan)
    sent = [*load.full_windows(), *load.messages(0, 10), *load.messages(10, 10)]
    decoded = Decoder(lambda sensor_id, offered: plan.names).decode([value for _, value in sent])
    assert decoded.rejected == []
    (columns,) = decoded.columns
    assert columns.values.shape == (4 * 16 + 0 + 1 + 2 + 3 + 20 * batched, channels)
    for sensor in range(4):
        mine = columns.sensor == columns.sensor_ids.index(f"machine-{sensor:06}")
        assert mine.sum() == 16 + sensor + 5 * batched
        assert set(np.diff(columns.time_ms[mine])) == {1_000}
    assert {partition for partition, _ in sent} == {0, 1}


def test_it_is_known_which_message_makes_a_window_due() -> None:
    """What the benchmark reckons is what the detector does, and in every turn some sensors are due."""
    plan = Plan(sensors=6, partitions=1, window=16, stride=4, model="moving-z")
    settings = Settings(detector=DetectorSettings(model="moving-z", window=16, stride=4))
    profiles = Profiles(settings, lambda model, channels: plan.artifact())
    decoder, load = Decoder(lambda sensor_id, offered: plan.names), Load(plan)

    def take(value: bytes) -> int:
        (columns,) = decoder.decode([value]).columns
        detector = profiles.fleet.detectors[profiles.name(columns.sensor_ids[0], columns.channels)]
        rows = detector.sensors(columns.sensor_ids)
        return len(detector.buffers.append(Readings(rows[columns.sensor], columns.time_ms, columns.values)))

    for _, value in load.full_windows():
        take(value)
    due = [take(value) for _, value in load.messages(0, 48)]
    assert due == [int(load.falls_due(number)) for number in range(48)]
    assert all(any(due[turn : turn + 6]) for turn in range(0, 48, 6))


def test_the_messages_of_a_pace_come_in_time_and_some_are_far_off() -> None:
    """As many as the pace says, in order of time; those that are far off make a window due, after the beginning."""
    plan = Plan(sensors=50, stride=5, partitions=2)
    sent, marked = schedule(Load(plan, 1_000_000, 50.0), pace=1_000, seconds=2)
    values = [value for _, parts in sent for several in parts.values() for value in several]
    assert len(values) == round(1_000 * (SETTLE_S + 2))
    assert [at for at, _ in sent] == sorted(at for at, _ in sent)
    far = [record for record in map(json.loads, values) if record["value"] == MARK]
    assert len(far) == marked >= 20
    assert all(record["timestamp"] > 1_000_000 + 1000 * SETTLE_S for record in far)
    for at_s, parts in sent:
        times = {json.loads(value)["timestamp"] for several in parts.values() for value in several}
        assert times <= {1_000_000 + round(1000 * at_s)}


def test_stages_share_out_all_of_the_time() -> None:
    """A call's time is its own: that of a watched call inside it is counted there, and both together are the whole."""

    class Work:
        def outer(self) -> int:
            return self.inner() + 1

        def inner(self) -> int:
            return sum(range(10_000))

    work, stages = Work(), Stages()
    stages.watch(work, "outer", "outer")
    stages.watch(work, "inner", "inner")
    assert work.outer() == 49_995_001
    assert set(stages.seconds) == {"outer", "inner"}
    assert all(seconds > 0 for seconds in stages.seconds.values())
    assert stages._inside == []


def test_the_numbers_add_up() -> None:
    """Shares are of 1, microseconds of the whole, ratios of the loops of the same run."""
    found = full_report()
    assert [one.name for one in found.stages] == list(STAGES)
    assert sum(one.share for one in found.stages) == pytest.approx(1)
    assert sum(one.microseconds for one in found.stages) == pytest.approx(found.seconds / found.readings * 1e6)
    assert (found.readings, found.seconds, found.readings_a_second) == (2_000, 2.0, 1_000.0)
    ratios = {(one.name, one.stage): one.ratio for one in found.limits}
    assert ratios == {
        ("poll alone", None): pytest.approx(0.25),
        ("poll and json.loads", None): pytest.approx(0.5),
        ("model alone", "score"): pytest.approx(0.4),
        ("model alone", None): pytest.approx(0.1),
    }


def test_delays_are_told_by_their_percentiles() -> None:
    """Also where no alert came."""
    delays = Delays([0.1] * 98 + [0.5, 0.9], 500.0, 0.5, 100, 0.01)
    latency = full_report(delays).latency
    assert latency is not None
    assert (latency.alerts, latency.p50_s) == (100, pytest.approx(0.1))
    assert latency.p99_s == pytest.approx(0.504)
    none = full_report(Delays([], 500.0, 0.5, 100, 0.01)).latency
    assert none is not None
    assert (none.p50_s, none.p99_s) == (None, None)


def test_the_table_shows_every_stage_and_limit() -> None:
    """For a person, at any width."""
    out = StringIO()
    print_report(Console(file=out, width=500), full_report(Delays([0.1, 0.2], 500.0, 0.5, 2, 0.01)))
    text = out.getvalue()
    for shown in (*STAGES, "worker", "poll and json.loads", "model alone", "99th percentile", "bytes a sensor"):
        assert shown in text
    assert "1,000" in text


def test_json_is_the_whole_report() -> None:
    """In plain values that any program reads."""
    plain = json.loads(json.dumps(full_report(Delays([0.1], 500.0, 0.5, 1, 0.0)).plain()))
    assert plain["plan"]["sensors"] == 100
    assert {one["name"] for one in plain["stages"]} == set(STAGES)
    assert plain["memory"]["resident_bytes"] > 0
    assert plain["latency"]["p50_s"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan(sensors=1_000, partitions=2), "worker.max_sensors"),
        (Plan(sensors=10, channels=9), "worker.max_channels"),
        (Plan(sensors=10, batched=20_000), "--batched"),
        (Plan(sensors=10, stride=33), "stride"),
    ],
)
def test_what_the_worker_would_refuse_is_refused_before(plan: Plan, said: str) -> None:
    """In a sentence that names the setting or the option."""
    settings = Settings(
        worker=WorkerSettings(max_sensors=400, max_channels=8), kafka=KafkaSettings(max_message_bytes=65_536)
    )
    with pytest.raises(ConfigError, match=said):
        plan.check(settings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stage", "nonsense"], "there is no stage 'nonsense'"),
        (["--model", "nonsense"], "neither a model"),
        (["--stride", "99"], "too long for windows of 128"),
        (["--redis", "http://x"], "--redis cannot be used"),
    ],
)
def test_wrong_usage_is_a_sentence_and_ends_with_2(arguments: list[str], said: str) -> None:
    """And nothing is started for it."""
    app = typer.Typer()
    register(app)
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2
    assert said in str(error)


@pytest.mark.parametrize("arguments", [["--readings", "0"], ["--partitions", "1001"], ["--delays", "-1"]])
def test_numbers_out_of_range_are_wrong_usage(arguments: list[str]) -> None:
    """As for every command."""
    app = typer.Typer()
    register(app)
    assert CliRunner().invoke(app, arguments).exit_code == 2
