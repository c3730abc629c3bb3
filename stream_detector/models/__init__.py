"""Models: windows in, scores out; one file a model, one small interface for all."""

from typing import Any

from stream_detector.models.encoder import Encoder, EncoderConfig
from stream_detector.models.knn import Knn, KnnConfig
from stream_detector.models.moving_variance import MovingVariance, MovingVarianceConfig
from stream_detector.models.moving_z import MovingZ, MovingZConfig
from stream_detector.models.random_score import Random, RandomConfig
from stream_detector.models.spectral_residual import SpectralResidual, SpectralResidualConfig
from stream_detector.models.squared_difference import SquaredDifference, SquaredDifferenceConfig
from stream_detector.models.sub_pca import SubPca, SubPcaConfig

MODELS: dict[str, tuple[type[Any], type[Any]]] = {
    Encoder.name: (Encoder, EncoderConfig),
    MovingZ.name: (MovingZ, MovingZConfig),
    Random.name: (Random, RandomConfig),
    MovingVariance.name: (MovingVariance, MovingVarianceConfig),
    SquaredDifference.name: (SquaredDifference, SquaredDifferenceConfig),
    SubPca.name: (SubPca, SubPcaConfig),
    Knn.name: (Knn, KnnConfig),
    SpectralResidual.name: (SpectralResidual, SpectralResidualConfig),
}
"""Model and configuration class by the name that `--model` takes."""
BASELINES = (
    Random.name,
    MovingZ.name,
    MovingVariance.name,
    SquaredDifference.name,
    SubPca.name,
    Knn.name,
    SpectralResidual.name,
)
"""The yardsticks that stand in every table of results."""
UNTRAINED = frozenset(BASELINES) - {SubPca.name, Knn.name}
"""Models that score without having learned anything."""
