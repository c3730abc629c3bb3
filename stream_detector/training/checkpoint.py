"""A training that is under way, on disk, so that one that was cut off goes on where it was.

One file of safetensors, replaced whole; pickle is never used. `key` says what is being trained: a file of another
training is not taken up. A file that cannot be written or read costs the resumption and nothing else.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

logger = logging.getLogger(__name__)
FACTS = "facts"


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a training has come: its tensors by name, and plain values."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class Checkpoint:
    """Where a training is kept. `oldest_s`: one that was left alone for longer is not taken up."""

    def __init__(self, path: Path, key: str, oldest_s: float = 86_400.0) -> None:
        self._path, self._key, self._oldest_s = path, key, oldest_s
        self._told = False

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace what is kept; where that fails it is said once, and the training goes on."""
        part = self._path.with_name(f".{self._path.name}.part")
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(safetensors.torch.save(whole, {"key": self._key, FACTS: json.dumps(dict(facts))}))
            part.replace(self._path)
        except OSError as error:
            if not self._told:
                logger.warning(
                    "%s cannot be written (%s): after a crash the training would start over; make room, or set "
                    "trainer.directory",
                    self._path,
                    error.strerror,
                )
            self._told = True

    def load(self) -> Progressed | None:
        """What is kept of this very training, None if there is nothing of use."""
        try:
            if time.time() - self._path.stat().st_mtime > self._oldest_s:
                return None
            with safe_open(self._path, framework="pt") as kept:
                said = kept.metadata() or {}
                if said.get("key") != self._key:
                    return None
                return Progressed({name: kept.get_tensor(name) for name in kept.keys()}, json.loads(said[FACTS]))  # noqa: SIM118
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            logger.warning("%s cannot be read (%s): the training starts over", self._path, error)
            return None

    def clear(self) -> None:
        """Forget it: the training is done."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s cannot be removed (%s): remove it", self._path, error.strerror)
