"""The command that prints what travels on the topics: schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from stream_detector import schemas

PANEL = "Contract and measurement"
Name = Annotated[
    str | None, typer.Argument(help=f"{', '.join(schemas.SCHEMAS)}; without it all are listed", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("schema", rich_help_panel=PANEL)(schema)


def schema(name: Name = None) -> None:
    """Print the JSON Schema of a message: of readings, alerts, dead letters or feedback."""
    if name is None:
        width = max(map(len, schemas.SCHEMAS))
        for known, (title, _) in schemas.SCHEMAS.items():
            typer.echo(f"{known:{width}}  {title}")
    else:
        typer.echo(json.dumps(schemas.schema(name), indent=2, ensure_ascii=False))
