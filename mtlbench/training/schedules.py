"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from mtlbench.benchmark import Train


def _constant(train: Train, share: float) -> float:
    return 1.0


def _cosine(train: Train, share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _linear(train: Train, share: float) -> float:
    return max(0.0, 1 - share)  # costs are measured on steps beyond the last


def _one_cycle(train: Train, share: float) -> float:
    """Up from 1/25 over the first 3 tenths, then down to 0, both on a cosine."""
    if share < 0.3:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * share / 0.3))
    return 0.5 * (1 + math.cos(math.pi * (share - 0.3) / 0.7))


def _step(train: Train, share: float) -> float:
    return float(train.decay ** sum(share >= milestone for milestone in train.milestones))


def _exponential(train: Train, share: float) -> float:
    return float(train.decay**share)


SCHEDULES: dict[str, Callable[[Train, float], float]] = {
    "constant": _constant,
    "one-cycle": _one_cycle,
    "cosine": _cosine,
    "linear": _linear,
    "step": _step,
    "exponential": _exponential,
}
"""Name -> function of the protocol and of the share of the run that is over."""


def schedule_factor(train: Train, step: int) -> float:
    """Return what the learning rate is multiplied by at a step counted from 0."""
    return SCHEDULES[train.schedule](train, step / train.steps)
