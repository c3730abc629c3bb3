"""Models: windows in, scores out; one file a model, one small interface for all."""

from pathlib import Path
from typing import Any

from stream_detector.models.anomaly_transformer import (
    AnomalyTransformer,
    AnomalyTransformerConfig,
    AnomalyTransformerPaper,
    AnomalyTransformerPaperConfig,
)
from stream_detector.models.encoder import Encoder, EncoderConfig
from stream_detector.models.knn import Knn, KnnConfig
from stream_detector.models.moving_variance import MovingVariance, MovingVarianceConfig
from stream_detector.models.moving_z import MovingZ, MovingZConfig
from stream_detector.models.multiscale import Multiscale, MultiscaleConfig
from stream_detector.models.random_score import Random, RandomConfig
from stream_detector.models.spectral_residual import SpectralResidual, SpectralResidualConfig
from stream_detector.models.squared_difference import SquaredDifference, SquaredDifferenceConfig
from stream_detector.models.sub_pca import SubPca, SubPcaConfig
from stream_detector.models.timesnet import TimesNet, TimesNetConfig, TimesNetPaper, TimesNetPaperConfig
from stream_detector.models.tranad import TranAd, TranAdConfig, TranAdPaper, TranAdPaperConfig

MODELS: dict[str, tuple[type[Any], type[Any]]] = {
    Multiscale.name: (Multiscale, MultiscaleConfig),
    Encoder.name: (Encoder, EncoderConfig),
    AnomalyTransformer.name: (AnomalyTransformer, AnomalyTransformerConfig),
    AnomalyTransformerPaper.name: (AnomalyTransformerPaper, AnomalyTransformerPaperConfig),
    TranAd.name: (TranAd, TranAdConfig),
    TranAdPaper.name: (TranAdPaper, TranAdPaperConfig),
    TimesNet.name: (TimesNet, TimesNetConfig),
    TimesNetPaper.name: (TimesNetPaper, TimesNetPaperConfig),
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
PRETRAINED = Path(__file__).with_name("pretrained")
"""Where the weights that come with the program lie, a directory a model."""
UNTRAINED = frozenset(BASELINES) - {SubPca.name, Knn.name}
"""Models that score without having learned anything."""
