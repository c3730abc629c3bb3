"""Score to p-value to decision, for many sensors at once; `decisions.Thresholds` is the interface.

`decisions` has the answer and severity, `calibration` what a fleet's held-out scores tell a new sensor, `tail` the
generalised Pareto fit and the depth curve, `track` a sensor's level and spread. `block_maximum` is the default
method, with `epochs` and `limits` for what the past says and `alarms` for the hard cap on alerts; `spot` and `static`
are the others. `swap` measures what new weights do to scores, `history` says how much of it a budget needs.
"""

from __future__ import annotations

from collections.abc import Callable

from stream_detector.detect.state import Fields
from stream_detector.detect.thresholds import spot, static
from stream_detector.detect.thresholds.block_maximum import FIELDS, BlockMaximum
from stream_detector.detect.thresholds.calibration import Calibration, calibrate
from stream_detector.detect.thresholds.decisions import Decisions, Thresholds, severity
from stream_detector.detect.thresholds.history import History, history_needed, shortfall
from stream_detector.detect.thresholds.spot import Dspot, Spot
from stream_detector.detect.thresholds.static import Fixed, Quantile
from stream_detector.detect.thresholds.track import log_score
from stream_detector.errors import ConfigError
from stream_detector.settings import Budget

DEFAULT = "block-maximum"
METHODS: dict[str, Callable[..., Thresholds]] = {
    DEFAULT: BlockMaximum,
    "spot": Spot,
    "dspot": Dspot,
    "fixed": Fixed,
    "quantile": Quantile,
}
_FIELDS = {
    DEFAULT: FIELDS,
    "spot": spot.SPOT_FIELDS,
    "dspot": spot.DSPOT_FIELDS,
    "fixed": static.FIELDS,
    "quantile": static.FIELDS,
}


def build(method: str, budget: Budget, calibration: Calibration | None) -> Thresholds:
    """The method by its name, with a value behind a colon where it takes one (`fixed:3.5`, `quantile:0.999`).

    Raises ConfigError for another name or value.
    """
    name, value = _parse(method)
    if value is None:
        return METHODS[name](budget, calibration)
    return METHODS[name](budget, calibration, value)


def fields(method: str) -> Fields:
    """A sensor's part of the state for a method, named as for `build`."""
    return _FIELDS[_parse(method)[0]]


def _parse(method: str) -> tuple[str, float | None]:
    name, colon, text = method.partition(":")
    if name not in METHODS:
        raise ConfigError(f"there is no threshold method {name!r}: choose one of {', '.join(METHODS)}")
    if not colon:
        return name, None
    if name not in ("fixed", "quantile"):
        raise ConfigError(f"the threshold method {name} takes no value: leave out {colon + text!r}")
    try:
        return name, float(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} in the threshold method {method!r} is not a number") from error


__all__ = [
    "DEFAULT",
    "FIELDS",
    "METHODS",
    "BlockMaximum",
    "Calibration",
    "Decisions",
    "Dspot",
    "Fixed",
    "History",
    "Quantile",
    "Spot",
    "Thresholds",
    "build",
    "calibrate",
    "fields",
    "history_needed",
    "log_score",
    "severity",
    "shortfall",
]
