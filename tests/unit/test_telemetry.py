"""Numbers and health over HTTP."""

from __future__ import annotations

import logging
import socket
import time
import urllib.error
import urllib.request

import pytest

from stream_detector.settings import HttpSettings
from stream_detector.streaming.telemetry import Telemetry, serving


def get(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_health_and_numbers() -> None:
    """Alive while the loop comes round, ready when it says so, numbers in Prometheus' words; nothing else is there."""
    telemetry = Telemetry(hangs_after_s=0.3)
    telemetry.counter("readings", "readings taken in").inc(3)
    with serving(telemetry, HttpSettings(port=free_port())) as port:
        assert get(port, "/livez")[0] == 200
        assert get(port, "/readyz")[0] == 503
        telemetry.ready = lambda: True
        assert get(port, "/readyz") == (200, "ready\n")
        assert "stream_detector_readings_total 3.0" in get(port, "/metrics")[1]
        assert get(port, "/etc/passwd")[0] == 404
        time.sleep(0.4)
        assert get(port, "/livez") == (503, "the loop hangs\n")
        telemetry.beat()
        assert get(port, "/livez")[0] == 200


def test_a_taken_port_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """A second process on the machine works on without numbers, and says so; port 0 asks for none."""
    port = free_port()
    http = HttpSettings(port=port)
    with caplog.at_level(logging.WARNING), serving(Telemetry(), http), serving(Telemetry(), http) as second:
        assert second == 0
    assert "http.port" in caplog.text
    with serving(Telemetry(), HttpSettings(port=0)) as none:
        assert none == 0
