"""A Quix Streams application that keeps 100 readings of each sensor and computes a z-score.

`quix_app.py BROKER TOPIC READINGS`, where Quix Streams is installed, which need not be where stream-detector is. Its
scores go to the topic TOPIC-scores; with a fourth argument `exactly-once` in transactions. Prints readings and seconds
as JSON; the seconds count from the first message to the last.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import uuid
from typing import Any

from quixstreams import Application

WINDOW = 100
IDLE_S = 20.0
SEEN = [0, 0.0, 0.0]
"""Messages, and when the first and the latest came."""


def score(record: dict[str, Any], state: Any) -> dict[str, Any]:
    """The z-score of a value among the 100 before it, by running sums."""
    if not SEEN[0]:
        SEEN[1] = time.perf_counter()
    SEEN[0] += 1
    value = record["value"]
    kept, total, squares = state.get("window") or ([], 0.0, 0.0)
    z = 0.0
    if len(kept) == WINDOW:
        mean = total / WINDOW
        z = (value - mean) / max(squares / WINDOW - mean * mean, 1e-12) ** 0.5
        old = kept.pop(0)
        total, squares = total - old, squares - old * old
    kept.append(value)
    state.set("window", (kept, total + value, squares + value * value))
    SEEN[2] = time.perf_counter()
    return {"score": z}


def main() -> None:
    """Run until so many messages are worked on."""
    broker, topic, readings, *guarantee = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        app = Application(
            broker_address=broker,
            consumer_group=f"quix-{uuid.uuid4().hex[:8]}",
            auto_offset_reset="earliest",
            processing_guarantee=guarantee[0] if guarantee else "at-least-once",
            state_dir=directory,
            loglevel="ERROR",
        )
        frame = app.dataframe(app.topic(topic, value_deserializer="json"))
        frame = frame.apply(score, stateful=True)
        frame = frame.filter(lambda scored: abs(scored["score"]) > 6)
        frame.to_topic(app.topic(f"{topic}-scores", value_serializer="json"))
        app.run(count=int(readings), timeout=IDLE_S)
    print(json.dumps({"readings": SEEN[0], "seconds": SEEN[2] - SEEN[1]}))


if __name__ == "__main__":
    main()
