"""All settings as a table for a page, from the settings themselves.

python -m stream_detector.settings.table PAGE    # writes it between the page's two marks
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from stream_detector.errors import ConfigError
from stream_detector.settings import PREFIX, DetectorSettings, SensorSettings, Settings

BEGIN, END = "<!-- settings -->", "<!-- /settings -->"


def table() -> str:
    """The table as Markdown: of each setting the key, the variable, the default and the meaning."""
    lines = ["| setting | variable | default | |", "| --- | --- | --- | --- |"]
    for group, info in Settings.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines += list(_rows(group, kind))
    lines += ["", "In `[[sensors]]`, each entry for the sensors whose ids it matches:", "", "| key | default | |"]
    lines += ["| --- | --- | --- |"]
    general = DetectorSettings.model_fields
    for name, field in SensorSettings.model_fields.items():
        meaning = _meaning(field) or f"as `detector.{name}`: {_meaning(general[name])}"
        lines.append(f"| `{name}` | {_default(field)} | {meaning} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with the table between its marks; raises ConfigError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ConfigError(f"the page has no {BEGIN} and {END}: put both where the table is to stand")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _rows(group: str, kind: type[BaseModel]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        variable = f"{PREFIX}{group}__{name}".upper()
        yield f"| `{group}.{name}` | `{variable}` | {_default(field)} | {_meaning(field)} |"


def _meaning(field: FieldInfo) -> str:
    secret = " (secret: never printed)" if "SecretStr" in str(field.annotation) else ""
    return (field.description or "").replace("|", "\\|") + secret


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()  # a default is no secret
    if value is None or value in ("", (), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(written(place.read_text(encoding="utf-8")), encoding="utf-8")
