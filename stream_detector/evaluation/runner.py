"""Detectors over labelled series: the very detector of production, one fresh one a series, several at a time.

A run that is kept already is not made again. One that fails is told by its name and does not stop the others.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from stream_detector import settings as all_settings
from stream_detector.errors import DataError, OutputError, StreamDetectorError
from stream_detector.evaluation import results, sets
from stream_detector.evaluation.results import Facts, Place, Result
from stream_detector.evaluation.sets import Labelled, Series
from stream_detector.models import MODELS, PRETRAINED, UNTRAINED
from stream_detector.records import encode
from stream_detector.settings import Settings
from stream_detector.streaming import offline
from stream_detector.streaming.files import make_directory
from stream_detector.streaming.offline import Learning
from stream_detector.streaming.profiles import device
from stream_detector.training.fit import FitOptions, Progress
from stream_detector.training.train import TrainOptions

SETTINGS = "settings.json"
TRAINING = ("prefix", "none")


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes results comparable: two runs with the same plan may stand in one table.

    training: `prefix` learns from the first rows of each series; `none` begins with weights that come along or need no
    training, and learns from the series' own past as it arrives. Weights of a directory stay as they are.
    """

    training: str
    window: int
    budget: str
    threshold: str
    epochs: int
    seed: int


@dataclass(frozen=True, slots=True)
class Job:
    """One detector on one series. model: a model's name, or the directory of an artifact."""

    series: Series
    model: str
    plan: Plan
    settings: Settings
    directory: Path

    @property
    def place(self) -> Place:
        """Where its results are kept."""
        return Place(self.directory, Path(self.model).name, self.series.name)


@dataclass(frozen=True, slots=True)
class Failed:
    """A run that gave no result, and why."""

    detector: str
    series: str
    reason: str


def keep_plan(directory: Path, plan: Plan) -> None:
    """Say in the directory what its results were made with; raises OutputError if it holds those of another plan."""
    make_directory(directory)
    place = directory / SETTINGS
    text = json.dumps(asdict(plan), indent=1) + "\n"
    try:
        before = place.read_text(encoding="utf-8") if place.exists() else text
        if before != text:
            raise OutputError(f"{directory} holds results of other settings ({place}): name another --output")
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{place} cannot be written ({error.strerror}): name another --output") from error


def run_all(jobs: Sequence[Job], processes: int, progress: Progress) -> tuple[list[Result], list[Failed]]:
    """Results in the order of the jobs, and what failed."""
    done: dict[int, list[Result] | Failed] = {}
    for number, outcome in _outcomes(jobs, processes):
        done[number] = outcome
        progress(len(done), len(jobs), 0.0)
    ordered = [done[number] for number in range(len(jobs))]
    found = [result for outcome in ordered if not isinstance(outcome, Failed) for result in outcome]
    return found, [outcome for outcome in ordered if isinstance(outcome, Failed)]


def _outcomes(jobs: Sequence[Job], processes: int) -> Iterator[tuple[int, list[Result] | Failed]]:
    # The longest first, so that none is left over at the end.
    order = sorted(range(len(jobs)), key=lambda number: -_size(jobs[number]))
    if processes == 1 or len(jobs) == 1:
        yield from ((number, attempt(jobs[number])) for number in order)
        return
    # Threads of torch do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _leave_interrupts_to_the_parent) as pool:
        try:
            futures = {pool.submit(attempt, jobs[number]): number for number in order}
            for future in as_completed(futures):
                yield futures[future], _outcome(future, jobs[futures[future]])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _outcome(future: Future[list[Result] | Failed], job: Job) -> list[Result] | Failed:
    try:
        return future.result()
    except BrokenProcessPool:
        reason = "a process was ended from outside, perhaps for want of memory: try again with fewer --jobs"
        return Failed(job.place.detector, job.place.series, reason)


def _size(job: Job) -> int:
    return job.series.path.stat().st_size if job.series.path.exists() else 0


def attempt(job: Job) -> list[Result] | Failed:
    """A job's results, or why there are none."""
    # One thread: a small model gains nothing from more, and the sums are the same whatever the number of jobs.
    torch.set_num_threads(1)
    try:
        labelled = sets.read(job.series)
        if not job.place.scores.exists():
            _detect(job, labelled)
        return results.judge(labelled, job.place)
    except StreamDetectorError as error:
        return Failed(job.place.detector, job.place.series, str(error))
    except Exception as error:  # a model's own fault must not cost the other results; it is told by name
        return Failed(job.place.detector, job.place.series, f"{type(error).__name__}: {error}")


def _detect(job: Job, labelled: Labelled) -> None:
    plan, table = job.plan, labelled.table
    if len(table) != len(labelled.labels):
        raise DataError(f"{job.series.path} has {len(table)} rows but {len(labelled.labels)} labels: mend the file")
    clock = _Clock()
    fit = FitOptions(epochs=plan.epochs, seed=plan.seed)
    options = TrainOptions(job.model, plan.window, device(job.settings.detector.device), fit)
    rows = None
    if job.model in MODELS and plan.training == "none":
        rows = 0
    elif job.model in MODELS:
        rows = labelled.learned or len(offline.training_rows(table, None, plan.window))
    settings = all_settings.override(job.settings, {"model": job.model, "window": plan.window})
    run = offline.detect(table, settings, Learning(options, rows), None, (), clock.bar)
    scored = int((~np.isnan(run.rows.score)).sum())
    facts = Facts(int(run.rows.trained.sum()), scored, round(clock.seconds(), 3))
    results.write(
        job.place, table.timestamps, run.rows.score, run.rows.anomalous, facts, [encode(alert) for alert in run.alerts]
    )


class _Clock:
    """Takes the processor's time from when detection asks for its progress bar: training does not count, but
    for what is learned on the way.

    What else the machine is busy with, other jobs above all, makes no difference to it.
    """

    def __init__(self) -> None:
        self.started = time.process_time()

    def bar(self, name: str) -> Progress:
        self.started = time.process_time()
        return lambda done, total, value: None

    def seconds(self) -> float:
        return time.process_time() - self.started


def needs_training(model: str) -> bool:
    """Whether a model scores only what it has been trained for: there are no weights of it to begin with."""
    return model in MODELS and model not in UNTRAINED and not (PRETRAINED / model).exists()
