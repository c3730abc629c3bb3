"""The HTML page of an evaluation: a picture of each series with readings, scores, labels and incidents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from stream_detector.errors import DataError
from stream_detector.evaluation import results, sets
from stream_detector.evaluation.metrics.events import spans
from stream_detector.evaluation.report import SensorTrace, write_report
from stream_detector.evaluation.results import Place
from stream_detector.evaluation.sets import Series
from stream_detector.records import Alert, Bools, Ints

DRAWN = 200
"""Pictures on a page at most; a browser opens no more with ease."""


def draw(path: Path, title: str, facts: Mapping[str, str], kept: Sequence[tuple[Series, Place]]) -> None:
    """Draw what one detector found in each of the series, from its kept results."""
    traces: list[SensorTrace] = []
    alerts: list[Alert] = []
    labels: dict[str, list[tuple[int, int]]] = {}
    for series, place in kept[:DRAWN]:
        labelled = sets.read(series)
        table = labelled.table
        score, _ = results.read_scores(place.scores, len(table))
        trained = table.order[: results.read_facts(place.facts).trained]
        told = _alerts(place.alerts)
        for index, sensor_id in enumerate(table.sensor_ids):
            mine = table.order[table.sensor[table.order] == index]
            # A file's name may occur in several folders, so a series is known by its own name.
            name = series.name if len(table.sensor_ids) == 1 else f"{series.name}/{sensor_id}"
            learned = trained[table.sensor[trained] == index]
            traces.append(
                SensorTrace(
                    sensor_id=name,
                    time_ms=table.time_ms[mine],
                    values=table.values[mine],
                    score=score[mine],
                    threshold=np.full(len(mine), np.nan),
                    training_until_ms=int(table.time_ms[learned].max()) if len(learned) else None,
                    channels=table.channels,
                )
            )
            labels[name] = _spans_ms(labelled.labels[mine], table.time_ms[mine])
            alerts += [_renamed(alert, name) for alert in told if alert.sensor_id == sensor_id]
    if traces:
        write_report(
            path, title=title, channels=(), traces=traces, alerts=alerts, facts=facts, max_sensors=DRAWN, labels=labels
        )


def _alerts(path: Path) -> list[Alert]:
    try:
        return [msgspec.json.decode(line, type=Alert) for line in path.read_bytes().splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be used ({error}): remove its scores to have both made again") from error


def _renamed(alert: Alert, name: str) -> Alert:
    return msgspec.structs.replace(alert, sensor_id=name, alert_id=f"{name} {alert.alert_id}")


def _spans_ms(labels: Bools, time_ms: Ints) -> list[tuple[int, int]]:
    """First and last moment of each event."""
    return [(int(time_ms[start]), int(time_ms[stop - 1])) for start, stop in spans(labels).tolist()]
