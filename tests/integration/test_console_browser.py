"""The console in a real browser, against a real broker, store and worker: `pytest -m browser`.

Needs a Chromium (Debian: `apt-get install chromium`); without one these tests fail and say so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from stream_detector.console.auth import COOKIE
from stream_detector.models import artifact as artifacts
from stream_detector.settings import SensorSettings, Settings
from tests.browser import Browser, wait_for
from tests.integration.consoles import CALM, FAULT, NASTY, TOKEN, at_work, calm, readings
from tests.integration.streams import Running, alerts_of, send, settings_for
from tests.integration.workers import wait_until

pytestmark = pytest.mark.browser
COMMAND = Path(sys.executable).with_name("stream-detector")
SENSOR = "pump-2"
CHANNEL = NASTY.replace('"', "'")
PHONE = 400
WITHIN_S = 2.0


@pytest.fixture
def settings(kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path], tmp_path: Path) -> Settings:
    """Settings with the test's own topics; a sensor has been calm."""
    found = settings_for(kafka, redis_url, topic, made)
    artifact = replace(artifacts.load(made["value",]), channels=(CHANNEL,), scaler={})
    artifact.save(tmp_path / "nasty")
    odd = SensorSettings(match="*<*", labels={"line": NASTY}, model=str(tmp_path / "nasty"))
    return calm(found.model_copy(update={"sensors": (odd,)}), SENSOR)


@pytest.fixture
def worker(settings: Settings) -> Iterator[Running]:
    """A worker at work."""
    with at_work(settings) as running:
        yield running


@pytest.fixture
def address(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """A console as a user starts it, and where it is."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    names = ("bootstrap_servers", "group_id", "readings_topic", "alerts_topic", "dead_letters_topic",
             "feedback_topic", "events_topic")  # fmt: skip
    given = {f"STREAM_DETECTOR_KAFKA__{name.upper()}": getattr(settings.kafka, name) for name in names}
    odd = settings.sensors[0]
    config = tmp_path / "settings.toml"
    lines = ["[[sensors]]", f"match = {json.dumps(odd.match)}", f"model = {json.dumps(odd.model)}"]
    config.write_text("\n".join([*lines, f"labels = {{ line = {json.dumps(NASTY)} }}"]))
    given |= {
        "STREAM_DETECTOR_CONFIG": str(config),
        "STREAM_DETECTOR_REDIS__URL": settings.redis.url.get_secret_value(),
        "STREAM_DETECTOR_REDIS__PREFIX": settings.redis.prefix,
        "STREAM_DETECTOR_DETECTOR__MODEL": settings.detector.model,
        "STREAM_DETECTOR_DETECTOR__WINDOW": str(settings.detector.window),
        "STREAM_DETECTOR_CONSOLE__TOKEN_FILE": str(token),
    }
    process = subprocess.Popen(
        [COMMAND, "console", "--port", "0"], env={**os.environ, **given}, stderr=subprocess.PIPE, text=True
    )
    try:
        lines = iter(process.stderr.readline, "") if process.stderr else iter(())
        found = next(match for line in lines if (match := re.search(r"http://\S+:\d+", line)))
        yield found[0]
    finally:
        process.terminate()
        rest = process.communicate(timeout=20)[1]
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert TOKEN not in rest


@pytest.fixture
def browser(address: str) -> Iterator[Browser]:
    """A browser that in the end has complained of nothing, and asked nobody but the console."""
    with Browser() as opened:
        yield opened
        time.sleep(0.5)
        own = address.removeprefix("http:")
        strangers = [one for one in opened.asked if own not in one and not one.startswith(("data:", "blob:"))]
        assert strangers == []
        assert opened.said == []


def sign_in(browser: Browser, address: str, then: str = "/") -> None:
    """Show the token."""
    browser.open(f"{address}/sign-in?then={then}")
    browser.fill("#token", TOKEN)
    browser.click("button[type=submit]")
    browser.see("Sign out")


def test_from_the_fault_to_the_answer(browser: Browser, address: str, settings: Settings, worker: Running) -> None:
    """It appears by itself, is reached by the keyboard, drawn with its band, and answered; what follows shows."""
    sign_in(browser, address)
    browser.see("No open incidents")
    send(settings, readings(SENSOR, CALM, CALM + FAULT, 40.0))
    wait_until(lambda: alerts_of(settings), "there is an alert")
    begun = time.monotonic()
    browser.see("1 open incident", SENSOR, limit_s=WITHIN_S)
    print(f"seen {time.monotonic() - begun:.2f} s after its alert was read")
    browser.press("ArrowDown")
    assert browser.js("document.activeElement.matches('a.incident')")
    browser.js("document.activeElement.click()")
    browser.see("Its life", f"{CALM + FAULT} readings", "of the score")
    wait_for(lambda: browser.js("!!document.querySelector('.drawn canvas')"), "it is drawn")
    wait_for(lambda: _colours(browser) > 3, "lines and bands are on the picture")
    browser.click(".answer-button")
    browser.see("false alarm: taken by the worker", "answered: false alarm")
    browser.open(f"{address}/sensor?id={SENSOR}")
    browser.see("threshold now")
    browser.open(f"{address}/")
    browser.see("No open incidents")


def _colours(browser: Browser) -> int:
    """How many colours are on the picture."""
    return int(
        browser.js(
            """(() => {
              const canvas = document.querySelector('.drawn canvas');
              const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
              const seen = new Set();
              for (let i = 0; i < data.length; i += 40) seen.add(`${data[i]}-${data[i + 1]}-${data[i + 2]}`);
              return seen.size;
            })()"""
        )
    )


def test_no_markup_from_a_topic_is_run(browser: Browser, address: str, settings: Settings, worker: Running) -> None:
    """Not of a sensor's id, nor of a label, nor of a channel: on no page, and in no picture."""
    calm, wrong = readings(NASTY, 0, CALM, partition=1), readings(NASTY, CALM, CALM + FAULT, 40.0, partition=1)
    named = b'"values":{' + json.dumps(CHANNEL).encode() + b":"
    several = [*calm, *wrong]
    send(settings, [(p, key, value.replace(b'"value":', named) + b"}") for p, key, value in several])
    wait_until(lambda: [a for a in alerts_of(settings) if a.sensor_id == NASTY], "there is an alert")
    browser.open(f"{address}/")
    browser.see("1 open incident", NASTY, f"line={NASTY}")
    browser.click("a.incident")
    browser.see(f"Sensor {NASTY}", "Its life", f"{CALM + FAULT} readings")
    browser.click("p.links a")
    browser.see("Channels by their share", f"{CALM + FAULT} readings", CHANNEL)
    wait_for(lambda: _colours(browser) > 3, "it is drawn")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=640, y=350)
    time.sleep(1)
    assert browser.js("document.title").startswith("Sensor")
    assert browser.js("document.querySelectorAll('main script, main img, main b').length") == 0


