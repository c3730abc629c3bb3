"""Names of a partition's keys.

All keys of a partition share the hash tag `{topic:partition}`, so that a Redis Cluster keeps them on one node and
one script can write them. Names are percent-encoded: nothing that a user chose can end the tag or split a name.
Sensor ids are data and never part of a key.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

ROWS = b"rows:"
"""What the fields of meta begin with that count a profile's rows."""
LAYOUT = b"layout:"
"""What the fields of meta begin with that keep a layout, by its tag."""


class PartitionKeys:
    """The keys of one partition of one consumer group."""

    def __init__(self, prefix: str, group_id: str, topic: str, partition: int) -> None:
        self.base = f"{_plain(prefix)}:{_plain(group_id)}:{{{_plain(topic)}:{partition}}}:"
        self.meta = f"{self.base}meta"
        self.outbox = f"{self.base}outbox"

    def sensors(self, profile: str) -> str:
        """The hash of a profile's rows."""
        return f"{self.base}sensors:{_plain(profile)}"


def rows_field(profile: str) -> bytes:
    """The field of meta that counts the profile's rows."""
    return ROWS + _plain(profile).encode()


def profile_of(rows_field: bytes) -> str:
    """The profile whose rows the field counts."""
    return unquote(rows_field.removeprefix(ROWS).decode(), errors="surrogatepass")


def _plain(name: str) -> str:
    return quote(name, safe="", errors="surrogatepass")
