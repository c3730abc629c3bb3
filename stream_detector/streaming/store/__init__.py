"""The store of partitions: state, place and outbox of each, written together or not at all.

What Redis holds of a partition is three kinds of keys: `meta` (a hash: epoch, step, next offset, the worker's own
meta, layouts, how many rows each profile has), `outbox` (a list: saves whose messages are not known to be
published), and `sensors:<profile>` (a hash: sensor id -> row). Each write is one script call that first compares
the epoch, so a worker that lost a partition writes nothing; each may be sent any number of times.

The store does not know what rows, meta and messages mean, nor what Kafka has committed.
"""

from stream_detector.streaming.store.records import (
    Claim,
    Glance,
    Outboxed,
    PartitionSave,
    PartitionTrim,
    Rows,
    WriteRefusedError,
)
from stream_detector.streaming.store.store import Store

__all__ = ["Claim", "Glance", "Outboxed", "PartitionSave", "PartitionTrim", "Rows", "Store", "WriteRefusedError"]