def test_a_link_shows_what_it_was_narrowed_down_to(
    browser: Browser, address: str, settings: Settings, worker: Running
) -> None:
    """The address follows the fields, and the fields the address."""
    send(settings, readings("fan-9", 0, CALM) + readings("fan-9", CALM, CALM + FAULT, 40.0))
    send(settings, readings(SENSOR, CALM, CALM + FAULT, 40.0))
    wait_until(lambda: len({a.sensor_id for a in alerts_of(settings)}) == 2, "there are two alerts")
    browser.open(f"{address}/")
    browser.see("2 open incidents")
    browser.press("/")
    browser.call("Input.insertText", text="fan-?")
    browser.see("1 open incident, as narrowed down")
    link = browser.js("location.href")
    assert link.endswith("/?sensor=fan-%3F")
    browser.open(f"{address}/")
    browser.see("2 open incidents")
    browser.open(link)
    browser.see("1 open incident, as narrowed down", "fan-9")
    assert browser.js("document.querySelector('#filter-sensor').value") == "fan-?"
    assert SENSOR not in browser.text


def test_it_fits_a_phone_and_the_colours_of_the_system(
    browser: Browser, address: str, settings: Settings, worker: Running
) -> None:
    """No page is wider than a phone; what the system prefers is followed, until somebody chooses."""
    send(settings, readings(SENSOR, CALM, CALM + FAULT, 40.0))
    wait_until(lambda: alerts_of(settings), "there is an alert")
    alert = alerts_of(settings)[0]
    sign_in(browser, address)
    browser.size(PHONE, 800, phone=True)
    for page, text in (("/", "1 open incident"), (f"/sensor?id={SENSOR}", "readings"),
                       (f"/incident?id={alert.alert_id}", "readings")):  # fmt: skip
        browser.open(address + page)
        browser.see(text)
        assert browser.js("document.documentElement.scrollWidth") <= PHONE
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.prefer("light")
    wait_for(lambda: browser.js(ground) == "rgb(246, 247, 249)", "it is light")
    browser.prefer("dark")
    wait_for(lambda: browser.js(ground) == "rgb(14, 20, 29)", "it is dark")
    for _ in range(2):  # dark, light
        browser.click("button.theme")
    wait_for(lambda: browser.js(ground) == "rgb(246, 247, 249)", "it is light by choice")
    browser.open(f"{address}/")
    wait_for(lambda: browser.js(ground) == "rgb(246, 247, 249)", "it stays light")


def test_a_wrong_token_does_not_open(browser: Browser, address: str) -> None:
    """It is said, no cookie is set, and scripts do not see the one that a right token sets."""
    browser.open(f"{address}/sign-in")
    browser.fill("#token", "not-the-token")
    browser.click("button[type=submit]")
    browser.see("That is not the token.")
    assert COOKIE not in str(browser.call("Network.getCookies")["cookies"])
    browser.said.clear()  # the browser notes that the answer was a refusal
    sign_in(browser, address)
    assert browser.js("document.cookie") == ""
    kept = next(one for one in browser.call("Network.getCookies")["cookies"] if one["name"] == COOKIE)
    assert (kept["httpOnly"], kept["sameSite"]) == (True, "Strict")
    asked = Request(f"{address}/", headers={"Host": "evil.example"})  # noqa: S310 - our own server
    with pytest.raises(OSError, match="403"):
        urlopen(asked, timeout=10)  # noqa: S310
