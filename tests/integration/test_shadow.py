"""Challengers beside champions: nothing of them is to be seen but what is counted, and a verdict follows from that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stream_detector.errors import FencedError
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.settings import Settings
from stream_detector.streaming.events import Events
from stream_detector.streaming.hot_swap import HotSwap
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import Line, Registry, Shadow, Tally, open_registry
from stream_detector.streaming.shadow_verdict import LEAST_WINDOWS, Trials
from stream_detector.streaming.topics import read_topic
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from tests.integration.streams import Message, kinds, make_topics, outcome, plant, send, settings_for, told_twice
from tests.integration.test_hot_swap import LINES, made, other, put
from tests.integration.workers import wait_until

PARTITIONS, SENSORS, STEPS = 2, 16, 300
HOUR_MS = 3_600_000
__all__ = ["made"]


def settings_of(kafka: str, redis_url: str, topic: str, place: Path) -> Settings:
    """A worker's settings with weights by name, small steps, and a registry in a directory."""
    named = {("value",): Path("pumps"), ("a", "b"): Path("fans")}
    plain = settings_for(kafka, redis_url, topic, named)
    return plain.model_copy(
        update={
            "models": plain.models.model_copy(update={"registry": str(place)}),
            "trainer": plain.trainer.model_copy(update={"promotion": "shadow"}),
            "worker": plain.worker.model_copy(update={"batch_size": 20}),
        }
    )


@pytest.fixture
def settings(kafka: str, redis_url: str, topic: str, tmp_path: Path) -> Settings:
    """Settings, with a registry of the test's own."""
    return settings_of(kafka, redis_url, topic, tmp_path / "registry")


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    """The test's registry."""
    with open_registry(settings) as opened:
        yield opened


def start(settings: Settings, registry: Registry) -> tuple[Worker, HotSwap]:
    """A worker that looks at the registry when it is told to."""
    chosen = Weights(settings.detector.window, registry)
    champions = HotSwap(registry, chosen)
    return Worker(
        settings, Profiles(settings, chosen.artifact, former=chosen.by_digest), champions=champions
    ), champions


def go(worker: Worker, champions: HotSwap, messages: Sequence[Message]) -> None:
    """Send messages in portions, take each in, and look at the registry behind it."""
    for portion in np.array_split(np.arange(len(messages)), 4):
        end = worker.counts.readings + len(portion)
        send(worker._settings, [messages[i] for i in portion])
        while worker.counts.readings < end:
            worker.step()
        champions.look()


def try_beside(registry: Registry, name: str, artifact: Artifact) -> Shadow:
    """Make an artifact the shadow of its line."""
    line = Line(name, LINES[name])
    registry.try_beside(line, registry.put(artifact, line, decision={"passed": True, "status": "shadow"}))
    return registry.shadows()[line.key]


def unlike(artifact: Artifact) -> Artifact:
    """Weights of another model, which knows nothing, so that its scores are quite other ones."""
    torch.manual_seed(1)
    config = {"window": artifact.model.config.window, "channels": len(artifact.channels), "width": 8}
    model = artifacts.build("encoder", {**config, "feedforward": 8, "layers": 1})
    model.train(False)
    return replace(artifact, model=model, calibration=None)


