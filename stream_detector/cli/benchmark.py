"""The command that measures the worker on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from pydantic import ValidationError
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid

from stream_detector import settings as all_settings
from stream_detector.benchmark.alone import measure_alone
from stream_detector.benchmark.delays import measure_delays
from stream_detector.benchmark.plan import ALONE, CHOICES, MOST_PARTITIONS, Plan
from stream_detector.benchmark.report import Limit, Report, report
from stream_detector.benchmark.throughput import measure_speed
from stream_detector.cli import show
from stream_detector.errors import ConfigError
from stream_detector.local import running
from stream_detector.settings import KafkaSettings, RedisSettings, Settings

PANEL = "Contract and measurement"
HALF = 0.5
MEBIBYTE = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("benchmark", rich_help_panel=PANEL)(benchmark)


def benchmark(
    kafka: Annotated[
        str | None, typer.Option(help="broker to measure with, host:port", show_default="one of its own")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(help="store to measure with, redis://...", show_default="one of its own")
    ] = None,
    stage: Annotated[str, typer.Option(help=f"one stage alone: {', '.join(CHOICES)}")] = "all",
    readings: Annotated[int, typer.Option(min=1, help="readings that are measured")] = 200_000,
    sensors: Annotated[int, typer.Option(min=1)] = 10_000,
    channels: Annotated[int, typer.Option(min=1, help="channels of each sensor")] = 1,
    partitions: Annotated[int, typer.Option(min=1, max=MOST_PARTITIONS)] = 4,
    batched: Annotated[int, typer.Option(min=1, help="readings of a sensor in each message")] = 1,
    model: Annotated[
        str | None,
        typer.Option(help="as in detector.model; identity costs nothing", show_default="detector.model"),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="as in detector.stride", show_default="detector.stride")
    ] = None,
    delays: Annotated[
        float, typer.Option(min=0, max=3600, help="seconds in which delays are measured, at half the speed; 0: not")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings")] = None,
) -> None:
    """Measure how fast a worker is here, stage by stage, against a loop that only polls and decodes.

    Kafka and Redis are started for it (extra [bold]local[/]), or given; then it makes topics and keys of its own there
    and removes them at the end. Decode, buffers, score and threshold alone need neither.
    """
    settings = all_settings.load(config)
    if stage not in CHOICES:
        raise ConfigError(f"there is no stage {stage!r}: choose one of {', '.join(CHOICES)}")
    plan = Plan(
        readings=readings,
        sensors=sensors,
        channels=channels,
        partitions=partitions,
        batched=batched,
        model=model or settings.detector.model,
        window=settings.detector.window,
        stride=stride or settings.detector.stride,
    )
    plan.check(settings)
    console = Console(stderr=True)
    found = _measure(settings, plan, stage, kafka, redis, delays, console)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found.plain()), indent=2).decode())
    else:
        print_report(Console(), found)


def _measure(
    settings: Settings, plan: Plan, stage: str, kafka: str | None, redis: str | None, delays: float, console: Console
) -> Report:
    artifact = plan.artifact()
    with show.bars(console) as bar:
        if stage in ALONE:
            return report(plan, stage, measure_alone(settings, plan, artifact, _whole(bar(stage))))
        with _servers(settings, kafka, redis, console) as served:
            speed = measure_speed(served, plan, artifact, _whole(bar("rounds")))
            if stage != "all" or not delays:
                return report(plan, stage, speed)
            full = speed.a_second(speed.worker)
            measured = measure_delays(
                served, plan, artifact, full, HALF, delays, kafka is None, _whole(bar("seconds of delays"))
            )
            return report(plan, stage, speed, measured)


def _whole(bar: Callable[[int, int, float], None]) -> Callable[[int, int], None]:
    """A bar that is told of nothing but how far it is."""
    return lambda done, total: bar(done, total, 0.0)


@contextmanager
def _servers(settings: Settings, kafka: str | None, redis: str | None, console: Console) -> Iterator[Settings]:
    """The settings with the broker and the store that are given; what is not is started, and nothing of it is kept."""
    given = {
        **({"kafka": settings.kafka.model_copy(update={"bootstrap_servers": kafka})} if kafka else {}),
        **({"redis": _redis(settings, redis)} if redis else {}),
    }
    if len(given) < 2:
        console.print("starting what is not given of Kafka and Redis ...", style="dim")
    with running(kafka=not kafka, redis=not redis) as started:
        own = {
            "kafka": KafkaSettings(bootstrap_servers=started.kafka),
            "redis": RedisSettings.model_validate({"url": started.redis or "redis://"}),
        }
        yield settings.model_copy(update={**own, **given})


def _redis(settings: Settings, url: str) -> RedisSettings:
    try:
        checked = RedisSettings.model_validate({"url": url})
    except ValidationError as error:
        raise ConfigError("--redis cannot be used: write it like redis://localhost:6379/0") from error
    return settings.redis.model_copy(update={"url": checked.url})


def print_report(console: Console, found: Report) -> None:
    """What was measured, for a person."""
    plan = found.plan
    console.print(
        f"{found.readings:,} readings of {plan.sensors:,} sensors, {plan.channels} "
        f"channel{'s' * (plan.channels > 1)}, {plan.partitions} partitions, {plan.batched} in a message; model "
        f"{plan.model}, windows of {plan.window}, stride {plan.stride}: {found.windows:,} windows, "
        f"{found.alerts:,} alerts.",
        highlight=False,
    )
    console.print(_stages(found))
    if found.limits:
        console.print(_limits(found))
    for line in (_latency(found), _memory(found)):
        if line:
            console.print(line, highlight=False)


def _stages(found: Report) -> Grid:
    grid = Grid(title="Where the time goes", title_justify="left", box=SIMPLE)
    grid.add_column("stage")
    for name in ("readings/s", "microseconds a reading", "share"):
        grid.add_column(name, justify="right")
    for one in found.stages:
        grid.add_row(one.name, f"{one.readings_a_second:,.0f}", f"{one.microseconds:.2f}", f"{one.share:.1%}")
    if found.stage == "all":
        whole = found.seconds / found.readings * 1e6
        grid.add_section()
        grid.add_row("worker", f"{found.readings_a_second:,.0f}", f"{whole:.2f}", "100.0%")
    return grid


def _limits(found: Report) -> Grid:
    grid = Grid(title="Against the bare limits", title_justify="left", box=SIMPLE)
    grid.add_column("limit")
    grid.add_column("a second", justify="right")
    grid.add_column("what is held against it")
    grid.add_column("ratio", justify="right")
    for one in found.limits:
        grid.add_row(one.name, f"{one.a_second:,.0f} {one.unit}", _held(one), f"{one.ratio:.2f}")
    return grid


def _held(limit: Limit) -> str:
    return f"the stage {limit.stage}" if limit.stage else "the worker"


def _latency(found: Report) -> str:
    one = found.latency
    if one is None:
        return ""
    sent = f"{one.share:.0%} of the speed ({one.sent_a_second:,.0f} readings/s)"
    if one.p50_s is None or one.p99_s is None:
        return f"From reading to committed alert, at {sent}: no alert came, so there is no delay to tell."
    return (
        f"From reading to committed alert, at {sent}: median {one.p50_s:.3f} s, 99th percentile {one.p99_s:.3f} s "
        f"({one.alerts} alerts; the sender was late by {one.sender_late_s:.3f} s at most)."
    )


def _memory(found: Report) -> str:
    one = found.memory
    text = f"Memory: {one.resident_bytes / MEBIBYTE:,.0f} MiB of the process, {one.row_bytes:,.0f} bytes a sensor in it"
    return f"{text}, {one.stored_bytes:,.0f} in the store." if one.stored_bytes else f"{text}."
