"""The registry keeps its word in all of its places: a directory, a real server, and a cluster of them."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
import torch
from pydantic import SecretStr

from stream_detector.errors import ArtifactError, FencedError, StoreError
from stream_detector.models.artifact import Artifact, SensorSeed, TrainedOn, build
from stream_detector.settings import ModelsSettings, RedisSettings, Settings
from stream_detector.streaming.registry import Line, Registry, Tally, open_registry
from stream_detector.streaming.registry.directory import DirectoryPlace
from stream_detector.streaming.registry.redis_place import CHUNK_BYTES, UPLOAD_SECONDS, RedisPlace
from stream_detector.streaming.store.connection import Patience

CHANNELS = ("vibration", "temperature")
LINE = Line("encoder", CHANNELS)
DAY = 86_400.0
QUICK = Patience(connect_s=1.0, answer_s=5.0, attempts=2)


def artifact_of(seed: int = 0, width: int = 8, **given: Any) -> Artifact:
    """A small encoder with random weights."""
    torch.manual_seed(seed)
    return Artifact(
        model=build("encoder", {"window": 16, "channels": 2, "width": width, "feedforward": width, "layers": 1}),
        channels=CHANNELS,
        scaler={"pump-7": SensorSeed([1.0, 2.0], [0.5, 0.25], -3.0, 0.5)},
        calibration=None,
        trained_on=TrainedOn("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 1000, 1),
        **{"metrics": {"fit_loss": 0.5}, **given},
    )


SMALL = [artifact_of(seed) for seed in range(12)]
DIGESTS = [artifact.digest for artifact in SMALL]


@dataclass
class Shelf:
    """A place of a test's own, as several processes see it: each opens a registry of its own."""

    settings: Settings
    root: Path
    client: redis.Redis
    now: float = 1_800_000_000.0
    opened: list[Registry] = field(default_factory=list)

    @property
    def in_redis(self) -> bool:
        """Whether it is the server."""
        return not self.settings.models.registry

    def open(self) -> Registry:
        """Another process's registry, by the test's clock."""
        place = RedisPlace(self.settings.redis, QUICK) if self.in_redis else DirectoryPlace(self.root, lambda: self.now)
        self.opened.append(Registry(place, lambda: self.now))
        return self.opened[-1]

    def kept(self) -> set[str]:
        """The digests of the artifacts that are really there."""
        if self.in_redis:
            start = f"{self.settings.redis.prefix}:{{models}}:artifact:"
            return {key.decode().removeprefix(start) for key in self.client.scan_iter(f"{start}*")}
        return {path.name for path in (self.root / "artifacts").glob("*")}

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, for leases: the server has a clock of its own."""
        self.now += seconds
        if self.in_redis:
            time.sleep(seconds)


@pytest.fixture(params=["directory", "redis", "cluster"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    """The place, empty; its keys are taken away in the end."""
    root, url, kind = tmp_path / "registry", "", redis.Redis
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
    elif request.param == "cluster":
        url, kind = request.getfixturevalue("cluster").url, redis.RedisCluster
    prefix = f"test-{secrets.token_hex(6)}"
    settings = Settings(
        models=ModelsSettings(registry="" if url else str(root)),
        redis=RedisSettings(
            url=SecretStr(url or "redis://127.0.0.1:1/0"), prefix=prefix, cluster=kind is redis.RedisCluster
        ),
    )
    with kind.from_url(url or "redis://127.0.0.1:1/0") as client:
        found = Shelf(settings, root, client)
        yield found
        for registry in found.opened:
            registry.close()
        for key in client.scan_iter(f"{prefix}:*") if url else ():
            client.delete(key)


def test_what_is_put_is_had_back(shelf: Shelf) -> None:
    """Weights, scale, calibration and span by another process; metrics, parent and decision with the version."""
    parent = shelf.open().put(SMALL[1], LINE)
    decision = {"passed": True, "recall": {"champion": 0.5, "challenger": 0.75}, "nothing": float("nan")}
    digest = shelf.open().put(SMALL[0], LINE, parent=f"sha256:{parent}", decision=decision)
    other = shelf.open()
    had = other.get(f"sha256:{digest}")
    windows = torch.randn(3, 16, 2)
    assert torch.equal(had.model.score(windows, 1).score, SMALL[0].model.score(windows, 1).score)
    assert (had.info, had.channels, had.scaler, had.trained_on) == (
        SMALL[0].info,
        CHANNELS,
        SMALL[0].scaler,
        SMALL[0].trained_on,
    )
    assert (had.parent, had.decision["recall"]) == (parent, decision["recall"])
    newest, oldest = other.versions(Line("encoder", CHANNELS[::-1]))
    assert (newest.digest, newest.parent, newest.status, newest.metrics) == (
        digest,
        parent,
        "challenger",
        {"fit_loss": 0.5},
    )
    assert newest.decision == {**decision, "nothing": None}
    assert newest.created == had.created == "2027-01-15T08:00:00Z"
    assert (oldest.digest, oldest.parent, oldest.decision) == (parent, None, {})
    assert (other.lines(), other.champion(LINE), other.champions()) == ([LINE], None, {})


def test_the_same_again_changes_nothing(shelf: Shelf) -> None:
    """However often it is put; another decision is taken over, and a champion stays one."""
    registry = shelf.open()
    for _ in range(2):
        registry.put(SMALL[0], LINE, decision={"passed": True})
    before = registry.versions(LINE)
    shelf.now += 60
    registry.put(SMALL[0], LINE, decision={"passed": True})
    assert registry.versions(LINE) == before
    registry.put(SMALL[0], LINE, decision={"passed": False})
    assert [(one.status, one.created) for one in registry.versions(LINE)] == [("refused", before[0].created)]
    for _ in range(2):
        registry.promote(LINE, DIGESTS[0], "why not")
    registry.put(SMALL[0], LINE, decision={"passed": False})
    assert registry.champions()[LINE.key].generation == 1
    assert [one.status for one in registry.versions(LINE)] == ["champion"]


def test_promotions_and_the_way_back(shelf: Shelf) -> None:
    """A rollback goes to the champion before, another one further; what is not there cannot be promoted."""
    registry, other = shelf.open(), shelf.open()
    for artifact in SMALL[:3]:
        registry.put(artifact, LINE)
    with pytest.raises(ArtifactError, match="no champion before"):
        registry.rollback(LINE)
    for digest in DIGESTS[:3]:
        shelf.now += 60
        registry.promote(LINE, f"sha256:{digest}", "better")
    found = other.champions()
    assert list(found) == [LINE.key]
    assert (found[LINE.key].line, found[LINE.key].digest, found[LINE.key].generation) == (LINE, DIGESTS[2], 3)
    assert found[LINE.key].promoted_at == "2027-01-15T08:03:00Z"
    assert [one.status for one in other.versions(LINE)] == ["champion", "former", "former"]
    assert [other.rollback(LINE), other.rollback(LINE)] == [DIGESTS[1], DIGESTS[0]]
    assert (registry.champion(LINE), registry.champions()[LINE.key].generation) == (DIGESTS[0], 5)
    with pytest.raises(ArtifactError, match="nothing to go back to"):
        registry.rollback(LINE)
    registry.promote(LINE, DIGESTS[2], "again")
    assert registry.rollback(LINE) == DIGESTS[0]
    for line, digest in ((LINE, DIGESTS[5]), (Line("pumps", CHANNELS), DIGESTS[0])):
        with pytest.raises(ArtifactError, match=f"has no version {digest[:12]}"):
            registry.promote(line, digest, "never put")
    with pytest.raises(ArtifactError, match=f"no version {DIGESTS[5][:12]} in the registry"):
        registry.get(DIGESTS[5])


def test_lines_are_apart(shelf: Shelf) -> None:
    """One artifact in two lines: each has its own champion; weights that a line cannot use are refused."""
    registry, named = shelf.open(), Line("pumps", CHANNELS)
    for line in (LINE, named):
        registry.put(SMALL[0], line)
    registry.promote(named, DIGESTS[0], "good")
    assert (registry.champion(LINE), registry.champion(named)) == (None, DIGESTS[0])
    assert registry.lines() == [LINE, named]
    assert [(line, it.status) for line, it in registry.find(DIGESTS[0][:6])] == [
        (LINE, "challenger"),
        (named, "champion"),
    ]
    for line, said in ((Line("encoder", ("vibration",)), "channels"), (Line("moving-z", CHANNELS), "model encoder")):
        with pytest.raises(ArtifactError, match=said):
            registry.put(SMALL[0], line)


def test_what_nobody_needs_goes(shelf: Shelf) -> None:
    """The newest 10 stay, the champion, the one before, and what was champion within 30 days; other lines count."""
    registry, named = shelf.open(), Line("pumps", CHANNELS)
    registry.put(SMALL[0], named)
    for i, artifact in enumerate(SMALL[:6]):
        registry.put(artifact, LINE)
        if i < 4:
            registry.promote(LINE, DIGESTS[i], "")
            shelf.now += 9 * DAY
    registry.put(SMALL[5], named)
    shelf.now += 9 * DAY
    for seed in range(100, 110):
        registry.put(artifact_of(seed), LINE)
    # 0 was champion up to 36 days ago, 1 up to 27 days ago, 3 is it still; 4 and 5 never were.
    kept = {one.digest for one in registry.versions(LINE)}
    assert (kept & set(DIGESTS), len(kept)) == (set(DIGESTS[1:4]), 13)
    assert shelf.kept() == kept | {DIGESTS[0], DIGESTS[5]}
    with pytest.raises(ArtifactError):
        registry.get(DIGESTS[4])
    assert [registry.get(DIGESTS[i]).digest for i in (0, 5)] == [DIGESTS[0], DIGESTS[5]]
    assert [registry.rollback(LINE), registry.rollback(LINE)] == [DIGESTS[2], DIGESTS[1]]
    with pytest.raises(ArtifactError, match="nothing to go back to"):
        registry.rollback(LINE)


def test_the_champion_and_the_one_before_stay(shelf: Shelf) -> None:
    """However long ago they were promoted, and however many came since."""
    registry = shelf.open()
    for i in range(3):
        registry.promote(LINE, registry.put(SMALL[i], LINE), "")
    shelf.now += 100 * DAY
    for seed in range(100, 110):
        registry.put(artifact_of(seed), LINE)
    assert {one.digest for one in registry.versions(LINE)} & set(DIGESTS) == {DIGESTS[1], DIGESTS[2]}
    assert registry.rollback(LINE) == DIGESTS[1]


def test_an_artifact_that_goes_meanwhile(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer found it there, and another one drops it before the first has written: it comes along all the same."""
    registry = shelf.open()
    monkeypatch.setattr(registry, "_is_whole", lambda digest: True)
    registry.put(SMALL[0], LINE)
    assert registry.get(DIGESTS[0]).digest == DIGESTS[0]


