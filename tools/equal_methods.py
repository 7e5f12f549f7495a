"""Simulates what tables say of methods that are all equal, beyond single columns.

    python tools/equal_methods.py columns    # how often any mark of a table is wrong; docs/inference.md has the figures
    python tools/equal_methods.py delta      # the mean of Δm of a method that is equal to the base
    python tools/equal_methods.py delta --tables 100    # quicker, less exact

Accuracies are normal: a task's level, an effect of the seed, and for `columns` one of the test images that each method
has of its own. The comparisons are those of mtlbench.
"""

from __future__ import annotations

import argparse

import numpy as np

from mtlbench.report.inference import Comparison, compare, threshold
from mtlbench.report.rows import LEARNED

SEEDS, BETWEEN = 5, 2.0  # of `columns`: seeds a method, and points between seeds and between sets of test images
LEVELS = ((80, 75, 70, 65), (80, 70, 57, 56, 55, 54), (56,) * 7)  # of `delta`: true accuracies of the tasks


class Images:
    """Test images that add a known variance to a difference."""

    images = 500

    def __init__(self, variance: float) -> None:
        self.variance = variance

    def mean(self, values: np.ndarray) -> float:
        """Return the mean of scores."""
        return float(np.mean(values))

    def spread(self, values: np.ndarray) -> float:
        """Return the variance that test images add."""
        return self.variance


def _pair(first: np.ndarray, second: np.ndarray, tasks: int) -> Comparison:
    """Compare two methods by one score a seed, the mean over so many tasks."""
    scores = [[np.full((min(tasks, 3), 1), score) for score in method] for method in (first, second)]
    found = compare(*scores, Images((BETWEEN / 100) ** 2 / tasks))  # type: ignore[arg-type]
    assert found is not None
    return found


def wrong_marks(methods: int, tasks: int, tables: int, seed: int = 5) -> tuple[float, float, float]:
    """Return the shares of tables with a wrong mark in the mean, in any column, and with a task "hurt"."""
    rng, level = np.random.default_rng(seed), threshold(methods)
    mean, either, hurt = 0, 0, 0
    for _ in range(tables):
        images = rng.normal(0, BETWEEN / 2**0.5, (methods, 1, tasks))
        scores = (70 + rng.normal(0, BETWEEN, (methods, SEEDS, tasks)) + images) / 100
        wrong = []
        for column, held in ((scores.mean(2), tasks), *((scores[:, :, task], 1) for task in range(tasks))):
            best = int(column.mean(1).argmax())
            others = (m for m in range(methods) if m != best)
            wrong.append(any(_pair(column[m], column[best], held).differs(level) for m in others))
        mean += wrong[0]
        either += any(wrong)
        pairs = (_pair(scores[1, :, task], scores[0, :, task], 1) for task in range(tasks))
        hurt += any(pair.difference < 0 and pair.differs(level / tasks) for pair in pairs)
    return mean / tables, either / tables, hurt / tables


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


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("columns", "delta"))
    parser.add_argument("--tables", type=int, default=1000)
    chosen = parser.parse_args()
    if chosen.what == "columns":
        print(
            '| methods | tasks | a wrong mark in the mean | in any column | "tasks hurt" of an equal method above 0 |'
        )
        print("|---|---|---|---|---|", flush=True)
        for methods, tasks in ((2, 4), (2, 7), (2, 20), (2, 40), (6, 4), (6, 7)):
            shares = " | ".join(f"{100 * share:.1f} %" for share in wrong_marks(methods, tasks, chosen.tables))
            print(f"| {methods} | {tasks} | {shares} |", flush=True)
        return
    heads = (
        "true accuracy of the tasks",
        "sd of a seed, points",
        "by validation, none common",
        "half common",
        "by test",
    )
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|")
    for levels in LEVELS:
        for deviation in (1, 2, 4):
            means = [delta(levels, deviation, chosen.tables, common) for common in (0.0, 0.5, None)]
            words = ", ".join(map(str, levels)) if len(set(levels)) > 1 else f"{len(levels)} of {levels[0]}"
            print(f"| {words} | {deviation} | {' | '.join(f'{mean:+.1f}' for mean in means)} |")


if __name__ == "__main__":
    main()
