"""Settings of how alerts are handed on to where people are told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from stream_detector.settings.budget import parse_duration
from stream_detector.settings.edge import FROZEN
from stream_detector.settings.secret_file import read_secret


class ForwardSettings(BaseModel):
    """Receivers of alerts outside, and how long to wait for them."""

    model_config = FROZEN

    urls: Annotated[
        SecretStr | None, Field(description="addresses of receivers, with blanks between; for those that hold a secret")
    ] = None
    urls_file: Annotated[Path | None, Field(description="a file that holds them")] = None
    pagerduty_key: Annotated[SecretStr | None, Field(description="routing key of the PagerDuty service")] = None
    pagerduty_key_file: Annotated[Path | None, Field(description="a file that holds it")] = None
    webhook_secret: Annotated[SecretStr | None, Field(description="key that webhooks are signed with")] = None
    webhook_secret_file: Annotated[Path | None, Field(description="a file that holds it")] = None
    timeout: Annotated[str, Field(description="a receiver that does not answer for so long is asked again")] = "10s"
    give_up_after: Annotated[
        str, Field(description="an alert that a receiver does not take for so long goes to the undelivered ones")
    ] = "1h"
    renew_every: Annotated[
        str, Field(description="how often Alertmanager is told that an incident goes on; less than its resolve_timeout")
    ] = "1m"
    console_url: Annotated[str, Field(description="where people reach the console; messages then link to it")] = ""

    @field_validator("timeout", "give_up_after", "renew_every")
    @classmethod
    def _a_span(cls, value: str) -> str:
        if parse_duration(value) <= 0:
            raise ValueError(f"{value!r} must be longer than nothing, like 10s")
        return value

    @field_validator("console_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _said_once(self) -> ForwardSettings:
        for name in ("urls", "pagerduty_key", "webhook_secret"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise ValueError(f"{name} and {name}_file are both given: leave one out")
        return self

    def secret(self, name: str) -> str | None:
        """A secret, from the setting or its file; None where neither is given. Raises ConfigError."""
        given: SecretStr | None = getattr(self, name)
        file: Path | None = getattr(self, f"{name}_file")
        if file is None:
            return given.get_secret_value() if given is not None else None
        return read_secret(file, f"forward.{name}_file").strip()
