"""Successive halving: all trials begin, the better half goes on, rung by rung; the budget is the same for all methods.

Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016 (arXiv
1502.07943). Rungs are synchronous: none is decided before all trials have reached it. Optuna's own pruner decides at
once, by what happens to be there, so that how many go on, and hence the budget, would differ from method to method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SHARES = (8, 4, 2)  # of all steps, one in so many: where half of the trials end
_FEWEST = 2  # reach the end: the default, and the best of the others


@dataclass(frozen=True)
class Rung:
    """A step to which so many trials of every method are trained."""

    step: int
    trials: int


def rungs(trials: int, steps: int, every: int) -> tuple[Rung, ...]:
    """Return the rungs, the last of which is the whole training.

    >>> [(rung.step, rung.trials) for rung in rungs(16, 400, 25)]
    [(50, 16), (100, 8), (200, 4), (400, 2)]

    Args:
        trials: that begin.
        steps: of a whole training; every: steps between validations, at which rungs lie.
    """
    made: list[Rung] = []
    left = trials
    for share in _SHARES:
        step = -(-steps // share // every) * every
        if step < steps and left > _FEWEST and (not made or step > made[-1].step):
            made.append(Rung(step, left))
            left = max(_FEWEST, -(-left // 2))
    return (*made, Rung(steps, left))


def going_on(scores: Mapping[int, float], keep: int) -> set[int]:
    """Return which trials go on from a rung: the default, and of the others the best, at most `keep` in all.

    Args:
        scores: of those that reached it, by number; one that failed has none, and nobody takes its place.
        keep: how many the next rung has.
    """
    others = sorted((number for number in scores if number), key=lambda number: (-scores[number], number))
    return {*others[: keep - 1], *({0} & scores.keys())}


def budget(ladder: Sequence[Rung]) -> int:
    """Return the steps that all trials of a method take together, where none fails."""
    below = [0, *(rung.step for rung in ladder)]
    return sum(rung.trials * (rung.step - start) for rung, start in zip(ladder, below, strict=False))


def in_words(ladder: Sequence[Rung]) -> str:
    """Say how many trials are trained how far: `16 to step 50, 8 to 100, 2 to 400`."""
    first, *rest = ladder
    return ", ".join([f"{first.trials} to step {first.step:,}", *(f"{rung.trials} to {rung.step:,}" for rung in rest)])
