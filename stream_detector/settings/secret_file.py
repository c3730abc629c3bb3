"""Secrets from files that settings name."""

from __future__ import annotations

from pathlib import Path

from stream_detector.errors import ConfigError


def read_secret(path: Path, setting: str) -> str:
    """What the file holds, without the end of its last line; raises ConfigError, which shows nothing of it."""
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{setting} {path} cannot be read ({reason})") from None
    if not secret.strip():
        raise ConfigError(f"{setting} {path} is empty: write the secret into it")
    return secret
