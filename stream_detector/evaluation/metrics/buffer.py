"""The period of a series, which VUS takes for its widest slope."""

from __future__ import annotations

import numpy as np

from stream_detector.records import Floats

USED = 20_000
LAGS = 400
SHORTEST, LONGEST = 3, 300
USUAL = 125
"""Taken where no period is found."""


def buffer_of(values: Floats) -> int:
    """Rows of a series' period, by the rule of TSB-AD: the highest local maximum of its autocorrelation.

    values: (N,) of the first channel, in time order; NaN is taken for the mean. Looks at the first 20,000 rows and at
    lags from 3 to 400; a peak below lag 6 or above 303 is taken for none.
    """
    x = values[:USED]
    known = np.isfinite(x)
    if not known.any():
        return USUAL
    x = np.where(known, x - x[known].mean(), 0.0)
    size = 2 ** int(np.ceil(np.log2(2 * len(x))))
    power = np.abs(np.fft.rfft(x, size)) ** 2
    covariance = np.fft.irfft(power, size)[: min(LAGS + 1, len(x))]
    if covariance[0] <= 0:
        return USUAL
    curve = (covariance / covariance[0])[SHORTEST:]
    peaks = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] > curve[2:])) + 1
    if not len(peaks):
        return USUAL
    best = int(peaks[np.argmax(curve[peaks])])
    return best + SHORTEST if SHORTEST <= best <= LONGEST else USUAL
