"""What a benchmark found, in plain values: what the tables show and what goes out as JSON."""

from __future__ import annotations

import os
import platform
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stream_detector import __version__
from stream_detector.benchmark.bare import Spent
from stream_detector.benchmark.delays import Delays
from stream_detector.benchmark.plan import STAGES, Plan
from stream_detector.benchmark.throughput import Speed

STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Stage:
    """One part of the time: in all, of a reading, as readings a second if there were nothing else, and as a share."""

    name: str
    seconds: float
    microseconds: float
    readings_a_second: float
    share: float


@dataclass(frozen=True)
class Limit:
    """A bare loop of the same run: how much a second, of what, and the worker's speed at the same against it.

    Where only a stage is held against it (`stage`), the ratio is that of this stage.
    """

    name: str
    a_second: float
    unit: str
    ratio: float
    stage: str | None = None


@dataclass(frozen=True)
class Latency:
    """From sending a reading to reading its alert, committed; None where no alert came."""

    alerts: int
    marked: int
    p50_s: float | None
    p99_s: float | None
    sent_a_second: float
    share: float
    sender_late_s: float


@dataclass(frozen=True)
class Memory:
    """Of the process, and of one sensor: its row in the process, and what the store keeps for it (0: not asked)."""

    resident_bytes: int
    row_bytes: float
    stored_bytes: float


@dataclass(frozen=True)
class Report:
    """All of it; seconds are those of the worker, or of what was run of it."""

    plan: Plan
    stage: str
    machine: dict[str, Any]
    readings: int
    windows: int
    alerts: int
    seconds: float
    readings_a_second: float
    stages: list[Stage]
    limits: list[Limit]
    memory: Memory
    latency: Latency | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON knows it."""
        return asdict(self)


def report(plan: Plan, stage: str, speed: Speed, delays: Delays | None = None) -> Report:
    """The report of a run; stage: the one that is asked for, or `all`."""
    seconds = sum(one[0] for one in speed.worker)
    shown = [name for name in STAGES if name in speed.stages.seconds and stage in ("all", name)]
    return Report(
        plan=plan,
        stage=stage,
        machine=_machine(),
        readings=speed.total,
        windows=speed.windows,
        alerts=speed.alerts,
        seconds=seconds,
        readings_a_second=speed.total / seconds,
        stages=[_stage(name, speed) for name in shown],
        limits=_limits(stage, speed),
        memory=Memory(resident_bytes(), speed.row_bytes, speed.stored_bytes),
        latency=_latency(delays) if delays else None,
    )


def _stage(name: str, speed: Speed) -> Stage:
    seconds, whole = speed.stages.seconds[name], sum(speed.stages.seconds.values())
    return Stage(name, seconds, seconds / speed.total * 1e6, speed.total / max(seconds, 1e-9), seconds / whole)


def _limits(stage: str, speed: Speed) -> list[Limit]:
    """What the worker, or the stage alone, is held against."""
    spent, seconds = sum(one[0] for one in speed.worker), speed.stages.seconds
    found = []
    if stage == "all":
        found.append(Limit("poll alone", speed.a_second(speed.poll), "readings", _against(speed.poll, spent)))
        found.append(Limit("poll and json.loads", speed.a_second(speed.loop), "readings", speed.ratio))
    elif stage == "decode":
        against = _against(speed.loop, seconds["decode"])
        found.append(Limit("json.loads", speed.a_second(speed.loop), "readings", against, "decode"))
    if stage in ("all", "score") and speed.windows:
        a_second = speed.windows / sum(one[0] for one in speed.score)
        found.append(Limit("model alone", a_second, "windows", _against(speed.score, seconds["score"]), "score"))
        if stage == "all":
            found.append(Limit("model alone", a_second, "windows", _against(speed.score, spent)))
    return found


def _against(bare: list[Spent], seconds: float) -> float:
    return sum(one[0] for one in bare) / seconds


def _latency(delays: Delays) -> Latency:
    p50, p99 = (float(np.percentile(delays.seconds, q)) for q in (50, 99)) if delays.seconds else (None, None)
    return Latency(len(delays.seconds), delays.marked, p50, p99, delays.sent_a_second, delays.share, delays.late_s)


def _machine() -> dict[str, Any]:
    return {
        "version": __version__,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_15_minutes": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }


def resident_bytes() -> int:
    """What this process holds now; where the system does not say, the most that it has held."""
    if STATM.exists():
        return int(STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
