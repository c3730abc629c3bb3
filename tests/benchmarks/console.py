"""The console in a browser: how quick it is with a large fleet, and its picture for the README.

    python -m tests.benchmarks.console [--output tests/benchmarks/console.md]
    python -m tests.benchmarks.console --picture deploy/console.png

The first lets a worker take in readings of 10,000 sensors, tells of 1,000 open incidents, and measures in Chromium what
a person waits for. The second takes the picture of the incident that `stream-detector demo --open` shows.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import msgspec
import numpy as np

from stream_detector.local import Servers, running
from stream_detector.records import SEVERITIES, format_time
from stream_detector.settings import QualitySettings, Settings
from stream_detector.streaming.envelope import alert_message
from stream_detector.streaming.topics import produce
from tests.browser import Browser, wait_for
from tests.integration.streams import START_MS, drain, make_topics, send, settings_for, weights
from tests.unit.test_console_view import alert

COMMAND = Path(sys.executable).with_name("stream-detector")
SENSORS, INCIDENTS, READINGS, LONG, PARTITIONS = 10_000, 1_000, 30, 20_000, 4
REPEATS = 5
ADDRESS = re.compile(r"http://\S+")
SEARCHES = ("00001", "0000", "0001", "003", "00999")
"""Each leaves another number of incidents than the one before."""
CANVAS = "document.querySelector('.drawn canvas')"
ROWS = "document.querySelectorAll('a.incident').length"
COUNT = "document.querySelector('.count').innerText"


def packet(sensor_id: str, count: int, seed: int) -> bytes:
    """Readings of a sensor in one message."""
    values = np.random.default_rng(seed).normal(size=(count, 1)).round(4)
    times = (START_MS + 1000 * np.arange(count)).tolist()
    return msgspec.json.encode(
        {"sensor_id": sensor_id, "timestamps": times, "values": values.tolist(), "channels": ["value"]}
    )


def fill(settings: Settings) -> None:
    """A fleet with state, one sensor with a long past, and incidents that go on."""
    names = [f"pump-{i:05}" for i in range(SENSORS)]
    send(settings, [(i % PARTITIONS, name.encode(), packet(name, READINGS, i)) for i, name in enumerate(names)])
    long = []
    for part in range(LONG // 500):
        values = np.random.default_rng([9, part]).normal(size=(500, 1)).round(4)
        times = (START_MS + 1000 * np.arange(500 * part, 500 * part + 500)).tolist()
        record = {"sensor_id": "long", "timestamps": times, "values": values.tolist(), "channels": ["value"]}
        long.append((0, b"long", msgspec.json.encode(record)))
    send(settings, long)
    drain(settings, PARTITIONS, limit_s=600)
    told = []
    for i, name in enumerate(names[:INCIDENTS]):
        at = format_time(START_MS + 60_000 * i)
        step = alert(name, minute=i, severity=SEVERITIES[i % 4], labels={"line": str(i % 7)}, starts_at=at)
        told.append(alert_message(step, settings.kafka.alerts_topic))
    produce(settings.kafka, told)


@contextmanager
def console(settings: Settings) -> Iterator[str]:
    """The command as it is typed; where it listens."""
    kafka = settings.kafka
    names = ("bootstrap_servers", "group_id", "readings_topic", "alerts_topic", "dead_letters_topic", "feedback_topic")
    given = {f"STREAM_DETECTOR_KAFKA__{name.upper()}": getattr(kafka, name) for name in names}
    given |= {
        "STREAM_DETECTOR_REDIS__URL": settings.redis.url.get_secret_value(),
        "STREAM_DETECTOR_REDIS__PREFIX": settings.redis.prefix,
        "STREAM_DETECTOR_DETECTOR__MODEL": settings.detector.model,
        "STREAM_DETECTOR_DETECTOR__WINDOW": str(settings.detector.window),
    }
    command = [COMMAND, "console", "--port", "0"]
    process = subprocess.Popen(command, env={**os.environ, **given}, stderr=subprocess.PIPE, text=True)
    try:
        yield address_in(process.stderr or ())
    finally:
        process.terminate()
        process.wait()


def address_in(lines: object) -> str:
    """The first address in what a command prints."""
    for line in lines:  # type: ignore[attr-defined]
        if found := ADDRESS.search(line):
            return found[0].rstrip(";.")
    raise RuntimeError("no address was printed")


def waits(browser: Browser, act: Callable[[int], object], true: Callable[[int], str]) -> str:
    """How long a person waits after an action until something holds, in ms: median and worst of several times."""
    spent = []
    for turn in range(REPEATS):
        act(turn)
        seen = f"""new Promise(done => {{ const begin = performance.now(); const look = () => {true(turn)}
            ? requestAnimationFrame(() => done(performance.now() - begin)) : setTimeout(look, 4); look(); }})"""
        spent.append(float(browser.js(seen)))
        time.sleep(1)
    return f"{np.median(spent):.0f} | {max(spent):.0f}"


def measure(address: str) -> list[str]:
    """The table's rows."""
    lines = []
    with Browser() as browser:
        browser.open(f"{address}/")
        wait_for(lambda: "1,000 open" in str(browser.js(COUNT)), "all incidents are read", 60)
        loads, paints = [], []
        for _ in range(REPEATS):
            browser.call("Network.clearBrowserCache")
            browser.open(f"{address}/")
            wait_for(lambda: int(browser.js(ROWS)) > 0, "rows are shown")
            paints.append(float(browser.js("performance.getEntriesByName('first-contentful-paint')[0].startTime")))
            loads.append(float(browser.js("performance.now()")))
        lines.append(f"| first paint of the overview, nothing cached | {np.median(paints):.0f} | {max(paints):.0f} |")
        lines.append(f"| until its rows are there | {np.median(loads):.0f} | {max(loads):.0f} |")
        before = [""]

        def narrow(turn: int) -> None:
            browser.js("document.querySelector('#filter-sensor').value = ''")
            browser.js("document.querySelector('#filter-sensor').focus()")
            before[0] = str(browser.js(COUNT))
            browser.call("Input.insertText", text=SEARCHES[turn])

        changed = waits(browser, narrow, lambda turn: f"{COUNT} !== {msgspec.json.encode(before[0]).decode()}")
        lines.append(
            f"| a letter more in the search, until the list follows (120 ms are for the next letter) | {changed} |"
        )
        browser.open(f"{address}/sensor?id=long")
        begin = time.monotonic()
        browser.see(f"{LONG:,} readings", limit_s=120)
        drawn = 1000 * (time.monotonic() - begin)
        browser.see("threshold now", limit_s=120)
        spent = 1000 * (time.monotonic() - begin)
        lines.append(f"| a sensor's {LONG:,} readings fetched and drawn | {drawn:.0f} | |")
        lines.append(f"| a sensor's {LONG:,} readings taken in again, and the latest scored | {spent:.0f} | |")
        moved = waits(browser, zoom(browser), lambda turn: f"{CANVAS}.toDataURL() !== window.before")
        lines.append(f"| zooming in the picture, until it is drawn | {moved} |")
        assert not browser.said, browser.said
    return lines


