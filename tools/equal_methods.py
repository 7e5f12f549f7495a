"""Simulates what tables say of equal methods, and of unequal ones, by normal means: nothing is drawn but numbers.

    python tools/equal_methods.py seeds --tables 20000      # seeds alone, and how often true differences are told apart
    python tools/equal_methods.py both --tables 20000       # seeds and images, of any size
    python tools/equal_methods.py unequal --tables 20000    # seeds alone, by methods that vary unequally
    python tools/equal_methods.py prior --tables 20000      # the same, by prior knowledge of seeds
    python tools/equal_methods.py columns    # how often any mark of a table is wrong; docs/inference.md has the figures
    python tools/equal_methods.py delta      # the mean of Δm of a method that is equal to the base

Comparisons are those of mtlbench, for many tables at once. `tools/false_positives.py` draws answers to triplets and
queries instead, as runs give them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import product
from statistics import NormalDist

import numpy as np
from false_positives import bounded, print_head, print_row, rated
from numpy.typing import NDArray
from scipy.special import stdtrit

from mtlbench.report.inference import PRIORS, Prior, threshold
from mtlbench.report.rows import LEARNED

SEEDS, BETWEEN = 5, 2.0  # of `columns`: seeds a method, and points between seeds and between sets of test images
IMAGES = 500  # test images of `columns`, of equal weight
LEVELS = ((80, 75, 70, 65), (80, 70, 57, 56, 55, 54), (56,) * 7)  # of `delta`: true accuracies of the tasks


def wrong_marks(methods: int, tasks: int, tables: int, seed: int = 5) -> tuple[float, float, float]:
    """Return the shares of tables with a wrong mark in the mean, in any column, and with a task "hurt"."""
    rng, scores = np.random.default_rng(seed), np.empty((tables, methods, SEEDS, tasks))
    for table in scores:
        images = rng.normal(0, BETWEEN / 2**0.5, (methods, 1, tasks))
        table[:] = (70 + rng.normal(0, BETWEEN, table.shape) + images) / 100
    of_images = (BETWEEN / 100) ** 2
    mean = told_by_seeds(scores.mean(3), tasks, methods, None, of_images / tasks, IMAGES).any(1)
    single = [told_by_seeds(scores[..., t], 1, methods, None, of_images, IMAGES).any(1) for t in range(tasks)]
    # the second against the first, the base, at the level of `tasks` such tests
    level = threshold(methods) / tasks
    hurt = [told_by_seeds(scores[:, :2, :, t], 1, methods, None, of_images, IMAGES, level)[:, 1] for t in range(tasks)]
    return float(mean.mean()), float((mean | np.any(single, 0)).mean()), float(np.any(hurt, 0).mean())


def delta(levels: tuple[int, ...], deviation: float, tables: int, common: float | None, seed: int = 7) -> float:
    """Return the mean Δm, in per cent, of a method that is equal to the base; both have three seeds.

    Args:
        levels: of the tasks, in per cent; deviation: of a seed's score, in points.
        tables: how many.
        common: the share of a seed's variance that validation and test share; None: tests choose the tasks.
        seed: of the simulation.
    """
    rng, above, least = np.random.default_rng(seed), np.array(levels) - 50.0, 100 * LEARNED
    found = []
    for _ in range(tables):
        luck = rng.normal(0, deviation * (common or 0.0) ** 0.5, (3, len(levels)))
        own = deviation * (1 - (common or 0.0)) ** 0.5
        chosen, base = (above + luck + rng.normal(0, own, luck.shape) for _ in range(2))
        other = above + rng.normal(0, deviation, luck.shape)
        kept = ((base if common is None else chosen) > least).all(0)
        if kept.any():
            relative = (other - base).mean(0) / np.maximum(base.mean(0), least)
            found.append(100 * float(relative[kept].mean()))
    return float(np.mean(found)) if found else float("nan")


def told_by_seeds(
    means: NDArray[np.float64],
    tasks: int,
    methods: int,
    prior: Prior | None = None,
    from_images: NDArray[np.float64] | float = 0.0,
    images: float = 2.0,
    level: float | None = None,
) -> NDArray[np.bool_]:
    """Return which methods of many tables are told apart from the best, by their seeds' means.

    This does the work of `compare` for all tables at once; a test compares both.

    Args:
        means: (tables, methods, seeds) of a mean over `tasks`.
        methods: of the suite; the level is divided by it.
        prior: prior knowledge of seeds; by default, the one that tables use.
        from_images: (tables, methods) estimated variance of the difference to the best between sets of test images; by
            default, only seeds matter.
        images: how many test images of equal weight that estimate rests on.
        level: of the test; by default, that of all pairs of `methods`.

    Returns:
        (tables, methods).
    """
    seeds = means.shape[2]
    prior = prior or PRIORS[min(tasks, max(PRIORS))]
    parts, freedoms = means.var(axis=2, ddof=1), np.ones(means.shape[:2])
    if seeds > 2:  # `moderated`
        ratio = np.maximum(parts / prior.deviation**2, 1e-12)
        known = prior.freedom * np.minimum(np.minimum(1, np.maximum(ratio, 1) ** -2), (10 * ratio) ** 2)
        freedoms = known + seeds - 1
        parts = (known * prior.deviation**2 + (seeds - 1) * parts) / freedoms
    parts = parts / seeds
    middles = means.mean(axis=2)
    best = middles.argmax(axis=1)[:, None]
    of_best = [np.take_along_axis(one, best, axis=1) for one in (middles, parts, freedoms)]
    variance = parts + of_best[1]
    freedom = variance**2 / (parts**2 / freedoms + of_best[1] ** 2 / of_best[2]) if seeds > 2 else freedoms
    difference, others = of_best[0] - middles, np.broadcast_to(from_images, parts.shape)
    error = np.sqrt(variance + others)
    half = (threshold(methods) if level is None else level) / 2
    told = (difference > NormalDist().inv_cdf(1 - half) * error) & (np.arange(means.shape[1]) != best)
    ones, other = variance[told], others[told]
    # as `Comparison.critical`; computed only beyond the normal value, its minimum
    critical = -(ones * stdtrit(freedom[told], half) + other * stdtrit(images - 1, half)) / (ones + other)
    told[told] = difference[told] > critical * error[told]
    return told


def wrong_by_seeds(
    methods: int,
    tasks: int,
    deviation: float | Sequence[float],
    seeds: int,
    tables: int,
    seed: int = 0,
    prior: Prior | None = None,
) -> float:
    """Return the share of wrong tables if only seeds matter.

    `deviation` is the standard deviation of a mean over seeds, one for all methods or one for each.
    """
    spread = np.broadcast_to(deviation, methods)[:, None]
    means = np.random.default_rng(seed).normal(0, 1, (tables, methods, seeds)) * spread
    return float(told_by_seeds(means, tasks, methods, prior).any(axis=1).mean())


def wrong_by_both(
    methods: int, tasks: int, by_seed: float, by_image: float, images: int, seeds: int, tables: int, seed: int = 0
) -> float:
    """Return the share of wrong tables if both seeds and images matter, with normal effects.

    Args:
        methods, tasks, seeds, tables: of a table, and the number of tables.
        by_seed: the standard deviation of a method's mean between seeds.
        by_image: the standard deviation of the difference of two means between sets of test images; it is estimated.
        images: the number of test images of equal weight.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    means = random.normal(0, by_seed, (tables, methods, seeds))
    means += random.normal(0, by_image / math.sqrt(2), (tables, methods, 1))
    estimated = by_image**2 * random.chisquare(images - 1, (tables, methods)) / (images - 1)
    return float(told_by_seeds(means, tasks, methods, None, estimated, images).any(axis=1).mean())


