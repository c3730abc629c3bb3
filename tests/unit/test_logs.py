"""Log lines for programs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from stream_detector.cli import logs
from stream_detector.settings import LogSettings, Settings


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What the root logger's only handler writes."""
    root, stream = logging.getLogger(), io.StringIO()
    before, root.handlers = root.handlers, [logging.StreamHandler(stream)]
    yield stream
    root.handlers = before


def test_a_line_is_an_object(output: io.StringIO) -> None:
    """With its time in UTC; an exception stays within its line."""
    logs.begin(Settings(), "json")
    logging.getLogger("stream_detector.x").warning('%d "odd"\nreadings', 3)
    try:
        raise ValueError("no\nway")
    except ValueError:
        logging.getLogger("stream_detector.y").exception("it failed")
    first, second = map(json.loads, output.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("WARNING", "stream_detector.x", '3 "odd"\nreadings')
    assert first["time"].endswith("Z")
    assert "exception" not in first
    assert "ValueError: no\nway" in second["exception"]


@pytest.mark.parametrize(
    ("setting", "option", "is_json"), [("json", None, True), ("json", "text", False), ("text", None, False)]
)
def test_the_option_wins_over_the_setting(output: io.StringIO, setting: str, option: str | None, is_json: bool) -> None:
    """Without either it is text."""
    chosen = Settings(log=LogSettings.model_validate({"format": setting}))
    assert logs.begin(chosen, option) is not is_json  # type: ignore[arg-type]
    logging.getLogger("stream_detector").info("hello")
    assert output.getvalue().startswith("{") == is_json
