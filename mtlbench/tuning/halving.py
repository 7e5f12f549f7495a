"""Successive halving: all trials begin, and the better half continues, rung by rung.

The budget is the same for all methods. Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter
Optimization, AISTATS 2016 (arXiv 1502.07943). Rungs are synchronous: a rung is decided only after all trials have
reached it. Optuna's own pruner decides at once, from the trials that happen to be there. The number of trials that
continue, and hence the budget, would then differ between methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SHARES = (8, 4, 2)  # divisors of all steps: at each, half of the trials end
_FEWEST = 2  # trials that reach the end: the default, and the best of the others


@dataclass(frozen=True)
class Rung:
    """A training step, and the number of trials of each method that are trained to it."""

    step: int
    trials: int


def rungs(trials: int, steps: int, every: int) -> tuple[Rung, ...]:
    """Return the rungs; the last one is the whole training.

    >>> [(rung.step, rung.trials) for rung in rungs(16, 400, 25)]
    [(50, 16), (100, 8), (200, 4), (400, 2)]

    Args:
        trials: the number that begin.
        steps: of a whole training; every: steps between validations; rungs are at validations.
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
    """Return which trials continue from a rung: the default and the best of the others, at most `keep` in all.

    Args:
        scores: of the trials that reached it, by number; a failed trial has none, and no other takes its place.
        keep: how many trials the next rung has.
    """
    others = sorted((number for number in scores if number), key=lambda number: (-scores[number], number))
    return {*others[: keep - 1], *({0} & scores.keys())}


def budget(ladder: Sequence[Rung]) -> int:
    """Return the total steps of all trials of a method, if none fails."""
    below = [0, *(rung.step for rung in ladder)]
    return sum(rung.trials * (rung.step - start) for rung, start in zip(ladder, below, strict=False))


def in_words(ladder: Sequence[Rung]) -> str:
    """Return how many trials are trained how far, as text: `16 to step 50, 8 to 100, 2 to 400`."""
    first, *rest = ladder
    return ", ".join([f"{first.trials} to step {first.step:,}", *(f"{rung.trials} to {rung.step:,}" for rung in rest)])
