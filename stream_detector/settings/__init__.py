"""Every setting, as one frozen tree.

A value comes from, in falling order: the environment (`STREAM_DETECTOR_DETECTOR__BUDGET`), the TOML file that
`--config` or `STREAM_DETECTOR_CONFIG` names, the default here. What a model needs to know about itself lives in
its artifact and never here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_detector.errors import ConfigError
from stream_detector.settings.budget import SENSITIVITIES, Budget, parse_duration
from stream_detector.settings.console import ConsoleSettings
from stream_detector.settings.detector import DetectorSettings, IncidentSettings, QualitySettings, SensorSettings
from stream_detector.settings.edge import (
    HttpSettings,
    KafkaSettings,
    LogSettings,
    ModelsSettings,
    RedisSettings,
    TrainerSettings,
    WorkerSettings,
)
from stream_detector.settings.forward import ForwardSettings
from stream_detector.settings.sensors import Overrides

PREFIX = "STREAM_DETECTOR_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
OTHER_VARIABLES = (CONFIG_VARIABLE, f"{PREFIX}TEST_KAFKA", f"{PREFIX}TEST_REDIS")
"""Variables with our prefix that are not settings."""


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        hide_input_in_errors=True,
    )

    detector: DetectorSettings = DetectorSettings()
    incidents: IncidentSettings = IncidentSettings()
    quality: QualitySettings = QualitySettings()
    sensors: Annotated[tuple[SensorSettings, ...], Field(description="what differs for some sensors")] = ()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    worker: WorkerSettings = WorkerSettings()
    http: HttpSettings = HttpSettings()
    console: ConsoleSettings = ConsoleSettings()
    log: LogSettings = LogSettings()
    models: ModelsSettings = ModelsSettings()
    trainer: TrainerSettings = TrainerSettings()
    forward: ForwardSettings = ForwardSettings()

    @field_validator("sensors")
    @classmethod
    def _without_contradictions(cls, value: tuple[SensorSettings, ...]) -> tuple[SensorSettings, ...]:
        Overrides(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over what the file said."""
        return env_settings, init_settings


def load(config: Path | None = None) -> Settings:
    """Read the settings; raises ConfigError that names the variable or key and what is wrong with it."""
    named = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    _refuse_misspelt(os.environ)
    try:
        return Settings(**(_read_toml(named) if named else {}))
    except ValidationError as error:
        raise _explained(error, "setting ") from error


def override(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """The same settings with some of the detector's given anew, checked alike; raises ConfigError.

    A budget that is given takes the place of a sensitivity, and the other way round.
    """
    before = settings.detector.model_dump(exclude_unset=True)
    for key, other in (("budget", "sensitivity"), ("sensitivity", "budget")):
        if key in given and other not in given:
            before.pop(other, None)
    if str(given.get("threshold", "")).startswith(("fixed", "quantile")):
        before = {key: value for key, value in before.items() if key not in ("budget", "sensitivity")}
    try:
        detector = DetectorSettings(**{**before, **given})
    except ValidationError as error:
        raise _explained(error, "--") from error
    return settings.model_copy(update={"detector": detector})


def _explained(error: ValidationError, before: str) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "detector"
    reason = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        reason = "there is no such setting; look for a misspelling"
    return ConfigError(f"{before}{key}: {reason[0].lower()}{reason[1:]}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the configuration file {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"the configuration file {path} is not valid TOML: {error}") from error


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """Settings libraries ignore an unknown first level in the environment; a misspelt one must not pass."""
    known = tuple(f"{PREFIX}{name.upper()}__" for name in Settings.model_fields)
    for variable in environment:
        if variable.startswith(PREFIX) and not variable.startswith(known) and variable not in OTHER_VARIABLES:
            raise ConfigError(
                f"there is no setting {variable}: the first level is one of {', '.join(Settings.model_fields)}"
            )


__all__ = [
    "SENSITIVITIES",
    "Budget",
    "ConsoleSettings",
    "DetectorSettings",
    "ForwardSettings",
    "HttpSettings",
    "IncidentSettings",
    "KafkaSettings",
    "LogSettings",
    "ModelsSettings",
    "Overrides",
    "QualitySettings",
    "RedisSettings",
    "SensorSettings",
    "Settings",
    "TrainerSettings",
    "WorkerSettings",
    "load",
    "override",
    "parse_duration",
]
