"""A real browser without a window, driven through its DevTools protocol: no driver, nothing but a Chromium is needed.

Everything that it logs, and every address that it asks, is kept: tests assert on both.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_S = 20.0
VARIABLE = "STREAM_DETECTOR_TEST_CHROMIUM"


def found() -> str | None:
    """Where a Chromium is: what the environment names, else what is on the path."""
    named = os.environ.get(VARIABLE)
    return named or next((place for name in NAMES if (place := shutil.which(name))), None)


class Browser:
    """One page of one browser. asked: all addresses. said: lines of the console, errors and warnings first of all."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        place = found()
        if place is None:
            raise RuntimeError(f"there is no Chromium on this machine: install one, or name it in {VARIABLE}")
        self._home = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        options = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                   "--disable-background-networking", "--no-first-run", "--disable-component-update",
                   "--remote-debugging-port=0", f"--user-data-dir={self._home.name}",
                   f"--window-size={width},{height}")  # fmt: skip
        self._process = subprocess.Popen(
            [place, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.asked: list[str] = []
        self.said: list[str] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._socket = connect(self._address(), max_size=None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *failure: object) -> None:
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._home.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the protocol."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        wait_for(lambda: number in self._answers, f"{method} is answered")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str) -> None:
        """Go to a page, and wait until it is alive."""
        self.call("Page.navigate", url=address)
        wait_for(lambda: self.js("document.readyState") == "complete", f"{address} is loaded")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    @property
    def text(self) -> str:
        """What a person can read of the page."""
        return str(self.js("document.body?.innerText ?? ''"))

    def see(self, *texts: str, limit_s: float = PATIENCE_S) -> None:
        """Wait until all of this can be read."""
        try:
            wait_for(lambda: all(one in self.text for one in texts), f"{texts} can be read", limit_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; what can be read is:\n{self.text}\nsaid: {self.said[-5:]}") from None

    def click(self, selector: str) -> None:
        """Click the first element that is selected."""
        quoted = json.dumps(selector)
        wait_for(lambda: self.js(f"!!document.querySelector({quoted})"), f"there is {selector}")
        self.js(f"document.querySelector({quoted}).click()")

    def fill(self, selector: str, text: str) -> None:
        """Type into a field."""
        quoted = json.dumps(selector)
        wait_for(lambda: self.js(f"!!document.querySelector({quoted})"), f"there is {selector}")
        self.js(f"document.querySelector({quoted}).focus()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key that is a character, or a named one."""
        more = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def size(self, width: int, height: int, phone: bool = False) -> None:
        """Be as wide as a phone, or as a screen."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def prefer(self, scheme: str) -> None:
        """Be a system that is `dark` or `light`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        """Keep what is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _address(self) -> str:
        port_file = Path(self._home.name) / "DevToolsActivePort"
        wait_for(lambda: port_file.exists() and port_file.read_text().count("\n"), "the browser is up")
        port = port_file.read_text().split("\n")[0]
        with urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE_S) as answer:
            pages = json.load(answer)
        return str(next(one["webSocketDebuggerUrl"] for one in pages if one["type"] == "page"))

    def _read(self) -> None:
        try:
            for message in self._socket:
                told = json.loads(message)
                if "id" in told:
                    self._answers[told["id"]] = told
                else:
                    self._note(told["method"], told["params"])
        except (ConnectionClosed, AttributeError):
            return  # the browser has ended, or is being ended

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.asked.append(told["url"])
        elif method == "Runtime.exceptionThrown":
            self.said.append(f"exception: {told['exceptionDetails']}")
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.said.append(f"log: {told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.said.append(f"console: {told['args']}")


def wait_for(true: Callable[[], object], what: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {limit_s} s still not: {what}")
        time.sleep(0.05)
