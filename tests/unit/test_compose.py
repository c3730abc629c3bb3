"""docker-compose.yml keeps what it promises, without docker: pinned, guarded, bound to this machine, and well named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_detector import __version__
from stream_detector.settings import Settings, load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OVERLAYS = ("compose.gpu.yml", "compose.secrets.yml")
OURS = ("worker", "trainer", "console", "simulator", "forwarder")
SHOWN = ("console",)
"""What people look at."""
ONCE = ("topics",)
"""What runs and ends."""


def variables(service: dict[str, Any]) -> dict[str, str]:
    """The environment of a service."""
    return {name: str(value) for name, value in (service.get("environment") or {}).items()}


def texts(value: Any) -> Iterator[str]:
    """All texts within values."""
    if isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_guarded_and_limited(name: str) -> None:
    """A tag that is not the latest, no capabilities, limits, a way back after a failure, and logs that end."""
    service = SERVICES[name]
    tag = service["image"].partition(":")[2]
    assert tag and tag != "latest"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["restart"] == ("on-failure:5" if name in ONCE else "unless-stopped")
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ONCE])
def test_a_service_says_when_it_is_well(name: str) -> None:
    """And has time to stop."""
    check = SERVICES[name]["healthcheck"]
    assert check["test"] and check["retries"]
    assert SERVICES[name]["stop_grace_period"]


def test_nothing_is_reached_from_other_machines() -> None:
    """Every port is bound to this one; of ours, only what people look at is published at all."""
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert not (name in OURS and name not in SHOWN and "ports" in service)


def test_they_start_one_after_the_other() -> None:
    """What needs broker, store and topics waits until they are well and made."""
    for name in OURS:
        wanted = {one: condition["condition"] for one, condition in SERVICES[name]["depends_on"].items()}
        assert wanted == {
            "kafka": "service_healthy",
            "redis": "service_healthy",
            "topics": "service_completed_successfully",
        }


def test_what_must_stay_is_on_named_volumes() -> None:
    """All that are used are declared, and the other way round."""
    used = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert {one for one in used if not one.startswith(".")} == COMPOSE["volumes"].keys()
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source, _, rest = mount.partition(":")
            if source.startswith("."):
                assert rest.endswith(":ro")
                assert (ROOT / source).exists()


def test_ours_run_as_nobody_in_particular() -> None:
    """Read-only, one image for all, made from the version that this is."""
    for name in OURS:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["image"] == "stream-detector:local"
    recipe = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"ARG VERSION={__version__}" in recipe
    assert re.search(r"^USER 10001:10001$", recipe, re.MULTILINE)
    assert "HEALTHCHECK" in recipe


def test_the_environment_holds_settings_that_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every variable of ours is a setting, with a value that it takes; so is the file beside."""
    monkeypatch.setenv("STREAM_DETECTOR_CONFIG", str(ROOT / "deploy" / "settings.toml"))
    (tmp_path / "secret").write_text("abc")
    files = [COMPOSE, *(yaml.safe_load((ROOT / "deploy" / name).read_text()) for name in OVERLAYS)]
    seen = 0
    for content in files:
        for service in content["services"].values():
            for name, value in variables(service).items():
                if name.startswith("STREAM_DETECTOR_") and name != "STREAM_DETECTOR_CONFIG":
                    value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
                    monkeypatch.setenv(name, value.replace("/run/secrets/redis_password", str(tmp_path / "secret")))
                    seen += 1
    monkeypatch.setenv("STREAM_DETECTOR_DETECTOR__DEVICE", "cpu")
    found = load(None)
    assert seen >= 5
    assert found.kafka.bootstrap_servers == "kafka:9092"
    assert found.sensors[0].match == "simulated-*"


def test_the_topics_are_those_that_the_settings_name() -> None:
    """Made with as many partitions as readings and alerts are to share."""
    made = re.findall(r"^topic (\S+) +(\d+) ", SERVICES["topics"]["command"][0], re.MULTILINE)
    kafka = Settings().kafka
    names = {
        kafka.readings_topic,
        kafka.alerts_topic,
        kafka.dead_letters_topic,
        kafka.feedback_topic,
        kafka.events_topic,
        kafka.undelivered_topic,
    }
    assert {name for name, _ in made} == names
    assert dict(made)[kafka.readings_topic] == "12"


def test_no_secret_is_written_down() -> None:
    """Passwords come from files that the user names."""
    for name in ("docker-compose.yml", *(f"deploy/{one}" for one in OVERLAYS)):
        content = yaml.safe_load((ROOT / name).read_text())
        for service in content["services"].values():
            for variable, value in variables(service).items():
                if "PASSWORD" in variable:
                    assert value.startswith("/run/secrets/"), variable
    assert not any("password=" in text.lower() for text in texts(COMPOSE))
