"""What weights know of the sensors that they were trained on, put into those sensors' rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stream_detector.detect import scale
from stream_detector.detect.state import SensorTable
from stream_detector.models.artifact import SensorSeed
from stream_detector.records import Ints


def seed_scale(table: SensorTable, rows: Ints, seeds: Mapping[str, SensorSeed]) -> None:
    """Start sensors that training has seen on the scale it found; the others find their own."""
    for row in rows.tolist():
        if seed := seeds.get(table.ids[row]):
            state = table.state[row]
            state["center"], state["spread"], state["folds"] = (
                seed.center,
                seed.spread,
                np.float32(scale.MEMORY),
            )
