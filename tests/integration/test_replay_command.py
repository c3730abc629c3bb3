"""`stream-detector replay` on alerts that a real worker told: what comes out again, and what is no longer there."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import typer
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.structs import TopicPartition

from stream_detector import settings as all_settings
from stream_detector.cli import replay as command
from stream_detector.errors import TransportError
from stream_detector.models import artifact as artifacts
from stream_detector.models.artifact import Artifact
from stream_detector.records import Alert, Readings, parse_time
from stream_detector.settings import KafkaSettings, Settings
from stream_detector.streaming.envelope import alert_message
from stream_detector.streaming.hot_swap import HotSwap
from stream_detector.streaming.profiles import Profiles
from stream_detector.streaming.registry import Line, Registry, open_registry
from stream_detector.streaming.retrace import Retraced, retrace, told
from stream_detector.streaming.topics import produce
from stream_detector.streaming.weights import Weights
from stream_detector.streaming.worker import Worker
from stream_detector.training.sample import History
from stream_detector.training.train import TrainOptions, train
from tests import alerts
from tests.integration.commands import run
from tests.integration.streams import WINDOW, Message, alerts_of, make_topics, plant, send, settings_for

PARTITIONS = 2
LINES = {"pumps": ("value",), "fans": ("a", "b")}
MESSAGES = 100_000


@dataclass(frozen=True)
class Scene:
    """Alerts that a worker told, with a swap of the weights of its pumps on the way; first and second: digests."""

    settings: Settings
    alerts: list[Alert]
    first: str
    second: str

    def retraced(self, alert: Alert, **changes: object) -> Retraced:
        """An alert, shown again."""
        settings = self.settings.model_copy(update=changes)
        with open_registry(settings) as registry:
            return retrace(settings, registry, told(settings.kafka, alert.alert_id), None, MESSAGES)

    def opened(self, kind: str = "anomaly", digest: str = "") -> list[Alert]:
        """The first steps of the alerts of a kind, by these weights."""
        some = [alert for alert in self.alerts if alert.kind == kind and alert.event == "opened"]
        return [alert for alert in some if not digest or (alert.model and alert.model.digest == digest)]


def other(artifact: Artifact) -> Artifact:
    """The same model with a wider band and scores that are smaller by as much."""
    config = artifact.model.config
    model = artifacts.build(
        artifact.model.name, {"window": config.window, "channels": config.channels, "coverage": config.coverage}
    )
    model.load_state_dict({"half_band": artifact.model.state_dict()["half_band"] * 1.25})
    model.train(False)
    return replace(artifact, model=model)


def dated_ahead() -> Message:
    """A reading of a sensor of its own, whose clock is three hours ahead."""
    time_ms = round(time.time() * 1_000) + 3 * 3_600_000
    return 1, b"pump-99", json.dumps({"sensor_id": "pump-99", "timestamp": time_ms, "value": 1.0}).encode()


def put(registry: Registry, name: str, artifact: Artifact) -> str:
    """Make an artifact the champion of its line; its digest as alerts have it."""
    line = Line(name, LINES[name])
    registry.promote(line, registry.put(artifact, line), "a test")
    return artifact.info.digest


def told_by_a_worker(
    kafka: str,
    redis_url: str,
    topic: str,
    made: dict[tuple[str, ...], Path],
    directory: Path,
    later: Callable[[Artifact], Artifact] = other,
) -> Scene:
    """Let a worker judge a plant, with other weights for its pumps from three quarters on."""
    plain = settings_for(kafka, redis_url, topic, made)
    fans, *rest = plain.sensors
    settings = plain.model_copy(
        update={
            "detector": plain.detector.model_copy(update={"model": "pumps"}),
            "sensors": (fans.model_copy(update={"model": "fans"}), *rest),
            "models": plain.models.model_copy(update={"registry": str(directory / "registry")}),
        }
    )
    make_topics(settings, PARTITIONS)
    messages = [*plant(14, 420, PARTITIONS, seed=2).messages, dated_ahead()]
    with open_registry(settings) as registry:
        first = {name: artifacts.load(made[channels]) for name, channels in LINES.items()}
        before = next(iter([put(registry, name, artifact) for name, artifact in first.items()]))
        chosen = Weights(settings.detector.window, registry)
        champions = HotSwap(registry, chosen)
        worker = Worker(settings, Profiles(settings, chosen.artifact, former=chosen.by_digest), champions=champions)
        cut = 77 * len(messages) // 100
        for part in (messages[:cut], messages[cut:]):
            send(settings, part)
            end = worker.counts.readings + len(part)
            while worker.counts.readings < end:
                worker.step()
            after = put(registry, "pumps", later(first["pumps"]))
            champions.look()
            worker.step()
        worker.close()
    return Scene(settings, alerts_of(settings), before, after)


@pytest.fixture(scope="module")
def scene(
    kafka: str, redis_url: str, made: dict[tuple[str, ...], Path], tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    """Alerts whose readings and weights are all there."""
    directory = tmp_path_factory.mktemp("replay")
    return told_by_a_worker(kafka, redis_url, f"test-{directory.name}-{id(directory)}", made, directory)


class Invoked:
    """The command with a scene's settings, in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd, self._monkeypatch = capfd, monkeypatch
        self._app = typer.Typer()
        command.register(self._app)

    def __call__(self, settings: Settings, *arguments: object) -> tuple[int, str, str]:
        """Exit code and what was printed."""
        self._monkeypatch.setattr(all_settings, "load", lambda config: settings)
        self._monkeypatch.setenv("COLUMNS", "140")
        code = typer.main.get_command(self._app).main(list(map(str, arguments)), standalone_mode=False)
        return code or 0, *self._capfd.readouterr()


