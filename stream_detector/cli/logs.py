"""How long-running commands log: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
import typer

from stream_detector.settings import Settings

LogFormat = Annotated[
    Literal["text", "json"] | None,
    typer.Option("--log-format", help="text for people, json for programs  [default: log.format, text]"),
]


def begin(settings: Settings, chosen: Literal["text", "json"] | None) -> bool:
    """Log what the program itself does from INFO on, in the form that was chosen; whether that is for people."""
    logging.getLogger("stream_detector").setLevel(logging.INFO)
    for_people = (chosen or settings.log.format) == "text"
    if not for_people:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    return for_people


class JsonLines(logging.Formatter):
    """One object a line: time (RFC 3339), level, logger, message, thread, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "thread": record.threadName,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
