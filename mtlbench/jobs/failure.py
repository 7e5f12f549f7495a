"""Why a run failed, in the words of its record."""

from __future__ import annotations

import torch

from mtlbench.blame import described
from mtlbench.errors import UserError
from mtlbench.training.state import TrainingError


def reason_of(error: BaseException) -> str:
    """Return one line: what failed, and in whose code if that is not the user's to mend."""
    full = "can't allocate memory" in str(error) or "not enough memory" in str(error)  # how torch says it on a CPU
    if full or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    return str(error) if isinstance(error, UserError | TrainingError) else described(error)
