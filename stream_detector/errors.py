"""Every error that a user can meet, as one tree.

    StreamDetectorError
    |-- ConfigError      a setting or an option that cannot be used         (exit code 2)
    |-- DataError        a file or a record that cannot be read             (exit code 2)
    |-- ArtifactError    weights that are missing, corrupt or do not fit    (exit code 2)
    |-- OutputError      a result that cannot be written                    (exit code 1)
    `-- OutsideError     a broker or a store does not do its part           (exit code 1)
        |-- TransportError   Kafka is away, or refuses
        |-- StoreError       Redis is away, or refuses
        `-- FencedError      another worker has taken over: nothing may be written any more

A message is one sentence or two that say what is wrong, where, and what the user can do. The command
line prints it and ends with the leaf's `exit_code`; it never prints a traceback for these.
"""

from __future__ import annotations

from typing import ClassVar


class StreamDetectorError(Exception):
    """Root of the tree: something that the user can act on."""

    exit_code: ClassVar[int] = 1


class ConfigError(StreamDetectorError):
    """A setting, an option or a combination of them that cannot be used."""

    exit_code = 2


class DataError(StreamDetectorError):
    """Input that cannot be read at all; single bad rows are counted instead, never raised."""

    exit_code = 2


class ArtifactError(StreamDetectorError):
    """An artifact that is missing, corrupt, of another version, or made for other channels."""

    exit_code = 2


class OutputError(StreamDetectorError):
    """A result that could not be written."""


class OutsideError(StreamDetectorError):
    """Something that the program depends on does not do its part; what to do with it is to try again."""


class TransportError(OutsideError):
    """Kafka is away, or refuses what it was asked for."""


class StoreError(OutsideError):
    """Redis is away, or refuses what it was asked for."""


class FencedError(OutsideError):
    """Another worker has taken over what this one wanted to write: it may write nothing, and starts afresh."""
