"""JSON as programs really write it: a bare NaN is read, half of a surrogate pair is not.

Readings in files and on the topic are read by the same rule. It knows nothing of what the JSON should hold.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec


def decode(text: str | bytes) -> Any:
    """What the JSON holds; raises ValueError whose text says why it is none, whatever the input."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_slowly(text)


def _decode_slowly(text: str | bytes) -> Any:
    try:
        found = json.loads(text, parse_constant=float)
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair could never be written
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos:,}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except ValueError as error:
        raise ValueError("a number in it has too many digits") from error
    return found
