"""A real broker and a real store for the tests: given by the environment, else started once for all of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_detector.local import Servers, running
from tests.integration.clusters import Cluster, running_cluster
from tests.integration.streams import weights

KAFKA = os.environ.get("STREAM_DETECTOR_TEST_KAFKA", "")
REDIS = os.environ.get("STREAM_DETECTOR_TEST_REDIS", "")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Both servers; a failing start fails the tests that ask for one."""
    with running(kafka=not KAFKA, redis=not REDIS) as started:
        yield Servers(KAFKA or started.kafka, REDIS or started.redis)


@pytest.fixture(scope="session")
def kafka(servers: Servers) -> str:
    """Bootstrap server of a broker, as host:port."""
    return servers.kafka


@pytest.fixture(scope="session")
def redis_url(servers: Servers) -> str:
    """Address of a store."""
    return servers.redis


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A store of three nodes that share the keys."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def topic() -> str:
    """What the names of a test's own topics and groups begin with."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """Weights for the sensors of a plant, by their channels."""
    return weights(tmp_path_factory.mktemp("weights"))
