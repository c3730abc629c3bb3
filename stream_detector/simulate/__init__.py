"""Fleets of simulated sensors with faults of known kind and time.

`fields` and `signals` know what healthy sensors look like, `faults` how a fault changes any array of values,
`fleet` puts the two together, `files` writes and reads, `live` tells a fleet moment by moment. Nothing here knows a
detector or keeps a score.
"""

from stream_detector.simulate.faults import (
    INJECTORS,
    KINDS,
    LENGTHS,
    MAGNITUDES,
    deviation,
    draw_length,
    draw_magnitude,
)
from stream_detector.simulate.fields import FIELDS
from stream_detector.simulate.files import faults_path, read_faults, write_csv
from stream_detector.simulate.fleet import Fault, Fleet, Series, simulate
from stream_detector.simulate.live import Moment, live

__all__ = [
    "FIELDS",
    "INJECTORS",
    "KINDS",
    "LENGTHS",
    "MAGNITUDES",
    "Fault",
    "Fleet",
    "Moment",
    "Series",
    "deviation",
    "draw_length",
    "draw_magnitude",
    "faults_path",
    "live",
    "read_faults",
    "simulate",
    "write_csv",
]
