"""The trainer against a real broker and a real store: in this process, and as a user types it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_detector.errors import ArtifactError, FencedError, StreamDetectorError
from stream_detector.records import Alert, Feedback, Interval, encode, format_time
from stream_detector.settings import DetectorSettings, RedisSettings, Settings, TrainerSettings
from stream_detector.streaming import history, lease
from stream_detector.streaming.kafka_client import Message
from stream_detector.streaming.registry import Line, Registry, Tally, open_registry
from stream_detector.streaming.topics import ensure_topics, produce, read_topic
from stream_detector.streaming.trainer import Trainer
from stream_detector.streaming.weights import Weights
from stream_detector.training.challenge import HELD_SHARE
from stream_detector.training.fit import Progress
from tests.integration.streams import own_topics

COMMAND = Path(sys.executable).with_name("stream-detector")
LINE = Line("moving-z", ("value",))
WINDOW, SENSORS, STEPS = 16, 12, 800
STEP_MS = 60_000


@dataclass(frozen=True)
class Scene:
    """Settings with topics and a registry of the test's own, and readings up to now."""

    settings: Settings
    begin_ms: int

    def moment(self, step: int) -> str:
        """When the readings of a step were taken."""
        return format_time(self.begin_ms + STEP_MS * step)

    def send(self, values: np.ndarray, begin: int = 0) -> None:
        """Readings (steps, sensors) from a step on."""
        topic = self.settings.kafka.readings_topic
        messages = []
        for step, row in enumerate(values, begin):
            for sensor, value in enumerate(row):
                reading = {"sensor_id": f"pump-{sensor}", "timestamp": self.begin_ms + STEP_MS * step}
                body = json.dumps({**reading, "value": round(float(value), 4)}).encode()
                messages.append(Message(topic, f"pump-{sensor}".encode(), body))
        produce(self.settings.kafka, messages)

    def events(self) -> list[dict[str, Any]]:
        """All that was told so far."""
        kafka = self.settings.kafka
        return [json.loads(record.value or b"") for record in read_topic(kafka, kafka.events_topic)]

    def trainer(self, registry: Registry) -> Trainer:
        """A trainer in this process."""
        return Trainer(self.settings, registry, quiet)

    def command(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """The trainer as a user types it; `more` are settings, with `__` between levels."""
        kafka, redis = self.settings.kafka, self.settings.redis
        chosen = {
            "kafka__bootstrap_servers": kafka.bootstrap_servers,
            "kafka__readings_topic": kafka.readings_topic,
            "kafka__alerts_topic": kafka.alerts_topic,
            "kafka__feedback_topic": kafka.feedback_topic,
            "kafka__events_topic": kafka.events_topic,
            "kafka__group_id": kafka.group_id,
            "redis__url": redis.url.get_secret_value(),
            "redis__prefix": redis.prefix,
            "detector__model": "moving-z",
            "detector__window": str(WINDOW),
            "detector__budget": "1 per 1000 readings",
            "trainer__directory": str(self.settings.trainer.directory),
            **more,
        }
        given = {f"STREAM_DETECTOR_{name.upper()}": value for name, value in chosen.items()}
        return subprocess.Popen(
            [COMMAND, "trainer", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextlib.contextmanager
def quiet() -> Iterator[Callable[[str], Progress]]:
    """Progress for nobody."""
    yield lambda name: lambda done, total, loss: None


def noise(steps: int = STEPS, seed: int = 0) -> np.ndarray:
    """Sensors about a slow wave."""
    values = np.random.default_rng(seed).normal(size=(steps, SENSORS))
    return values + 2 * np.sin(np.arange(steps) / 9)[:, None]


@pytest.fixture
def scene(kafka: str, redis_url: str, topic: str, tmp_path: Path) -> Scene:
    """Topics that exist and are empty."""
    settings = Settings(
        detector=DetectorSettings(model="moving-z", window=WINDOW, budget="1 per 1000 readings"),
        kafka=own_topics(kafka, topic),
        redis=RedisSettings.model_validate({"url": redis_url, "prefix": topic}),
        trainer=TrainerSettings(directory=tmp_path / "checkpoints", steps=30),
    )
    names = settings.kafka
    ensure_topics(names, {names.readings_topic: 2, names.alerts_topic: 1, names.feedback_topic: 1})
    return Scene(settings, round(time.time() * 1000) - STEP_MS * STEPS)


@pytest.fixture
def registry(scene: Scene) -> Iterator[Registry]:
    """The test's registry."""
    with open_registry(scene.settings) as opened:
        yield opened


def told(process: subprocess.Popen[str], limit_s: float = 60) -> str:
    """What a command printed until it ended."""
    try:
        return process.communicate(timeout=limit_s)[0]
    finally:
        process.kill()


def read_until(process: subprocess.Popen[str], text: str, limit_s: float = 60) -> str:
    """What a command prints until a text is in it."""
    found, timer = "", threading.Timer(limit_s, process.kill)
    timer.start()
    for line in process.stdout or ():
        found += line
        if text in line:
            timer.cancel()
            return found
    raise AssertionError(f"{text!r} did not come:\n{found}")


def test_once_promotes_what_is_not_worse(scene: Scene, registry: Registry) -> None:
    """From a topic with history to a champion, with its decision kept and told."""
    scene.send(noise())
    process = scene.command("--once")
    text = told(process)
    assert process.returncode == 0, text
    assert f"read {STEPS * SENSORS} readings" in text
    digest = registry.champion(LINE)
    version = next(one for one in registry.versions(LINE) if one.digest == digest)
    assert version.decision["passed"] is True
    assert version.decision["status"] == "promoted"
    assert version.decision["numbers"]["planted"] > 0
    assert version.trained_on.sensors == SENSORS
    assert set(registry.get(digest or "").scaler) == {f"pump-{i}" for i in range(SENSORS)}
    event = scene.events()[-1]
    assert event["type"] == "model.promoted"
    assert event["digest"] == f"sha256:{digest}"
    assert event["line"] == {"key": LINE.key, "model": "moving-z", "channels": ["value"]}
    assert event["numbers"] == version.decision["numbers"]
    assert version.parent and event["parent"] == f"sha256:{version.parent}"


def test_a_poisoned_refresh_is_never_promoted(scene: Scene, registry: Registry) -> None:
    """Shifts through 30 % of what is trained on: the champion stays, the refused version is kept with its reasons."""
    scene.send(noise())
    scene.trainer(registry).once()
    before = registry.champion(LINE)
    bad = noise(STEPS, seed=1)
    trained = round(STEPS * (1 - HELD_SHARE))
    bad[:trained][np.arange(trained) % 40 < 12] += 9
    scene.send(bad, begin=STEPS)
    chosen = scene.settings.trainer.model_copy(update={"max_readings": STEPS * SENSORS})
    quality = scene.settings.quality.model_copy(update={"clock_ahead": "2d"})
    settings = scene.settings.model_copy(update={"trainer": chosen, "quality": quality})
    assert Trainer(settings, registry, quiet).once().outcome == {LINE: "refused"}
    assert registry.champion(LINE) == before
    newest = registry.versions(LINE)[0]
    assert (newest.status, newest.decision["passed"], newest.parent) == ("refused", False, before)
    assert scene.events()[-1]["type"] == "model.refused"
    assert any("too few" in reason for reason in scene.events()[-1]["reasons"])


def test_after_a_change_it_waits_until_there_is_enough(scene: Scene, registry: Registry) -> None:
    """Drift is told at once; weights that know more of before it than of after it are not even trained."""
    scene.send(noise())
    scene.trainer(registry).once()
    before = registry.champion(LINE)
    scene.send(noise(150, seed=1) + 12, begin=STEPS)
    quality = scene.settings.quality.model_copy(update={"clock_ahead": "2d"})
    trainer = Trainer(scene.settings.model_copy(update={"quality": quality}), registry, quiet)
    assert trainer.once().outcome == {LINE: "postponed"}
    assert registry.champion(LINE) == before
    assert len(registry.versions(LINE)) == 1
    assert [event["type"] for event in scene.events()] == ["model.promoted", "drift"]
    scene.send(noise(150, seed=2) + 12, begin=STEPS + 150)
    assert trainer.once().outcome[LINE] != "postponed"
    assert len(registry.versions(LINE)) == 2


@pytest.mark.parametrize(("promotion", "status"), [("shadow", "shadow"), ("manual", "challenger")])
def test_promotion_can_be_left_to_others(scene: Scene, registry: Registry, promotion: str, status: str) -> None:
    """What passed is kept as a challenger, and told; nothing is put in use."""
    scene.send(noise())
    chosen = scene.settings.trainer.model_copy(update={"promotion": promotion})
    trainer = Trainer(scene.settings.model_copy(update={"trainer": chosen}), registry, quiet)
    assert trainer.once().outcome == {LINE: status}
    assert registry.champion(LINE) is None
    (version,) = registry.versions(LINE)
    assert (version.status, version.decision["status"], version.decision["passed"]) == (status, status, True)
    assert scene.events()[-1]["type"] == "model.trained"
    assert [shadow.digest for shadow in registry.shadows().values()] == ([version.digest] if status == "shadow" else [])


def test_a_shadow_is_decided_on_between_rounds(scene: Scene, registry: Registry) -> None:
    """By whichever trainer is at work when workers have seen enough: it goes on from what the registry holds."""
    scene.send(noise())
    shadowing = {"trainer__promotion": "shadow", "trainer__interval": "1h", "trainer__shadow_for": "10m"}
    told(scene.command("--once", **shadowing))
    (shadow,) = registry.shadows().values()
    counts = {"windows": 500, "readings": 500, "sensors": 4, "challenger": 2, "champion": 2}
    assert registry.tally(shadow, "a:1", Tally(trial=1, span_ms=4 * 9 * STEP_MS, **counts))
    process = scene.command(**shadowing)
    read_until(process, "the next training comes in")  # on the same readings it has trained the same weights
    assert list(registry.shadows().values()) == [shadow]
    assert (registry.champion(LINE), registry.counted(shadow).windows) == (None, 500)
    began = time.monotonic()
    registry.tally(shadow, "a:1", Tally(trial=1, span_ms=4 * 10 * STEP_MS, **counts))
    text = read_until(process, "beside the champion it would have raised 2 alarms", 20)
    assert time.monotonic() - began < 10
    assert f"{shadow.digest[:12]} promoted" in text
    assert (registry.champion(LINE), registry.shadows()) == (shadow.digest, {})
    process.send_signal(signal.SIGTERM)
    told(process, 10)
    assert process.returncode == 0
    event = scene.events()[-1]
    assert (event["type"], event["digest"]) == ("model.promoted", f"sha256:{shadow.digest}")
    assert (event["numbers"]["alarms"], event["numbers"]["champion_alarms"]) == (2, 2)


def test_drift_is_told_and_followed(scene: Scene, registry: Registry) -> None:
    """With its numbers; the new weights know nothing of what was before it."""
    scene.send(noise())
    scene.trainer(registry).once()
    before = registry.champion(LINE)
    scene.send(noise(STEPS, seed=2) + 12, begin=STEPS)
    quality = scene.settings.quality.model_copy(update={"clock_ahead": "2d"})
    trainer = Trainer(scene.settings.model_copy(update={"quality": quality}), registry, quiet)
    assert trainer.once().outcome == {LINE: "promoted"}
    (event,) = (one for one in scene.events() if one["type"] == "drift")
    assert event["moved"] == event["sensors"] == SENSORS
    assert event["digest"] == f"sha256:{before}"
    assert "have moved" in event["reasons"][0]
    version = registry.versions(LINE)[0]
    assert version.status == "champion"
    assert version.trained_on.start >= scene.moment(STEPS)


def test_drift_brings_the_next_round_forward(scene: Scene, registry: Registry) -> None:
    """A long-running trainer trains anew well before its interval is over; SIGTERM ends it with 0."""
    scene.send(noise())
    process = scene.command(trainer__interval="40s", quality__clock_ahead="2d", trainer__history="7d")
    read_until(process, "the next training comes in 40 s")
    first, began = registry.champion(LINE), time.monotonic()
    scene.send(noise(STEPS, seed=2) + 12, begin=STEPS)
    read_until(process, "drift", 30)
    text = read_until(process, "the next training comes in", 30)
    assert time.monotonic() - began < 35
    assert "promoted" in text or "refused" in text, text
    assert first is not None
    process.send_signal(signal.SIGTERM)
    assert told(process, 10)
    assert process.returncode == 0


def test_it_stops_at_once_and_goes_on_where_it_was(scene: Scene, registry: Registry) -> None:
    """SIGTERM in the middle of a training ends it with 0, a SIGKILL ends it too; the next one takes both up."""
    scene.send(noise())
    heavy = {"detector__model": "encoder", "trainer__steps": "4000"}
    place = Path(scene.settings.trainer.directory or "")
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = scene.command("--once", **heavy)
        read_until(process, "read ")
        kept = {path.stat().st_mtime_ns for path in place.glob("*.safetensors")}
        deadline = time.monotonic() + 40
        while {path.stat().st_mtime_ns for path in place.glob("*.safetensors")} <= kept:
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(number)
        text = told(process, 20)
        assert time.monotonic() - began < 8
        assert process.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL), text
    assert registry.lines() == []
    (path,) = place.glob("*.safetensors")
    assert _done(path) >= 40


def _done(path: Path) -> int:
    """Steps that a checkpoint has behind it."""
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    return int(json.loads(header["__metadata__"]["facts"])["done"])


def test_a_second_trainer_waits(scene: Scene, registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    """It says so, works as soon as the first has ended, and writes nothing under a lease that is over."""
    scene.send(noise())
    caplog.set_level(logging.INFO, "stream_detector")
    token = registry.lease(lease.NAME, "somebody", 30)
    assert token
    outcome: list[object] = []
    thread = threading.Thread(target=lambda: outcome.append(scene.trainer(registry).once().outcome), daemon=True)
    thread.start()
    time.sleep(1.5)
    assert "another trainer (somebody) is at work" in caplog.text
    assert registry.lines() == []
    registry.release(token)
    thread.join(30)
    assert outcome == [{LINE: "promoted"}]
    assert registry.holder(lease.NAME) is None, "the lease is given back"


def test_a_trainer_that_lost_its_lease_writes_nothing(
    scene: Scene, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when it notices only as it writes."""
    scene.send(noise())
    monkeypatch.setattr(lease, "LEASE_S", 0.2)
    monkeypatch.setattr(lease, "RENEW_S", 1000.0)

    @contextlib.contextmanager
    def slow() -> Iterator[Callable[[str], Progress]]:
        time.sleep(0.6)
        yield lambda name: lambda done, total, loss: None

    with pytest.raises(FencedError):
        Trainer(scene.settings, registry, slow).once()
    assert registry.lines() == []


def test_incidents_and_answers_are_read(scene: Scene) -> None:
    """From their topics; what is no record is passed over; reading is bounded, and counted."""
    kafka = scene.settings.kafka
    scene.send(noise(200))
    begin, end = scene.moment(50), scene.moment(60)
    told_alerts = [_alert("1", begin, end), _alert("2", begin, None)]
    answer = Feedback(feedback_id="f", alert_id="1", verdict="false_positive", sensor_id="pump-1")
    produce(kafka, [Message(kafka.alerts_topic, b"k", encode(one)) for one in told_alerts])
    produce(
        kafka, [Message(kafka.alerts_topic, b"k", b"nonsense"), Message(kafka.feedback_topic, b"k", encode(answer))]
    )
    produce(kafka, [Message(kafka.readings_topic, b"k", b"nonsense")])
    weights = Weights(WINDOW).artifact
    now_ms = round(time.time() * 1000)
    recent = history.read(scene.settings, weights, now_ms, 86_400_000)
    assert (recent.messages, recent.readings, recent.rejected, recent.skipped) == (
        200 * SENSORS + 1,
        200 * SENSORS,
        1,
        0,
    )
    assert [one.alert_id for one in recent.incidents] == ["2"]
    assert recent.answers == [answer]
    (found,) = recent.histories.values()
    assert len(found.readings) == 200 * SENSORS
    few = history.read(scene.settings, weights, now_ms, 86_400_000, readings=20)
    assert len(next(iter(few.histories.values())).readings) <= 20
    assert few.messages < 20 * history.MESSAGES_A_READING + 10
    assert few.skipped == recent.messages - few.messages
    assert not history.read(scene.settings, weights, now_ms + 10 * 86_400_000, 86_400_000).histories


def _alert(alert_id: str, begin: str, end: str | None) -> Alert:
    plain = {
        "alert_id": alert_id,
        "seq": 0,
        "kind": "anomaly",
        "event": "closed" if end else "opened",
        "status": "resolved" if end else "firing",
        "close_reason": "recovered" if end else None,
        "severity": "warning",
        "sensor_id": "pump-1",
        "labels": {},
        "summary": "",
        "starts_at": begin,
        "ends_at": end,
        "window": Interval(begin, end or begin),
        "detected_at": None,
        "score": 1.0,
        "peak_score": 1.0,
        "p_value": 0.1,
        "threshold": None,
        "channels": [],
        "model": None,
    }
    return msgspec.convert(msgspec.to_builtins(plain), Alert)


def test_no_history_is_said(scene: Scene, registry: Registry) -> None:
    """An empty topic, too few readings, a missing topic: one sentence, exit code 1; a wrong setting: 2."""
    with pytest.raises(StreamDetectorError, match="there is no history yet") as empty:
        scene.trainer(registry).once()
    assert empty.value.exit_code == 1
    scene.send(noise(WINDOW))
    with pytest.raises(StreamDetectorError, match="the longest sensor has 16 readings of the last 7d, 240 are") as few:
        scene.trainer(registry).once()
    assert few.value.exit_code == 1
    missing = scene.command("--once", kafka__readings_topic="no-such-topic")
    wrong = scene.command("--once", trainer__interval="soon")
    text = told(missing)
    assert missing.returncode == 1
    assert "error: there is no topic no-such-topic" in text
    text = told(wrong)
    assert wrong.returncode == 2
    assert "error: setting trainer.interval: the span 'soon' cannot be read" in text
    assert "Traceback" not in text


def test_a_corrupt_champion_is_said(scene: Scene, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """New weights are held against nothing else instead; the line waits for a person."""
    scene.send(noise())
    scene.trainer(registry).once()
    before = registry.versions(LINE)

    def damaged(digest: str) -> Any:
        raise ArtifactError("the artifact is damaged")

    monkeypatch.setattr(registry, "get", damaged)
    with pytest.raises(StreamDetectorError, match="models rollback") as error:
        scene.trainer(registry).once()
    assert error.value.exit_code == 1
    assert registry.versions(LINE) == before
