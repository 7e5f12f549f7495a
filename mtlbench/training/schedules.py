"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math

from mtlbench.benchmark import Train


def schedule_factor(train: Train, step: int) -> float:
    """Return what the learning rate is multiplied by at a step counted from 0."""
    share = step / train.steps
    if train.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    if train.schedule == "one-cycle":  # up from 1/25 over the first 3 tenths, then down to 0, both on a cosine
        if share < 0.3:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * share / 0.3))
        return 0.5 * (1 + math.cos(math.pi * (share - 0.3) / 0.7))
    if train.schedule == "step":
        return float(train.decay ** sum(share >= milestone for milestone in train.milestones))
    if train.schedule == "exponential":
        return float(train.decay**share)
    return 1.0