def test_many_at_once(shelf: Shelf) -> None:
    """Two writers put and promote in the same line: nothing is lost, and there is one champion at any time."""
    errors: list[BaseException] = []

    def work(some: list[Artifact]) -> None:
        registry = shelf.open()
        try:
            for artifact in some:
                registry.promote(LINE, registry.put(artifact, LINE), "mine is better")
        except BaseException as error:  # the test tells it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(SMALL[i : i + 5],)) for i in (0, 5)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = shelf.open().versions(LINE)
        assert sum(one.status == "champion" for one in found) <= 1
    registry = shelf.open()
    assert not errors
    assert {one.digest for one in registry.versions(LINE)} == set(DIGESTS[:10])
    assert registry.champions()[LINE.key].generation == 10
    assert [one.digest for one in registry.versions(LINE) if one.status == "champion"] == [registry.champion(LINE)]
    for _ in range(9):
        registry.rollback(LINE)


def test_a_lease_fences(shelf: Shelf) -> None:
    """One holder at a time; one whose lease ran out, or was given up, writes nothing even if nobody else came."""
    registry, other = shelf.open(), shelf.open()
    token = registry.lease("trainer", "a", 0.4)
    assert token is not None
    assert (other.lease("trainer", "b", 9), other.holder("trainer")) == (None, "a")
    assert registry.put(SMALL[0], LINE, lease=token) == DIGESTS[0]
    assert registry.renew(token, 0.4)
    shelf.pass_seconds(0.5)
    assert (registry.renew(token, 9), registry.holder("trainer")) == (False, None)

    def fenced() -> None:
        for write in (
            lambda: registry.put(SMALL[1], LINE, lease=token),
            lambda: registry.put(SMALL[0], LINE, lease=token),
            lambda: registry.promote(LINE, DIGESTS[0], "late", lease=token),
        ):
            with pytest.raises(FencedError, match="lease 'trainer'"):
                write()
        assert shelf.kept() == {DIGESTS[0]}
        assert [one.status for one in registry.versions(LINE)] == ["challenger"]

    fenced()
    second = other.lease("trainer", "b", 30)
    assert second is not None
    fenced()
    registry.release(token)
    assert (registry.lease("trainer", "b", 9), other.holder("trainer")) == (None, "b")
    other.promote(LINE, DIGESTS[0], "in time", lease=second)
    other.release(second)
    assert (other.holder("trainer"), registry.lease("trainer: two", "c", 9) is None) == (None, False)
    for wrong in (second, "trainer", "", "trainer:"):
        with pytest.raises(FencedError):
            registry.promote(LINE, DIGESTS[0], "late", lease=wrong)


