"""Weights are swapped under load: no alert is lost or told twice, and each names weights that exist."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.records import Alert
from stream_detector.settings import Settings
from stream_detector.streaming.hot_swap import HotSwap
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import Line, Registry, open_registry
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from tests.integration.streams import alerts_of, make_topics, plant, send, settings_for, weights

PARTITIONS = 2
LINES = {"pumps": ("value",), "fans": ("a", "b")}


@pytest.fixture
def settings(
    kafka: str, redis_url: str, topic: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """A worker's settings with weights by name, and a registry of its own."""
    made = weights(tmp_path_factory.mktemp("swap"))
    plain = settings_for(kafka, redis_url, topic, made)
    fans, *rest = plain.sensors
    return plain.model_copy(
        update={
            "detector": plain.detector.model_copy(update={"model": "pumps"}),
            "sensors": (fans.model_copy(update={"model": "fans"}), *rest),
            "models": plain.models.model_copy(update={"registry": str(tmp_path / "registry")}),
        }
    )


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The first weights of each line."""
    paths = weights(tmp_path_factory.mktemp("first"))
    return {name: artifacts.load(paths[channels]) for name, channels in LINES.items()}


def other(artifact: Artifact, number: float) -> Artifact:
    """The same model with another band: other weights, and so another digest."""
    model = artifacts.build(artifact.model.name, _config(artifact))
    model.load_state_dict({"half_band": artifact.model.state_dict()["half_band"] * (1 + number / 100)})
    model.train(False)
    return replace(artifact, model=model)


def _config(artifact: Artifact) -> dict[str, object]:
    config = artifact.model.config
    return {"window": config.window, "channels": config.channels, "coverage": config.coverage}


def put(registry: Registry, name: str, artifact: Artifact) -> str:
    """Make an artifact the champion of its line."""
    line = Line(name, LINES[name])
    digest = registry.put(artifact, line)
    registry.promote(line, digest, "a test")
    return digest


def start(settings: Settings, registry: Registry) -> tuple[Worker, HotSwap]:
    """A worker that looks for champions when it is told to."""
    chosen = Weights(settings.detector.window, registry)
    champions = HotSwap(registry, chosen)
    profiles = Profiles(settings, chosen.artifact, former=chosen.by_digest)
    return Worker(settings, profiles, champions=champions), champions


def check(alerts: list[Alert], digests: set[str]) -> None:
    """Lives are whole, and every anomaly names weights that were in use."""
    lives: dict[str, list[int]] = {}
    for alert in alerts:
        lives.setdefault(alert.alert_id, []).append(alert.seq)
        if alert.model:
            assert alert.model.digest.removeprefix("sha256:") in digests
    assert all(seqs == list(range(len(seqs))) for seqs in lives.values())


def test_swaps_under_load(settings: Settings, made: dict[str, Artifact]) -> None:
    """Ten swaps between portions of a stream, the last worker without the first one's memory: every alert once."""
    stream = plant(16, 420, PARTITIONS, seed=3)
    make_topics(settings, PARTITIONS)
    used: dict[str, set[str]] = {name: set() for name in LINES}
    with open_registry(settings) as registry:
        for name, artifact in made.items():
            used[name].add(put(registry, name, artifact))
        worker, champions = start(settings, registry)
        portions = np.array_split(np.arange(len(stream.messages)), 12)
        for number, portion in enumerate(portions):
            send(settings, [stream.messages[i] for i in portion])
            end = worker.counts.readings + len(portion)
            while worker.counts.readings < end:
                worker.step()
            name = ("pumps", "fans")[number % 2]
            used[name].add(put(registry, name, other(made[name], number + 1)))
            if number == 6:  # a worker that knows only what was saved goes on, with newer weights than those
                worker.close()
                worker, champions = start(settings, registry)
            else:
                champions.look()
                worker.step()
        worker.close()
    alerts = alerts_of(settings)
    check(alerts, used["pumps"] | used["fans"])
    versions = {alert.model.digest for alert in alerts if alert.model}
    assert len(versions) > 2
    opened = [alert for alert in alerts if alert.kind == "anomaly" and alert.event == "opened"]
    assert 4 <= len(opened) <= 40


def test_unfit_weights_are_refused(
    settings: Settings, made: dict[str, Artifact], caplog: pytest.LogCaptureFixture
) -> None:
    """Weights that give no numbers are told of once, and the old ones go on."""
    stream = plant(14, 120, PARTITIONS)
    make_topics(settings, PARTITIONS)
    with open_registry(settings) as registry:
        first = {name: put(registry, name, artifact) for name, artifact in made.items()}
        worker, champions = start(settings, registry)
        send(settings, stream.messages)
        while worker.counts.readings < len(stream.messages):
            worker.step()
        put(registry, "pumps", other(made["pumps"], float("nan")))
        for _ in range(3):
            champions.look()
            worker.step()
        worker.close()
        profiles = worker._profiles
    used = {detector.writer.model.digest for detector in profiles.fleet.detectors.values()}
    assert used == {f"sha256:{digest}" for digest in first.values()}
    assert len([record for record in caplog.records if "refused" in record.message]) == 1


def test_a_rollback_holds_from_the_next_batch_on(settings: Settings, made: dict[str, Artifact]) -> None:
    """Bad weights are in use, somebody goes back: the very next batch is judged by the former ones again."""
    stream = plant(14, 120, PARTITIONS)
    make_topics(settings, PARTITIONS)
    with open_registry(settings) as registry:
        first = {name: put(registry, name, artifact) for name, artifact in made.items()}
        worker, champions = start(settings, registry)
        portions = np.array_split(np.arange(len(stream.messages)), 3)

        def judged_by() -> set[str]:
            return {one.writer.model.digest[7:] for one in worker._profiles.fleet.detectors.values()}

        def work(portion: np.ndarray) -> None:
            end = worker.counts.readings + len(portion)
            send(settings, [stream.messages[i] for i in portion])
            while worker.counts.readings < end:
                worker.step()
            worker.step()  # what appeared in the last batch is watched from here on

        work(portions[0])
        second = {name: put(registry, name, other(artifact, 5)) for name, artifact in made.items()}
        champions.look()
        work(portions[1])
        assert judged_by() == set(second.values())
        for name in LINES:
            assert registry.rollback(Line(name, LINES[name]), "it was worse") == first[name]
        champions.look()
        before = worker.counts.readings
        send(settings, [stream.messages[i] for i in portions[2][:10]])
        while worker.counts.readings == before:
            worker.step()
        assert judged_by() == set(first.values())
        worker.close()
