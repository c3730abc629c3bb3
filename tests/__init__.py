"""Tests: unit, property, integration, end to end."""
