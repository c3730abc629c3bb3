"""Models: windows in, scores out; one file a model, one small interface for all."""

from stream_detector.models.encoder import Encoder, EncoderConfig

MODELS = {
    Encoder.name: (Encoder, EncoderConfig),
}
"""Model and configuration class by the name that `--model` takes."""