@pytest.fixture
def replay(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoked]:
    """The command."""
    yield Invoked(capfd, monkeypatch)


def test_every_alert_comes_out_the_same(scene: Scene) -> None:
    """Scores and channels to the last digit that alerts have, groups included, each by the weights that made it."""
    compared, both = 0, 0
    for alert in scene.opened():
        found = scene.retraced(alert)
        assert found.whole
        for step in found.steps:
            assert step.same is (None if step.told.score is None else True), step
            compared += step.same is True
        both += {scene.first, scene.second} <= set(found.found)
        assert all(alert.alert_id in track.opened for track in found.tracks if not alert.group)
    by = {alert.model.digest for alert in scene.opened() if alert.model}
    assert {scene.first, scene.second} < by
    assert (compared > 20, both) == (True, 2)
    assert any(len(alert.members) > 1 for alert in scene.alerts)


def test_the_command_tells_it_all(scene: Scene, replay: Invoked, tmp_path: Path) -> None:
    """For people a table with a verdict, for programs an object, and a page with the incident."""
    alert = scene.opened(digest=scene.first)[0]
    code, out, err = replay(scene.settings, alert.alert_id, "--report", tmp_path / "page.html")
    assert (code, err) == (0, f"{tmp_path / 'page.html'}: the picture\n")
    assert out.splitlines()[0] == alert.summary
    assert "Scores, expected values and bands come out the same" in out
    assert alert.model
    assert f"moving-z {alert.model.version} (the registry)" in out
    assert f"0 {alert.event}" in out
    page = (tmp_path / "page.html").read_text()
    assert alert.sensor_id in page
    assert "1 incident" in page
    code, out, _ = replay(scene.settings, alert.alert_id, "--json")
    said = json.loads(out)
    assert (code, said["same"], said["missing"]) == (0, True, [])
    assert said["steps"][0]["again"]["score"] == alert.score
    assert said["steps"][0]["scale"] == "whole"
    around = {one["timestamp"]: one for one in said["readings"]["around"]}
    assert around[alert.window.end]["score"] == pytest.approx(alert.score, rel=1e-5)


def test_alerts_that_rest_on_no_score(scene: Scene, replay: Invoked) -> None:
    """Of a silence and of a stuck value the rule and its numbers are told."""
    silent = scene.opened("sensor_silent")[0]
    code, out, _ = replay(scene.settings, silent.alert_id)
    assert code == 0
    assert "quality.silent_after = 10 usual intervals" in out
    assert "the usual interval is 1 s, the next reading came after 36 s" in " ".join(out.split())
    stuck = scene.opened("value_stuck")[0]
    code, out, _ = replay(scene.settings, stuck.alert_id, "--json")
    assert code == 0
    assert "was the same in 12 retained readings" in json.loads(out)["rule"]
    (skewed,) = scene.opened("clock_skewed")
    code, out, _ = replay(scene.settings, skewed.alert_id, "--json")
    assert code == 0
    assert "1 of them are retained, the worst is ahead by 2 h 59 min" in json.loads(out)["rule"]
    gap = alerts.alert(alert_id="a-gap", kind="state_gap", sensor_id="readings/0", score=None, peak_score=None)
    produce(scene.settings.kafka, [alert_message(gap, scene.settings.kafka.alerts_topic)])
    code, out, _ = replay(scene.settings, "a-gap")
    assert code == 0
    assert "the state of the partition was not in Redis" in out


def test_weights_that_are_gone(scene: Scene, replay: Invoked, tmp_path: Path) -> None:
    """It is said, and the readings are shown all the same; with a copy the alert comes out again, and with no other."""
    alert = scene.opened(digest=scene.first)[0]
    digest = scene.first.removeprefix("sha256:")
    registry = tmp_path / "registry"
    shutil.copytree(scene.settings.models.registry, registry)
    shutil.move(registry / "artifacts" / digest, tmp_path / "copy")
    settings = scene.settings.model_copy(
        update={"models": scene.settings.models.model_copy(update={"registry": str(registry)})}
    )
    code, out, err = replay(settings, alert.alert_id)
    assert code == 1
    assert err == (
        f"error: the weights moving-z {digest[:12]} are no longer kept: if you have a copy of them, give its directory "
        f"with --model\n"
    )
    assert "Readings around it" in out
    code, out, _ = replay(settings, alert.alert_id, "--model", tmp_path / "copy", "--json")
    assert (code, json.loads(out)["same"]) == (0, True)
    wrong = registry / "artifacts" / scene.second.removeprefix("sha256:")
    code, _, err = replay(settings, alert.alert_id, "--model", wrong)
    assert code == 1
    assert f"{wrong} holds {scene.second.removeprefix('sha256:')[:12]}" in err