def test_nothing_is_to_be_seen_of_a_shadow(
    kafka: str, redis_url: str, topic: str, tmp_path: Path, made: dict[str, Artifact]
) -> None:
    """Alerts and stored rows are the same, byte for byte, with and without one; also after partitions were let go."""
    messages = plant(SENSORS, STEPS, PARTITIONS, seed=5).messages
    found, third = {}, len(messages) // 3
    for group in ("without", "with"):
        settings = settings_of(kafka, redis_url, f"{topic}-{group}", tmp_path / group)
        make_topics(settings, PARTITIONS)
        with open_registry(settings) as registry:
            for name, artifact in made.items():
                put(registry, name, artifact)
            worker, champions = start(settings, registry)
            go(worker, champions, messages[:third])
            shadows = [try_beside(registry, name, unlike(one)) for name, one in made.items()] if group == "with" else []
            champions.look()
            go(worker, champions, messages[third : 2 * third])
            worker.holdings.reclaim()
            go(worker, champions, messages[2 * third :])
            tallies = [registry.counted(shadow) for shadow in shadows]
            worker.close()
            numbers = worker._numbers
        found[group] = outcome(settings, PARTITIONS)
        assert kinds(settings, "anomaly")
    assert not found["without"].differences(found["with"])
    assert found["with"].lives
    assert found["with"].states
    for tally in tallies:
        assert tally.windows > STEPS
        assert (tally.sensors, tally.fault) == (SENSORS // 2, None)
    assert {tally.challenger != tally.champion for tally in tallies} == {True}, "or the test shows nothing"
    assert numbers.shadow_windows._value.get() == sum(tally.windows for tally in tallies)
    assert numbers.shadow_alerts.labels("champion")._value.get() == sum(tally.champion for tally in tallies)


def test_what_workers_count_adds_up(settings: Settings, registry: Registry, made: dict[str, Artifact]) -> None:
    """Over a restart; a trial that a person ends is told by nobody any more, and its weights take over."""
    messages = plant(SENSORS, STEPS, PARTITIONS, seed=5).messages
    quarter = len(messages) // 4
    make_topics(settings, PARTITIONS)
    for name, artifact in made.items():
        put(registry, name, artifact)
    worker, champions = start(settings, registry)
    go(worker, champions, messages[:quarter])
    shadow = try_beside(registry, "pumps", other(made["pumps"], 1.0))
    champions.look()
    go(worker, champions, messages[quarter : 2 * quarter])
    worker.close()
    before = registry.counted(shadow)
    assert before.windows > quarter // 4
    second, champions = start(settings, registry)
    go(second, champions, messages[2 * quarter : 3 * quarter])
    after = registry.counted(shadow)
    assert before.windows + quarter // 8 < after.windows <= quarter
    assert (after.sensors, after.champion >= before.champion) == (SENSORS // 2, True)
    assert before.span_ms < after.span_ms <= SENSORS // 2 * STEPS // 2 * 1000
    assert after.allowed == pytest.approx(after.readings / 400)
    registry.promote(shadow.line, shadow.digest, "by hand")
    assert registry.shadows() == {}
    champions.look()
    go(second, champions, messages[3 * quarter :])
    second.close()
    used = {detector.writer.model.digest for detector in second._profiles.fleet.detectors.values()}
    assert f"sha256:{shadow.digest}" in used
    assert registry.counted(shadow).windows == 0


def test_from_a_trial_to_a_swap(settings: Settings, registry: Registry, made: dict[str, Artifact]) -> None:
    """A worker at work tries it, the trainer promotes it, the worker takes it over; all alerts are told once."""
    messages = plant(SENSORS, STEPS, PARTITIONS, seed=5).messages
    half = len(messages) // 2
    make_topics(settings, PARTITIONS)
    for name, artifact in made.items():
        put(registry, name, artifact)
    worker, champions = start(settings, registry)
    champions._every_s = 0.05
    thread = threading.Thread(target=worker.run, daemon=True)
    champions.start()
    thread.start()
    send(settings, messages[:half])
    wait_until(lambda: worker.counts.readings >= half, "the first half is taken in")
    shadow = try_beside(registry, "pumps", other(made["pumps"], 1.0))
    for begin in range(half, len(messages), 200):
        send(settings, messages[begin : begin + 200])
        if registry.counted(shadow).windows >= LEAST_WINDOWS:
            break
    wait_until(lambda: registry.counted(shadow).windows >= LEAST_WINDOWS, "enough windows are counted", 10)
    quick = settings.trainer.model_copy(update={"shadow_for": "10s"})
    trials(settings.model_copy(update={"trainer": quick}), registry).settle(None)
    assert registry.champion(shadow.line) == shadow.digest
    detectors = worker._profiles.fleet.detectors
    wait_until(
        lambda: f"sha256:{shadow.digest}" in {one.writer.model.digest for one in detectors.values()}, "it is used", 10
    )
    worker.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert worker.counts.errors == 0
    assert not told_twice(settings)


def test_a_challenger_that_cannot_be_run(settings: Settings, registry: Registry, made: dict[str, Artifact]) -> None:
    """The worker goes on without it, and says why; the trainer refuses it for that."""
    make_topics(settings, PARTITIONS)
    for name, artifact in made.items():
        put(registry, name, artifact)
    worker, champions = start(settings, registry)
    shadow = try_beside(registry, "pumps", other(made["pumps"], float("nan")))
    go(worker, champions, plant(SENSORS, 100, PARTITIONS, seed=5).messages)
    worker.close()
    tally = registry.counted(shadow)
    assert (tally.windows, tally.fault) == (0, "they score windows of noise with values that are no numbers")
    trials(settings, registry).settle(None)
    (event,) = told(settings)
    assert (event["type"], event["reasons"]) == (
        "model.refused",
        ["a worker cannot run it: they score windows of noise with values that are no numbers"],
    )


# -- what the trainer makes of it -------------------------------------------------------------------------------------


def trials(settings: Settings, registry: Registry) -> Trials:
    """What a trainer that has just been started has of the shadows."""
    return Trials(registry, settings.trainer, Events(settings.kafka, lambda: 1_800_000_000.0))


def told(settings: Settings) -> list[dict[str, Any]]:
    """All events so far."""
    return [json.loads(one.value or b"") for one in read_topic(settings.kafka, settings.kafka.events_topic)]


def tally(shadow: Shadow, **counts: Any) -> Tally:
    """What a worker may have counted."""
    plain = {"windows": LEAST_WINDOWS, "readings": 5000, "sensors": 10, "span_ms": 10 * HOUR_MS, "champion": 4}
    return Tally(trial=shadow.trial, **{**plain, **counts})


@pytest.mark.parametrize(
    ("alarms", "outcome"),
    # Of counts about 4 x 1.05, one in a hundred is more than 10.
    [(0, "promoted"), (10, "promoted"), (11, "refused")],
)
def test_enough_is_decided_on(
    settings: Settings, registry: Registry, made: dict[str, Artifact], alarms: int, outcome: str
) -> None:
    """No more alarms than the champion, but for chance and tolerance: in use; else refused; told with the numbers."""
    make_topics(settings, PARTITIONS)
    first = put(registry, "pumps", made["pumps"])
    shadow = try_beside(registry, "pumps", unlike(made["pumps"]))
    for few in (tally(shadow, windows=LEAST_WINDOWS - 1), tally(shadow, span_ms=10 * HOUR_MS - 10), Tally(trial=1)):
        registry.tally(shadow, "a:1", few)
        trials(settings, registry).settle(None)
        assert registry.shadows() == {shadow.line.key: shadow}
    # Half of it by one worker, a quarter each before and after another one was started anew.
    registry.tally(shadow, "a:1", tally(shadow, windows=100, sensors=5, span_ms=5 * HOUR_MS, champion=2))
    for run in ("1", "2"):
        counts = {"windows": 50, "sensors": 5, "span_ms": 5 * HOUR_MS // 2, "champion": 1}
        registry.tally(shadow, f"b:{run}", tally(shadow, challenger=alarms if run == "2" else 0, **counts))
    trials(settings, registry).settle(None)
    newest = registry.versions(shadow.line)[0]
    assert (newest.digest, newest.status) == (shadow.digest, {"promoted": "champion"}.get(outcome, "refused"))
    assert registry.champion(shadow.line) == (shadow.digest if outcome == "promoted" else first)
    assert (newest.decision["passed"], newest.decision["status"]) == (outcome == "promoted", outcome)
    (event,) = told(settings)
    assert (event["type"], event["digest"], event["status"]) == (f"model.{outcome}", f"sha256:{shadow.digest}", outcome)
    assert event["numbers"] == newest.decision["shadow"]
    numbers = event["numbers"]
    assert (numbers["alarms"], numbers["champion_alarms"], numbers["most_alarms"]) == (alarms, 4, 10)
    assert (numbers["windows"], numbers["sensors"], numbers["watched_ms"]) == (200, 10, HOUR_MS)
    assert event["reasons"] == newest.decision["reasons"][-1:]
    assert "in 200 windows of 10 sensors over 1 h" in event["reasons"][0]
    trials(settings, registry).settle(None)
    assert len(told(settings)) == 1


def test_the_verdict_is_fenced(settings: Settings, registry: Registry, made: dict[str, Artifact]) -> None:
    """A trainer that lost its lease decides on nothing."""
    make_topics(settings, PARTITIONS)
    put(registry, "pumps", made["pumps"])
    shadow = try_beside(registry, "pumps", unlike(made["pumps"]))
    registry.tally(shadow, "a:1", tally(shadow))
    with pytest.raises(FencedError):
        trials(settings, registry).settle("trainer:gone")
    assert registry.shadows() == {shadow.line.key: shadow}
    assert told(settings) == []


def test_other_settings_leave_it_alone(settings: Settings, registry: Registry, made: dict[str, Artifact]) -> None:
    """With `manual` nothing is promoted without a person."""
    put(registry, "pumps", made["pumps"])
    shadow = try_beside(registry, "pumps", unlike(made["pumps"]))
    registry.tally(shadow, "a:1", tally(shadow))
    manual = settings.trainer.model_copy(update={"promotion": "manual"})
    trials(settings.model_copy(update={"trainer": manual}), registry).settle(None)
    assert registry.shadows() == {shadow.line.key: shadow}
