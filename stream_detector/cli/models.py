"""The commands on trained weights: list, show, promote, rollback, import, export.

Parses, asks and tells; what versions look like on paper is in `versions`, where they are kept in `streaming.registry`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from stream_detector import settings as all_settings
from stream_detector.cli.pipe import Pipe, print_line, reader_may_leave, visible
from stream_detector.cli.versions import as_object, print_lines, print_version
from stream_detector.errors import ArtifactError, ConfigError
from stream_detector.models import artifact as artifacts
from stream_detector.streaming.registry import Line, LineRecord, Registry, Version, check_name, open_registry

PANEL = "Models"
BY_HAND = "by hand"
VersionName = Annotated[
    str, typer.Argument(metavar="VERSION", help="first digits of its digest, at least 6", show_default=False)
]
LineOption = Annotated[
    str | None,
    typer.Option("--line", metavar="LINE", help="only in this line: its name, or its key as `list` shows it"),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON object a version and line")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]
Reason = Annotated[str, typer.Option(help="why, for those who look at it later")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    models = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=models_help())
    for name, command in (
        ("list", list_command),
        ("show", show),
        ("promote", promote),
        ("rollback", rollback),
        ("import", import_command),
        ("export", export),
    ):
        models.command(name)(command)
    app.add_typer(models, name="models", rich_help_panel=PANEL)


def models_help() -> str:
    """What the group of commands is about."""
    return (
        "List trained weights, and choose which are in use.\n\n"
        "A line is a model (or a name that you gave) with the channels of its sensors. Of its versions one is the "
        "champion, which workers use, and one may be its shadow, which they try beside it; the newest 10 are kept, and "
        "all that were champion within 30 days."
    )


def list_command(line: LineOption = None, json: Json = False, config: Config = None) -> None:
    """List the versions of every line, the newest first: which is in use, what was measured of each."""
    with open_registry(all_settings.load(config)) as registry, reader_may_leave():
        records = registry.records()
        if line is not None:
            records = [_line(records, line)]
        tallies = {one.line.key: registry.counted(one.shadow) for one in records if one.shadow}
        if json:
            for record in records:
                for version in reversed(record.versions):
                    tally = tallies.get(record.line.key) if version.status == "shadow" else None
                    print_line(msgspec.json.encode(as_object(record.line, version, tally=tally)))
        elif records:
            print_lines(Pipe(), records, tallies)
        else:
            typer.echo("There are no trained weights yet: run a trainer, or import some.")


def show(version: VersionName, line: LineOption = None, json: Json = False, config: Config = None) -> None:
    """Show everything that is known of one version."""
    with open_registry(all_settings.load(config)) as registry, reader_may_leave():
        found = _versions(registry, version, line)
        artifact, shadows = registry.get(found[0][1].digest), registry.shadows()
        for one, it in found:
            shadow = shadows.get(one.key)
            tally = registry.counted(shadow) if shadow and shadow.digest == it.digest else None
            if json:
                print_line(msgspec.json.encode(as_object(one, it, artifact, tally)))
            else:
                print_version(Pipe(), one, it, artifact, tally)


def promote(
    version: VersionName,
    line: LineOption = None,
    reason: Reason = BY_HAND,
    yes: Yes = False,
    config: Config = None,
) -> None:
    """Make a version the champion of its line: workers take it over within seconds. A shadow is tried no longer."""
    with open_registry(all_settings.load(config)) as registry:
        found = _versions(registry, version, line)
        if len(found) > 1:
            named = "; ".join(f"--line {one.key} for {visible(str(one))}" for one, _ in found)
            raise ConfigError(f"version {version} is in {len(found)} lines, say which: {named}")
        (where, wanted), before = found[0], registry.champion(found[0][0])
        if before == wanted.digest:
            typer.echo(f"{_short(before)} is the champion of {visible(str(where))} already.")
            return
        refused = f"{_short(wanted.digest)} was refused by its validation. " if wanted.status == "refused" else ""
        _ask(f"{refused}Let {visible(str(where))} use {_short(wanted.digest)} in place of {_short(before)}?", yes)
        registry.promote(where, wanted.digest, reason)
        _tell(where, before, wanted.digest)


def rollback(
    line: Annotated[
        str | None,
        typer.Argument(metavar="[LINE]", help="its name or key; not needed where there is but one", show_default=False),
    ] = None,
    reason: Reason = f"rolled back {BY_HAND}",
    yes: Yes = False,
    config: Config = None,
) -> None:
    """Go back to the champion before; once more goes further back."""
    with open_registry(all_settings.load(config)) as registry:
        records = registry.records()
        if line is None and len(records) != 1:
            named = "; ".join(f"{one.line.key} for {visible(str(one.line))}" for one in records)
            raise ConfigError(f"which line? {named}" if named else "there are no trained weights yet: nothing to do")
        record = records[0] if line is None else _line(records, line)
        target = _short(record.before[-1]) if record.before else "the version before"
        if record.before:
            _ask(f"Let {visible(str(record.line))} go back from {_short(record.champion)} to {target}?", yes)
        _tell(record.line, record.champion, registry.rollback(record.line, reason))


def import_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="an artifact that `train` wrote", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="register it under a name, for detector.model  [default: its model's line]")
    ] = None,
    config: Config = None,
) -> None:
    """Take an artifact into the registry.

    Without a name it becomes a challenger of its model's line. With a name it becomes a version of that name, and the
    first one is in use at once where [bold]detector.model[/] says so.
    """
    model = None if name is None else check_name(name)
    with open_registry(all_settings.load(config)) as registry:
        artifact = artifacts.load(directory)
        line = Line(model or artifact.model.name, artifact.channels)
        digest = registry.put(artifact, line)
        typer.echo(f"{visible(str(line))} has version {_short(digest)}.")
        if model and registry.champion(line) is None:
            registry.promote(line, digest, "first of its name")
            typer.echo(f"It is the champion. Use it: detector.model = {model}")
        elif registry.champion(line) != digest:
            typer.echo(f"It is not in use yet: stream-detector models promote {_short(digest)}")


def export(
    version: VersionName,
    output: Annotated[Path, typer.Option(help="directory for the artifact", show_default=False)],
    config: Config = None,
) -> None:
    """Write a version as a directory, for [bold]detect --model DIR[/], [bold]detector.model[/], or another registry."""
    with open_registry(all_settings.load(config)) as registry:
        digest = _versions(registry, version, None)[0][1].digest
        registry.get(digest).save(output)
    typer.echo(f"{output} holds version {_short(digest)}. Use it: stream-detector detect FILE --model {output}")


def _versions(registry: Registry, start: str, line: str | None) -> list[tuple[Line, Version]]:
    """One artifact in all its lines (or the one asked for) by its first digits; raises ConfigError, ArtifactError."""
    found = registry.find(start)
    if line is not None:
        wanted = _line(registry.records(), line).line
        found = [(one, version) for one, version in found if one == wanted]
    digests = sorted({version.digest for _, version in found})
    if not digests:
        raise ArtifactError(f"no version begins with {start}: `stream-detector models list` shows those that are kept")
    if len(digests) > 1:
        shown = ", ".join(map(_short, digests[:5]))
        raise ConfigError(f"{start} is the beginning of {len(digests)} versions ({shown}): give more digits")
    return found


def _line(records: list[LineRecord], name: str) -> LineRecord:
    """The line with this name, model or key; raises ConfigError."""
    found = [one for one in records if name in (one.line.model, one.line.key, str(one.line))]
    if not found:
        known = ", ".join(sorted({visible(one.line.model) for one in records})) or "none yet"
        raise ConfigError(f"there is no line {name!r} of trained weights: choose one of {known}")
    if len(found) > 1:
        named = "; ".join(f"{one.line.key} for {visible(str(one.line))}" for one in found)
        raise ConfigError(f"{name} has {len(found)} lines, say which: {named}")
    return found[0]


def _ask(question: str, yes: bool) -> None:
    """Let a person confirm; raises ConfigError where there is none, and ends where the answer is no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("this asks before it changes anything, and there is no terminal to ask on: add --yes")
    typer.echo(f"{question} [y/N] ", nl=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo("Nothing was changed.")
        raise typer.Exit


def _tell(line: Line, before: str | None, after: str) -> None:
    typer.echo(f"{visible(str(line))}: {_short(before)} -> {_short(after)}")


def _short(digest: str | None) -> str:
    """A digest as alerts show it; what is used where nothing was promoted comes along with the program."""
    return "the untrained or pretrained model" if digest is None else digest[:12]