def power(gap: float, deviation: float, seeds: int, methods: int, tables: int, seed: int = 0) -> float:
    """Return how often a method `gap` below another in the mean of four tasks is told apart from it, by seeds alone."""
    means = np.random.default_rng(seed).normal(0, deviation, (tables, 2, seeds)) - np.array([[[0.0], [gap]]])
    return float(told_by_seeds(means, 4, methods).any(axis=1).mean())


def print_seeds(tables: int) -> None:
    """Print how often seeds alone make a wrong mark, and how often a true difference is told apart."""
    deviations = (0.3, 1.0, 2.5, 4.0, 5.0, 7.5, 12.0)  # points
    print_head("methods", "tasks", "seeds", *(f"sd {one:g}" for one in deviations))
    for methods, tasks, seeds in product((2, 6), (1, 2, 4), (2, 3, 5)):
        rates = [wrong_by_seeds(methods, tasks, one / 100, seeds, tables) for one in deviations]
        print_row(methods, tasks, seeds, *(rated(rate, tables) for rate in rates))
    gaps = (5, 7, 9, 12)
    print()
    print_head("methods", "seeds", "sd", *(f"{gap} points apart" for gap in gaps))
    for methods, seeds, deviation in product((2, 7), (3, 5), (0.5, 1.5, 2.5)):
        rates = [power(gap / 100, deviation / 100, seeds, methods, tables) for gap in gaps]
        print_row(methods, seeds, deviation, *(f"{100 * rate:.0f} %" for rate in rates))