def test_without_the_store_the_scale_is_estimated(scene: Scene) -> None:
    """Where all readings are there the estimate is right; that it is one is said."""
    away = scene.settings.redis.model_copy(update={"prefix": "elsewhere"})
    track = scene.retraced(scene.opened(digest=scene.first)[0], redis=away).tracks[0]
    assert (track.start.basis, track.start.why) == ("estimated", "there is no state of it any more")


def forget(settings: Settings, offsets: dict[int, int]) -> None:
    """Take the readings before these offsets from the topic, as its retention does."""
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    admin.delete_records({TopicPartition(settings.kafka.readings_topic, p): at for p, at in offsets.items()})
    admin.close()


def ends(settings: Settings) -> dict[int, int]:
    """The present ends of the partitions of readings."""
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers)
    found = consumer.end_offsets([TopicPartition(settings.kafka.readings_topic, p) for p in range(PARTITIONS)])
    consumer.close(autocommit=False)
    return {place.partition: end for place, end in found.items()}


def scaled_weights(made: dict[tuple[str, ...], Path], directory: Path) -> dict[tuple[str, ...], Path]:
    """Weights for the pumps whose scores hang on the sensor's scale; those of a moving z-score do not."""
    rng = np.random.default_rng(7)
    sensors, steps = 8, 600
    readings = Readings(
        np.tile(np.arange(sensors), steps),
        1_000 * np.arange(steps).repeat(sensors),
        rng.normal(size=(steps * sensors, 1)),
    )
    names = [f"trained-{i}" for i in range(sensors)]
    options = TrainOptions("squared-difference", WINDOW)
    train(History(readings, names, LINES["pumps"]), options, lambda *_: None).save(directory / "pumps")
    return {**made, LINES["pumps"]: directory / "pumps"}


def test_readings_that_are_gone(
    kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path], tmp_path: Path, replay: Invoked
) -> None:
    """While the window is there the scale is walked back and the score comes out the same; then nothing does."""
    scaled = scaled_weights(made, tmp_path)
    scene = told_by_a_worker(kafka, redis_url, topic, scaled, tmp_path, lambda artifact: artifact)
    settings, last = scene.settings, ends(scene.settings)
    mine = [alert for alert in scene.opened(digest=scene.first) if not alert.group]
    alert = max(mine, key=lambda alert: parse_time(alert.window.start))
    kept = scene.retraced(alert).kept
    assert kept is not None
    begin = int(kept.offset[np.flatnonzero(kept.time_ms == parse_time(alert.window.start))[0]])
    forget(settings, {kept.partition: begin - 40})
    found = scene.retraced(alert)
    assert [(track.start.basis, track.start.why) for track in found.tracks] == [("state", "")]
    assert all(step.same for step in found.steps if step.told.score is not None)
    code, out, _ = replay(
        settings.model_copy(update={"redis": settings.redis.model_copy(update={"prefix": "elsewhere"})}), alert.alert_id
    )
    assert code == 0
    assert "the sensor's scale of then is estimated, since there is no state of it any more." in out
    forget(settings, {kept.partition: begin + 40})
    code, out, err = replay(settings, alert.alert_id)
    assert code == 1
    assert f"the readings of {alert.window.start} to {alert.window.end} are no longer retained: those of" in err
    assert "its window is not retained whole" in out
    forget(settings, last)
    code, _, err = replay(settings, alert.alert_id)
    assert code == 1
    assert f"nothing of {alert.sensor_id} is in the topic" in err


def test_too_few_messages(scene: Scene, replay: Invoked) -> None:
    """A bound that is too narrow is named."""
    code, _, err = replay(scene.settings, scene.opened(digest=scene.first)[0].alert_id, "--messages", 10)
    assert code == 1
    assert "are not among the 10 messages before it: look further back with --messages" in err


def test_unknown_ids_and_topics(scene: Scene, replay: Invoked) -> None:
    """An id that was never told is 2, as a user types it; a topic that is not there is named."""
    kafka: KafkaSettings = scene.settings.kafka
    done = run(kafka, "replay", "no-such-id")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no alert with the id 'no-such-id': copy the alert_id of one that was told\n"
    for topic in ("alerts_topic", "readings_topic"):
        lacking = scene.settings.model_copy(update={"kafka": kafka.model_copy(update={topic: "no-such-topic"})})
        with pytest.raises(TransportError, match="there is no topic no-such-topic on Kafka at "):
            replay(lacking, scene.opened()[0].alert_id)
