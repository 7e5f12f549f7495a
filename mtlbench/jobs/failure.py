"""The reason why a run failed, as its record states it."""

from __future__ import annotations

import torch

from mtlbench.blame import described
from mtlbench.errors import UserError
from mtlbench.training.state import TrainingError


def reason_of(error: BaseException) -> str:
    """Return one line: what failed, and in whose code unless the user can fix it."""
    full = "can't allocate memory" in str(error) or "not enough memory" in str(error)  # torch's wording on a CPU
    if full or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    return str(error) if isinstance(error, UserError | TrainingError) else described(error)