def print_both(tables: int) -> None:
    """Print how often seeds and images together make a wrong mark.

    Each row has the highest share among several spreads of seeds and of images.
    """
    by_seed, by_image = (0.3, 0.6, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5), (0.3, 0.6, 1.0, 2.0, 4.0)  # points
    print_head("methods", "tasks", "seeds", "images", "highest share of tables with a wrong mark", "at sd of seeds",
                "at sd of images")  # fmt: skip
    for methods, tasks, seeds, images in product((2, 6), (1, 2, 4), (2, 3, 5), (20, 200)):
        found = [
            (wrong_by_both(methods, tasks, one / 100, other / 100, images, seeds, tables, place), one, other)
            for place, (one, other) in enumerate(product(by_seed, by_image))
        ]
        rate, one, other = max(found)
        print_row(methods, tasks, seeds, images, bounded(rate, tables), f"{one:g}", f"{other:g}")


def print_unequal(tables: int) -> None:
    """Print how often seeds alone make a wrong mark if methods of the same true mean vary unequally."""
    print_head("standard deviations", "tasks", "3 seeds", "5 seeds")
    for deviations, tasks in product(((3.4, 0.9), (5.0, 2.0), (5.0, 0.5), (7.5, 1.0), (7.5, *[1.0] * 5)), (1, 4)):
        spread = [one / 100 for one in deviations]
        rates = [wrong_by_seeds(len(spread), tasks, spread, seeds, tables) for seeds in (3, 5)]
        name = f"{deviations[0]:g} and {'five of ' if len(spread) > 2 else ''}{deviations[1]:g}"
        print_row(name, tasks, *(rated(rate, tables) for rate in rates))


def print_prior(tables: int) -> None:
    """Print how often seeds alone make a wrong mark in a mean of four tasks, by the prior's degrees of freedom."""
    own = PRIORS[max(PRIORS)]
    deviations = (4.0, 5.0, 7.5)  # points
    print_head("d0", "methods", "seeds", *(f"sd {one:g}" for one in deviations))
    for freedom, methods, seeds in product((own.freedom, 2.5, 2.8), (2, 6), (3, 5)):
        prior = Prior(own.deviation, freedom)
        rates = [wrong_by_seeds(methods, 4, one / 100, seeds, tables, prior=prior) for one in deviations]
        print_row(freedom, methods, seeds, *(rated(rate, tables) for rate in rates))


def print_columns(tables: int) -> None:
    """Print how often a mark of equal methods is wrong in the mean, and in any column of a table."""
    print_head(
        "methods", "tasks", "a wrong mark in the mean", "in any column", '"tasks hurt" of an equal method above 0'
    )
    for methods, tasks in ((2, 4), (2, 7), (2, 20), (2, 40), (6, 4), (6, 7)):
        print_row(methods, tasks, *(f"{100 * share:.1f} %" for share in wrong_marks(methods, tasks, tables)))


def print_delta(tables: int) -> None:
    """Print the mean Δm of a method that is equal to the base, by what chooses the tasks."""
    print_head(
        "true accuracy of the tasks", "sd of a seed, points", "by validation, none common", "half common", "by test"
    )
    for levels, deviation in product(LEVELS, (1, 2, 4)):
        means = [delta(levels, deviation, tables, common) for common in (0.0, 0.5, None)]
        words = ", ".join(map(str, levels)) if len(set(levels)) > 1 else f"{len(levels)} of {levels[0]}"
        print_row(words, deviation, *(f"{mean:+.1f}" for mean in means))


def main() -> None:
    """Print one of the tables."""
    kinds = {"seeds": print_seeds, "both": print_both, "unequal": print_unequal, "prior": print_prior,
             "columns": print_columns, "delta": print_delta}  # fmt: skip
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--tables", type=int, default=1000)
    chosen = parser.parse_args()
    kinds[chosen.what](chosen.tables)


if __name__ == "__main__":
    main()
