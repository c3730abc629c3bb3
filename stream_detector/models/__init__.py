"""Models: windows in, scores out; one file a model, one small interface for all."""

from typing import Any

from stream_detector.models.encoder import Encoder, EncoderConfig
from stream_detector.models.moving_z import MovingZ, MovingZConfig

MODELS: dict[str, tuple[type[Any], type[Any]]] = {
    Encoder.name: (Encoder, EncoderConfig),
    MovingZ.name: (MovingZ, MovingZConfig),
}
"""Model and configuration class by the name that `--model` takes."""
