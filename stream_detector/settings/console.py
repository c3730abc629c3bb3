"""Settings of the page for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from stream_detector.settings.edge import FROZEN

SHORTEST_TOKEN = 8


class ConsoleSettings(BaseModel):
    """Where the console listens, and what its actions need."""

    model_config = FROZEN

    host: Annotated[str, Field(description="address to listen on; 0.0.0.0 is every one of this machine")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 is any that is free")] = 8090
    names: Annotated[
        tuple[str, ...],
        Field(description="names by which browsers may reach it, without the port; `*` is any"),
    ] = ("localhost", "127.0.0.1", "::1")
    token: Annotated[
        SecretStr | None,
        Field(description="what a person signs in with to answer alerts; without one nobody can"),
    ] = None
    token_file: Annotated[Path | None, Field(description="a file that holds the token")] = None

    @field_validator("token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            return None
        if value is not None and len(value.get_secret_value()) < SHORTEST_TOKEN:
            raise ValueError(f"a token has at least {SHORTEST_TOKEN} characters: make one with `openssl rand -hex 16`")
        return value

    @model_validator(mode="after")
    def _one_token(self) -> ConsoleSettings:
        if self.token and self.token_file:
            raise ValueError("token and token_file are both given: leave one out")
        return self
