"""The benchmark end to end, on few readings: what it tells is complete and adds up, and it leaves nothing behind.

Speed itself is not asserted: it is the machine's.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
from kafka import KafkaAdminClient

from stream_detector.benchmark.plan import STAGES
from stream_detector.local import Servers
from tests.integration.commands import COMMAND

PATIENCE_S = 300


def benchmark(directory: Path, *arguments: object) -> dict[str, Any]:
    """Run the command; what it prints as JSON."""
    done = subprocess.run(
        [COMMAND, "benchmark", "--json", *map(str, arguments)],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if not name.startswith("STREAM_DETECTOR_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_whole_is_measured_and_nothing_is_left_behind(servers: Servers, tmp_path: Path) -> None:
    """All stages, limits, delays and memory, on a broker and a store that others use."""
    admin, store = KafkaAdminClient(bootstrap_servers=servers.kafka), redis.Redis.from_url(servers.redis)
    store.set("somebody-elses", "value")
    topics, keys = set(admin.list_topics()), set(store.scan_iter())
    sizes = ("--readings", 3_000, "--sensors", 60, "--channels", 2, "--partitions", 3, "--delays", 3)
    given = ("--kafka", servers.kafka, "--redis", servers.redis, "--model", "identity", "--stride", 2)
    found = benchmark(tmp_path, *sizes, *given)

    assert found["readings"] == 3_000
    assert found["windows"] == 1_500
    assert [one["name"] for one in found["stages"]] == list(STAGES)
    assert sum(one["share"] for one in found["stages"]) == pytest.approx(1)
    # What lies between two steps is no stage's, and next to nothing.
    assert sum(one["seconds"] for one in found["stages"]) == pytest.approx(found["seconds"], rel=0.2)
    for one in found["stages"]:
        assert one["microseconds"] == pytest.approx(one["seconds"] / 3_000 * 1e6)
    loops = {one["name"]: one for one in found["limits"] if one["stage"] is None}
    assert set(loops) == {"poll alone", "poll and json.loads", "model alone"}
    assert all(one["a_second"] > 0 and one["ratio"] > 0 for one in found["limits"])
    assert found["memory"]["row_bytes"] > 100 * (8 + 2 * 8)
    assert found["memory"]["stored_bytes"] > 100 * (8 + 2 * 8)
    latency = found["latency"]
    assert 0 < latency["alerts"] <= latency["marked"]
    assert 0 < latency["p50_s"] <= latency["p99_s"]
    assert latency["sent_a_second"] == pytest.approx(found["readings_a_second"] / 2)

    assert {name for name in set(admin.list_topics()) - topics if not name.startswith("__")} == set()
    assert set(store.scan_iter()) == keys
    assert not [group for group in map(str, admin.list_groups()) if "stream-detector-benchmark" in group]
    admin.close()
    store.close()


@pytest.mark.parametrize("stage", ["decode", "buffers", "score", "threshold"])
def test_a_stage_alone_needs_no_broker_and_no_store(stage: str, tmp_path: Path) -> None:
    """It is the only one that is told of, with the limit that it has."""
    found = benchmark(tmp_path, "--stage", stage, "--readings", 600, "--sensors", 20, "--batched", 10, "--stride", 5)
    assert [one["name"] for one in found["stages"]] == [stage]
    assert (found["readings"], found["windows"], found["latency"]) == (600, 120, None)
    assert {one["stage"] for one in found["limits"]} == ({stage} if stage in ("decode", "score") else set())


def test_a_store_that_is_not_there_is_said(servers: Servers, tmp_path: Path) -> None:
    """One sentence, and what was made at the broker is removed."""
    command = [COMMAND, "benchmark", "--kafka", servers.kafka, "--redis", "redis://127.0.0.1:1/0", "--sensors", "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert "Redis at 127.0.0.1:1 cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    admin = KafkaAdminClient(bootstrap_servers=servers.kafka)
    assert not [topic for topic in admin.list_topics() if topic.startswith("stream-detector-benchmark")]
    admin.close()
