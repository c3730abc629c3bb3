"""Streaming anomaly detection: readings in, incidents out."""

__version__ = "0.1.0"
