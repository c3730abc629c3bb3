"""A bare loop of confluent-kafka that polls and decodes: `... BROKER TOPIC READINGS`.

Runs where confluent-kafka is installed. Prints readings and seconds as JSON, for polling alone and with `json.loads`;
the seconds count from the first message on.
"""

from __future__ import annotations

import json
import sys
import time
import uuid

from confluent_kafka import Consumer

LIMIT_S = 120.0


def loop(broker: str, topic: str, readings: int, decode: bool) -> float:
    """Seconds for so many messages."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": f"loop-{uuid.uuid4().hex[:8]}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 262_144,
        }
    )
    consumer.subscribe([topic])
    left, began_s, until_s = readings, 0.0, time.perf_counter() + LIMIT_S
    while left > 0 and time.perf_counter() < until_s:
        records = consumer.consume(5_000, timeout=0.2)
        began_s = began_s or (time.perf_counter() if records else 0.0)
        left -= len(records)
        if decode:
            for record in records:
                json.loads(record.value())
        else:
            for record in records:
                record.value()
    seconds = time.perf_counter() - began_s
    consumer.close()
    if left > 0:
        raise SystemExit(f"{left} messages did not come within {LIMIT_S:g} s")
    return seconds


def main() -> None:
    """Both loops, three times in turn; the quicker of each counts."""
    broker, topic, readings = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rounds = [(loop(broker, topic, readings, False), loop(broker, topic, readings, True)) for _ in range(3)]
    poll, both = (min(side) for side in zip(*rounds, strict=True))
    print(json.dumps({"readings": readings, "seconds": both, "poll_seconds": poll}))


if __name__ == "__main__":
    main()