def in_child(work: Callable[[], None]) -> int:
    """How a process that does the work ends."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
        pytest.fail("the writer hangs")
    return child.exitcode


def put_and_die(shelf: Shelf, artifact: Artifact, steps: int) -> None:
    """Put and promote; end by SIGKILL just before a step that the place would see."""
    left = [steps]

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    # Threads of the numeric library do not survive a fork.
    torch.set_num_threads(1)
    registry = shelf.open()
    if shelf.in_redis:
        place: Any = registry._place
        send = place._call

        def call(*command: Any) -> Any:
            step()
            return send(*command)

        place._call = call
    else:
        writing = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")
        sys.addaudithook(lambda event, given: step() if event in writing and str(shelf.root) in str(given) else None)
    registry.promote(LINE, registry.put(artifact, LINE), "new")
    os._exit(0)


def test_killed_at_every_step(shelf: Shelf) -> None:
    """Whenever a writer is killed, what can be read is whole, and the next one clears up behind it."""
    registry = shelf.open()
    first, second = artifact_of(1), artifact_of(2, width=160)
    registry.promote(LINE, registry.put(first, LINE), "old")
    for steps in range(100):
        ended = in_child(lambda steps=steps: put_and_die(shelf, second, steps))
        versions = registry.versions(LINE)
        assert {first.digest} <= {one.digest for one in versions} <= {first.digest, second.digest}
        for digest in {one.digest for one in versions} | (shelf.kept() & {second.digest}):
            assert registry.get(digest).digest == digest
        assert registry.champion(LINE) in {one.digest for one in versions}
        if ended == 0:
            break
        registry.put(first, LINE)
        assert shelf.kept() == {one.digest for one in versions}
    assert (ended, registry.champion(LINE)) == (0, second.digest)
    assert steps > 6
    for key in shelf.client.scan_iter(f"{shelf.settings.redis.prefix}:*:upload:*") if shelf.in_redis else ():
        assert 0 < shelf.client.ttl(key) <= UPLOAD_SECONDS
    for key in shelf.client.scan_iter(f"{shelf.settings.redis.prefix}:*:artifact:*") if shelf.in_redis else ():
        assert shelf.client.ttl(key) == -1


def test_a_flipped_byte_is_found(shelf: Shelf) -> None:
    """Anywhere in the artifact; putting it again mends it for every line. In a line's record too."""
    registry, named = shelf.open(), Line("pumps", CHANNELS)
    registry.put(SMALL[0], named, decision={"passed": True})
    registry.promote(LINE, registry.put(SMALL[0], LINE, decision={"passed": True}), "good")
    whole, wrong = registry.get(DIGESTS[0]), 0
    pieces = stored(shelf)
    for name, data in pieces.items():
        for at in sorted({0, len(data) - 1, *range(7, len(data), max(1, len(data) // 24))}):
            keep(shelf, name, data[:at] + bytes([data[at] ^ 0x08]) + data[at + 1 :])
            try:
                had = registry.get(DIGESTS[0])
                registry.champion(LINE)
            except (ArtifactError, StoreError):
                wrong += 1
                continue
            # What tells nothing apart, such as a space, may be another one.
            assert (had.digest, had.metrics, had.decision, had.trained_on, had.created) == (
                whole.digest,
                whole.metrics,
                whole.decision,
                whole.trained_on,
                whole.created,
            )
        keep(shelf, name, data)
    assert wrong > 50
    name = max(pieces, key=lambda one: len(pieces[one]))
    keep(shelf, name, pieces[name][:-1])
    with pytest.raises(ArtifactError, match=r"damaged|promises"):
        registry.get(DIGESTS[0])
    registry.put(SMALL[0], LINE)
    assert registry.get(DIGESTS[0]).digest == DIGESTS[0]
    if shelf.in_redis:
        key = f"{shelf.settings.redis.prefix}:{{models}}:artifact:{DIGESTS[0]}"
        assert all(shelf.client.hexists(key, f"line:{line.key}") for line in (LINE, named))
        shelf.client.hdel(key, "0")
        with pytest.raises(ArtifactError, match="damaged in Redis"):
            registry.get(DIGESTS[0])


def stored(shelf: Shelf) -> dict[str, bytes]:
    """All that the place holds, by file, or by key and field."""
    if not shelf.in_redis:
        paths = [path for path in shelf.root.rglob("*") if path.is_file() and path.name != "lock"]
        return {str(path): path.read_bytes() for path in paths}
    found = {}
    for kind in ("lines", f"artifact:{DIGESTS[0]}"):
        key = f"{shelf.settings.redis.prefix}:{{models}}:{kind}"
        fields: Any = shelf.client.hgetall(key)
        found |= {f"{key} {name.decode()}": data for name, data in fields.items() if name == b"0" or kind == "lines"}
    return found


def keep(shelf: Shelf, name: str, data: bytes) -> None:
    """Write one of those."""
    if shelf.in_redis:
        key, _, one = name.partition(" ")
        shelf.client.hset(key, one, data)
    else:
        Path(name).write_bytes(data)


def test_large_weights(shelf: Shelf) -> None:
    """5 MB go in and out within a second or so, and no value on the server is large."""
    large = artifact_of(width=480)
    torch.manual_seed(0)
    size = len(large.pack().weights)
    assert size > 5_000_000
    registry = shelf.open()
    start = time.monotonic()
    digest = registry.put(large, LINE)
    between = time.monotonic()
    assert registry.get(digest).digest == digest
    print(f"\n{size:,} bytes: put {between - start:.3f} s, get {time.monotonic() - between:.3f} s")
    if shelf.in_redis:
        (key,) = shelf.client.scan_iter(f"{shelf.settings.redis.prefix}:*artifact*")
        lengths = [shelf.client.hstrlen(key, name) for name in shelf.client.hkeys(key)]
        assert max(lengths) == CHUNK_BYTES <= 512 * 1024


def test_a_shadow_is_tried_and_settled(shelf: Shelf) -> None:
    """One a line at a time, with what was counted of it; settled it is the champion, or refused with its numbers."""
    registry, other = shelf.open(), shelf.open()
    for artifact in SMALL[:3]:
        registry.put(artifact, LINE, decision={"passed": True, "status": "shadow", "reasons": ["good"]})
    registry.promote(LINE, DIGESTS[0], "first")
    for _ in range(2):
        registry.try_beside(LINE, f"sha256:{DIGESTS[1]}")
    registry.try_beside(LINE, DIGESTS[0])  # it is in use: there is nothing to try
    (first,) = other.shadows().values()
    assert (first.digest, first.trial, first.line) == (DIGESTS[1], 1, LINE)
    registry.put(SMALL[1], LINE, decision={"passed": True, "status": "shadow"})
    assert [one.status for one in registry.versions(LINE)] == ["challenger", "shadow", "champion"]
    for name, windows in (("a:1", 5), ("a:1", 7), ("a:2", 10), (".b/:1", 100)):
        assert other.tally(first, name, Tally(trial=1, windows=windows, sensors=windows, fault=None))
    assert (registry.counted(first).windows, registry.counted(first).sensors) == (117, 110)
    registry.try_beside(LINE, DIGESTS[2])
    (second,) = other.shadows().values()
    assert (second.digest, second.trial) == (DIGESTS[2], 2)
    assert not other.tally(first, "a:1", Tally(trial=1, windows=7))
    assert registry.counted(second) == Tally(trial=2)
    assert [(one.status, one.decision["status"]) for one in registry.versions(LINE)][:2] == [
        ("shadow", "shadow"),
        ("challenger", "challenger"),
    ]
    with pytest.raises(ArtifactError, match="has ended meanwhile"):
        registry.settle(first, True, "late", {})
    registry.settle(second, False, "too loud", {"alarms": 9})
    assert (registry.shadows(), registry.champion(LINE)) == ({}, DIGESTS[0])
    newest = registry.versions(LINE)[0]
    assert (newest.status, newest.decision) == (
        "refused",
        {"passed": False, "status": "refused", "reasons": ["good", "too loud"], "shadow": {"alarms": 9}},
    )
    registry.try_beside(LINE, DIGESTS[1])
    (third,) = registry.shadows().values()
    registry.settle(third, True, "quiet", {"alarms": 1})
    assert [one.status for one in other.versions(LINE)] == ["refused", "champion", "former"]
    assert other.versions(LINE)[1].decision["status"] == "promoted"
    assert other.rollback(LINE) == DIGESTS[0]


def test_a_trial_ends_with_the_champion(shelf: Shelf) -> None:
    """Whoever changes the champion ends it, and so does a validation that refuses the shadow; a lease fences it."""
    registry = shelf.open()
    for artifact in SMALL[:3]:
        registry.put(artifact, LINE)
    registry.promote(LINE, DIGESTS[0], "first")

    def end() -> None:
        assert registry.shadows() == {}
        assert all(one.status != "shadow" for one in registry.versions(LINE))
        registry.try_beside(LINE, DIGESTS[1])

    end()
    registry.promote(LINE, DIGESTS[2], "by hand")
    end()
    registry.rollback(LINE)
    end()
    registry.put(SMALL[1], LINE, decision={"passed": False})
    assert registry.versions(LINE)[1].status == "refused"
    end()
    (shadow,) = registry.shadows().values()
    for write in (
        lambda: registry.settle(shadow, True, "late", {}, lease="trainer:gone"),
        lambda: registry.try_beside(LINE, DIGESTS[2], lease="trainer:gone"),
    ):
        with pytest.raises(FencedError):
            write()
    assert registry.shadows() == {LINE.key: shadow}
    registry.promote(LINE, DIGESTS[1], "by hand")
    assert (registry.shadows(), registry.champion(LINE)) == ({}, DIGESTS[1])
    with pytest.raises(ArtifactError, match=f"has no version {DIGESTS[5][:12]}"):
        registry.try_beside(LINE, DIGESTS[5])


def test_the_shadow_stays(shelf: Shelf) -> None:
    """However many versions come after it."""
    registry = shelf.open()
    registry.put(SMALL[0], LINE)
    registry.try_beside(LINE, DIGESTS[0])
    for artifact in SMALL[1:]:
        registry.put(artifact, LINE)
    assert DIGESTS[0] in {one.digest for one in registry.versions(LINE)}
    assert DIGESTS[1] not in {one.digest for one in registry.versions(LINE)}


def test_champions_are_cheap(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines there are, one call tells all their champions, without their histories."""
    registry = shelf.open()
    for i in range(30):
        line = Line(f"line-{i}", CHANNELS)
        registry.promote(line, registry.put(SMALL[0], line), "")
    sent = []
    kind = redis.RedisCluster if shelf.settings.redis.cluster else redis.Redis
    real = kind.execute_command
    monkeypatch.setattr(
        kind,
        "execute_command",
        lambda self, *given, **options: sent.append(given) or real(self, *given, **options),
    )
    start = time.monotonic()
    found = registry.champions()
    print(f"\n30 champions: {(time.monotonic() - start) * 1000:.1f} ms")
    assert registry.shadows() == {}
    assert sorted(one.line.model for one in found.values()) == sorted(f"line-{i}" for i in range(30))
    assert all(key == one.line.key and one.generation == 1 for key, one in found.items())
    assert len(sent) == (2 if shelf.in_redis else 0)


def test_settings_choose_the_place(shelf: Shelf) -> None:
    """`models.registry` names a directory, or nothing and then Redis holds it."""
    with open_registry(shelf.settings) as registry:
        registry.put(SMALL[0], LINE)
    assert shelf.open().lines() == [LINE]
    assert shelf.root.exists() is not shelf.in_redis


def test_a_server_that_is_away() -> None:
    """One sentence that says what to look at."""
    nowhere = Settings(redis=RedisSettings(url=SecretStr("redis://127.0.0.1:1/0")))
    registry = Registry(RedisPlace(nowhere.redis, QUICK))
    with pytest.raises(StoreError, match="cannot be reached"):
        registry.champions()