def zoom(browser: Browser) -> Callable[[int], object]:
    """Turns the wheel over the picture."""
    browser.js("document.querySelector('.drawn').scrollIntoView()")

    def turn_wheel(turn: int) -> None:
        browser.js(f"(window.before = {CANVAS}.toDataURL()).length")
        browser.call("Input.dispatchMouseEvent", type="mouseWheel", x=640, y=200, deltaX=0, deltaY=-100, modifiers=2)

    return turn_wheel


def page(lines: list[str]) -> str:
    """The page of results."""
    return f"""# The console with a large fleet

{SENSORS:,} sensors with state, {INCIDENTS:,} open incidents. Kafka, Redis, console and Chromium (headless, no GPU)
share one machine of {os.cpu_count()} cores; Python {platform.python_version()}, {date.today()}. In ms, median and worst
of {REPEATS}. Written by `python -m tests.benchmarks.console`.

| what a person waits for | median | worst |
| --- | ---: | ---: |
{chr(10).join(lines)}
"""


def picture(path: Path) -> None:
    """What the demo shows."""
    with tempfile.TemporaryDirectory() as directory:
        command = [COMMAND, "demo", "--open", "--output", f"{directory}/demo"]
        environment = {**os.environ, "BROWSER": "true", "COLUMNS": "200"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            address = address_in(process.stdout or ())
            lines = iter((process.stdout or sys.stdin).readline, "")
            while "/incident" not in address:
                address = address_in(lines)
            with Browser() as browser:
                browser.size(1200, 800)
                browser.open(address)
                browser.see("Its life", "readings", limit_s=120)
                time.sleep(3)
                browser.picture(path)
                assert not browser.said, browser.said
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("tests/benchmarks/console.md"))
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.picture:
        picture(options.picture)
        return
    with running() as servers, tempfile.TemporaryDirectory() as directory:
        settings = prepared(servers, Path(directory))
        with console(settings) as address:
            lines = measure(address)
    options.output.write_text(page(lines), encoding="utf-8")
    print("\n".join(lines))


def prepared(servers: Servers, directory: Path) -> Settings:
    """Topics and state of the fleet."""
    settings = settings_for(servers.kafka, servers.redis, "bench", weights(directory))
    calm = QualitySettings(silent_after=0)
    settings = settings.model_copy(update={"sensors": (), "quality": calm})
    make_topics(settings, PARTITIONS)
    fill(settings)
    return settings


if __name__ == "__main__":
    main()
