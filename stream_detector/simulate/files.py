"""Fleets as files: readings as CSV, the faults beside them as JSON.

The same fleet gives the same bytes, also when compressed. It knows nothing of how a fleet is made.
"""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import msgspec
import numpy as np

from stream_detector.errors import DataError, OutputError
from stream_detector.records import format_time, parse_time
from stream_detector.simulate.fleet import Fault, Fleet


class _FaultRow(msgspec.Struct, frozen=True):
    """A fault as it is written."""

    sensor_id: str
    kind: str
    channels: tuple[str, ...]
    start: str
    end: str
    magnitude: float


class _FaultFile(msgspec.Struct, frozen=True):
    """The faults of a fleet as they are written."""

    field: str
    interval_ms: int
    seed: int
    faults: list[_FaultRow]


def faults_path(path: str | Path) -> Path:
    """Where the faults of a readings file are: `plant.csv` and `plant.csv.gz` -> `plant.faults.json`."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".csv") + ".faults.json")


def write_csv(fleet: Fleet, path: str | Path) -> None:
    """Write the readings in time order over all sensors, and the faults beside them; `.gz` compresses.

    Columns: timestamp (RFC 3339), sensor_id, the channels, label (0 or 1). A missing value is an empty cell.
    """
    path = Path(path)
    text = _as_csv(fleet).encode()
    # No name and no time in the compressed file's header: the same fleet is the same bytes.
    data = gzip.compress(text, compresslevel=6, mtime=0) if path.name.endswith(".gz") else text
    for target, content in ((path, data), (faults_path(path), _as_json(fleet))):
        try:
            target.write_bytes(content)
        except OSError as error:
            raise OutputError(
                f"cannot write {target}: {error.strerror}; choose a folder that exists and can be written to"
            ) from error


def read_faults(path: str | Path) -> list[Fault]:
    """Read the faults that `write_csv` wrote beside the readings, from the `.faults.json` file."""
    path = Path(path)
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_FaultFile)
        return [
            Fault(row.sensor_id, row.kind, row.channels, parse_time(row.start), parse_time(row.end), row.magnitude)
            for row in file.faults
        ]
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}; name the .faults.json file beside the readings"
        ) from error
    except ValueError as error:  # msgspec's errors and parse_time's are ValueErrors
        raise DataError(f"{path} is not a file of faults: {error}; write it anew with simulate") from error


def _as_json(fleet: Fleet) -> bytes:
    """The faults as indented JSON."""
    rows = [
        _FaultRow(f.sensor_id, f.kind, f.channels, format_time(f.start_ms), format_time(f.end_ms), f.magnitude)
        for f in fleet.faults
    ]
    file = _FaultFile(fleet.field, fleet.interval_ms, fleet.seed, rows)
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def _as_csv(fleet: Fleet) -> str:
    """The readings as CSV; sensors keep their order within one time."""
    times = np.concatenate([series.time_ms for series in fleet.series])
    order = np.argsort(times, kind="stable")
    moments, moment_of = np.unique(times, return_inverse=True)
    stamps = [format_time(int(moment)) for moment in moments]
    values = np.concatenate([series.values for series in fleet.series])[order]
    label = np.concatenate([series.label for series in fleet.series])[order]
    names = np.repeat(np.arange(len(fleet.series)), [len(series.time_ms) for series in fleet.series])[order]
    columns = [
        [stamps[i] for i in moment_of[order].tolist()],
        [fleet.series[i].sensor_id for i in names.tolist()],
        *([_cell(value) for value in column.tolist()] for column in values.T),
        label.astype(np.int64).tolist(),
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["timestamp", "sensor_id", *fleet.series[0].channels, "label"])
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def _cell(value: float) -> str:
    """The shortest text that reads back as the same number; nothing for NaN."""
    return "" if value != value else repr(value).removesuffix(".0")
