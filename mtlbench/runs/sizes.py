"""Sizes of files that `mtlbench export` wrote of a run, among the costs of its record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtlbench.errors import UserError
from mtlbench.runs.lock import Busy, working_on
from mtlbench.runs.record import read_record, update_record


@dataclass(frozen=True)
class Stored:
    """A kind of file whose size is kept: its costs' names, and what tables call it."""

    format: str
    precision: str
    heading: str
    words: str

    @property
    def size(self) -> str:
        """The cost that holds the file's bytes, with all of a run's tasks."""
        return f"{self.format}_{self.precision}_bytes"

    @property
    def added(self) -> str:
        """The cost that holds what one more task adds to the file, in bytes."""
        return f"{self.size}_added"


STORED = (
    Stored("onnx", "int8", "int8 file", "ONNX file in int8"),
    Stored("onnx", "fp16", "fp16 ONNX file", "ONNX file in fp16"),
    Stored("torch", "fp16", "fp16 torch file", "torch program (.pt2) in fp16"),
    Stored("safetensors", "fp16", "fp16 weights", "file of the weights in fp16, without a program,"),
)
SIZES = frozenset(key for kind in STORED for key in (kind.size, kind.added))  # the same for every seed of a method


def stored_as(format: str, precision: str) -> Stored | None:
    """Return the kind of file whose size is kept, or None for one whose isn't."""
    return next((kind for kind in STORED if (kind.format, kind.precision) == (format, precision)), None)


def keep_sizes(folder: Path, sizes: Mapping[str, float]) -> str:
    """Add sizes to the costs of a run's record; others that it holds stay, but for older ones of the same file.

    Args:
        folder: of the run.
        sizes: bytes by cost.

    Returns:
        why they are not kept, in a sentence; empty where they are.
    """
    if not sizes:
        return ""
    if not _writable(folder):
        return f"{folder} can't be written to."
    old = {name for kind in STORED if kind.size in sizes for name in (kind.size, kind.added)}
    try:
        with working_on(folder):
            record = read_record(folder)
            if record is None:
                return f"{folder} holds no record any more."
            record.costs = {name: cost for name, cost in record.costs.items() if name not in old} | dict(sizes)
            update_record(folder, record)
    except Busy as busy:
        return f"{busy.who} works on {folder}."
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{folder} can't be written to ({error.strerror})."
    return ""


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)
