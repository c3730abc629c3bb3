"""Every setting, as one frozen tree.

A value comes from, in falling order: the environment (`STREAM_DETECTOR_DETECTOR__BUDGET`), the TOML file that
`--config` or `STREAM_DETECTOR_CONFIG` names, the default here. What a model needs to know about itself lives in
its artifact and never here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_detector.errors import ConfigError

PREFIX = "STREAM_DETECTOR_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
OTHER_VARIABLES = (CONFIG_VARIABLE, f"{PREFIX}TEST_KAFKA", f"{PREFIX}TEST_REDIS")
"""Variables with our prefix that are not settings."""

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
WORDS = {"minute": "m", "hour": "h", "day": "d", "week": "w"}
BUDGET = re.compile(r"(\d+(?:\.\d+)?|one|two) per (?:(\d+(?:\.\d+)?) ?)?(ms|s|m|h|d|w|minute|hour|day|week|reading)s?")


@dataclass(frozen=True, slots=True)
class Budget:
    """How many false alerts of one sensor its owner accepts: `alerts` in `period_ms`, or in `readings`.

    Exactly one of `period_ms` and `readings` is set. `text` is what the user wrote.
    """

    alerts: float
    period_ms: float | None
    readings: float | None
    text: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `1 per 7d`, `2 per 12h`, `one per week` or `1 per 5000 readings`; raises ValueError."""
        found = BUDGET.fullmatch(" ".join(text.lower().split()))
        alerts = {"one": 1.0, "two": 2.0}.get(found[1]) or float(found[1]) if found else 0.0
        amount = float(found[2] or 1) if found else 0.0
        if not found or alerts <= 0 or amount <= 0:
            raise ValueError(
                f"the budget {text!r} cannot be read: write it like '1 per 7d' (ms, s, m, h, d, w) or "
                f"'1 per 5000 readings'"
            )
        if found[3] == "reading":
            return cls(alerts, None, amount, text.strip())
        return cls(alerts, amount * UNITS_MS[WORDS.get(found[3], found[3])], None, text.strip())


class DetectorSettings(BaseModel):
    """How readings are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(description="a model's name, or the directory of an artifact")] = "encoder"
    window: Annotated[int, Field(ge=8, le=4096, description="readings that a model looks at")] = 100
    stride: Annotated[
        int, Field(ge=1, description="readings between two scorings of a sensor: more is cheaper, and later")
    ] = 1
    budget: Annotated[str, Field(description="false alerts of one sensor that you accept")] = "1 per 7d"
    device: Annotated[str, Field(description="torch device: cpu, cuda, cuda:1, or auto")] = "auto"

    @field_validator("budget")
    @classmethod
    def _readable(cls, value: str) -> str:
        return Budget.parse(value).text


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    detector: DetectorSettings = DetectorSettings()

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


def override(settings: DetectorSettings, given: Mapping[str, Any]) -> DetectorSettings:
    """The same settings with some of them given anew, checked alike; raises ConfigError."""
    try:
        return DetectorSettings(**{**settings.model_dump(), **given})
    except ValidationError as error:
        raise _explained(error, "--") from error


def _explained(error: ValidationError, before: str) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
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
