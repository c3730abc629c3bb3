"""The registry of weights: which artifacts there are, and which of them is in use.

Artifacts are immutable and named by their digest. A line is what `detector.model` and a sensor's channels say; it has
versions, of which one is the champion, and one may be its shadow: run beside it by workers, which count what it would
do. The newest 10 versions are kept, besides those two, the champion before, and all that were champion within the last
30 days; so weights that a worker's state names are there unless it was away for longer. It lives in Redis or in a
directory. Knows nothing of how weights are made or used.
"""

from __future__ import annotations

from pathlib import Path

from stream_detector.settings import Settings
from stream_detector.streaming.registry.directory import DirectoryPlace
from stream_detector.streaming.registry.records import Champion, Line, LineRecord, Shadow, Version, check_name
from stream_detector.streaming.registry.redis_place import RedisPlace
from stream_detector.streaming.registry.registry import Registry
from stream_detector.streaming.registry.tally import Tally


def open_registry(settings: Settings) -> Registry:
    """The registry that settings name; nothing is read or written yet."""
    place = settings.models.registry
    return Registry(DirectoryPlace(Path(place)) if place else RedisPlace(settings.redis))


__all__ = ["Champion", "Line", "LineRecord", "Registry", "Shadow", "Tally", "Version", "check_name", "open_registry"]
