"""Why a run failed, in the words of its record."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

from mtlbench.errors import UserError
from mtlbench.training.state import TrainingError


def reason_of(error: Exception) -> str:
    """Return one line: what failed, and where in the code if that is not the user's to mend."""
    full = "can't allocate memory" in str(error) or "not enough memory" in str(error)  # how torch says it on a CPU
    if full or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    if isinstance(error, UserError | TrainingError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {words} ({Path(last.filename).name}:{last.lineno})"
