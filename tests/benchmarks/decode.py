"""Speed of decoding, as ratios to what decodes JSON and does nothing with it, within one run.

    python tests/benchmarks/decode.py [--output tests/benchmarks/decode.md]

Batches of messages of 1,000 sensors go through `Decoder.decode`, which checks them and gives columns. Held against
it: a loop of `json.loads`, and a loop of `msgspec.json.decode` without a type. The three take turns, the quickest
round of each counts. Packed columns are held against the same readings in JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import msgspec
import numpy as np

from stream_detector.packed import pack
from stream_detector.records import format_time
from stream_detector.streaming.decode import Decoder

SENSORS = 1_000
CHANNELS = ("temperature", "vibration", "pressure", "current")
START_MS = 1_767_571_200_000
Message = dict[str, object]


def single(i: int, channels: int, text: bool = False) -> Message:
    """One reading, of one channel or several."""
    time_ms = START_MS + i // SENSORS * 1_000 + i % 1_000
    values = np.random.default_rng(i).normal(50, 5, channels).round(3).tolist()
    message: Message = {
        "sensor_id": f"machine-{i % SENSORS:03}",
        "timestamp": format_time(time_ms) if text else time_ms,
    }
    if channels == 1:
        return {**message, "value": values[0]}
    return {**message, "sensor_id": f"line-{i % SENSORS:03}", "values": dict(zip(CHANNELS, values, strict=False))}


def many(i: int, channels: int, readings: int = 50) -> Message:
    """Many readings of one sensor."""
    times = [START_MS + (i // SENSORS * readings + j) * 1_000 for j in range(readings)]
    values = np.random.default_rng(i).normal(50, 5, (readings, channels)).round(3).tolist()
    names = CHANNELS[:channels]
    return {"sensor_id": f"machine-{i % SENSORS:03}", "timestamps": times, "values": values, "channels": names}


def packed(i: int, channels: int, sensors: int, readings: int) -> bytes:
    """Many readings of one sensor, or of several in turn, as packed columns."""
    values = np.random.default_rng(i).normal(50, 5, (readings, channels)).round(3)
    times = START_MS + 1_000 * (i * readings + np.arange(readings))
    ids = [f"machine-{(i + j) % SENSORS:03}" for j in range(sensors)]
    return pack(ids, times, values, CHANNELS[:channels], np.arange(readings) % sensors)


CASES: dict[str, tuple[int, int, Callable[[int], Message]]] = {
    "one reading, 1 channel": (5_000, 1, lambda i: single(i, 1)),
    "one reading, 1 channel, times as text": (5_000, 1, lambda i: single(i, 1, text=True)),
    "one reading, 4 channels": (5_000, 1, lambda i: single(i, 4)),
    "one reading, 1 and 4 channels by turns": (5_000, 1, lambda i: single(i, 4 if i % 2 else 1)),
    "one reading, 1 channel, every 100th unusable": (5_000, 1, lambda i: single(i, 1) if i % 100 else {"value": 1}),
    "50 readings, 1 channel": (400, 50, lambda i: many(i, 1)),
    "50 readings, 4 channels": (400, 50, lambda i: many(i, 4)),
}
"""Messages in a batch, readings in a message, and how a message is made."""
PACKED: dict[str, tuple[int, int, int, int]] = {
    "packed: 50 readings, 1 channel": (400, 50, 1, 1),
    "packed: 50 readings, 4 channels": (400, 50, 4, 1),
    "packed: 1,000 readings, 4 channels": (20, 1_000, 4, 1),
    "packed: 1,000 readings of 100 sensors, 4 channels": (20, 1_000, 4, 100),
}
"""Messages in a batch, readings and channels and sensors of a message; as JSON they are messages of one sensor."""


def seconds(values: list[bytes], texts: list[bytes], rounds: int) -> tuple[float, float, float]:
    """The quickest round of the decoder, and, with texts of JSON, of json.loads and of msgspec."""
    decoder = Decoder(lambda _, offered: offered)
    decoder.decode(values)  # the sensors of a running worker are known
    ways: tuple[Callable[[], object], ...] = (
        lambda: decoder.decode(values),
        lambda: [json.loads(value) for value in texts],
        lambda: [msgspec.json.decode(value) for value in texts],
    )
    best = [float("inf")] * len(ways)
    for _ in range(rounds):
        for way, run in enumerate(ways):
            start = time.perf_counter()
            run()
            best[way] = min(best[way], time.perf_counter() - start)
    return best[0], best[1], best[2]


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--rounds", type=int, default=40, help="rounds measured for each kind of message")
    args = parser.parse_args()
    lines = [
        "# Decoding of readings",
        "",
        f"`python tests/benchmarks/decode.py --output tests/benchmarks/decode.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, one thread. Time of the "
        "decoder (checks and columns included) against decoding the JSON alone; less is faster. Packed columns stand "
        "against the same readings in JSON.",
        "",
        "| message | readings a second | time against `json.loads` | time against bare `msgspec.json.decode` |",
        "| --- | ---: | ---: | ---: |",
    ]
    cases: list[tuple[str, int, list[bytes], list[bytes]]] = []
    for name, (count, readings, make) in CASES.items():
        texts = [json.dumps(make(i)).encode() for i in range(count)]
        cases.append((name, count * readings, texts, texts))
    for name, (count, readings, channels, sensors) in PACKED.items():
        each = readings // sensors
        texts = [json.dumps(many(i, channels, each)).encode() for i in range(count * sensors)]
        values = [packed(i, channels, sensors, readings) for i in range(count)]
        cases.append((name, count * readings, values, texts))
    for name, total, values, texts in cases:
        ours, plain, bare = seconds(values, texts, args.rounds)
        lines.append(f"| {name} | {total / ours:,.0f} | {ours / plain:.2f} | {ours / bare:.2f} |")
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
