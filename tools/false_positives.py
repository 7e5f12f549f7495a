"""How often methods that are all equal are told apart: the false-positive rate of the tables' marks, simulated.

    python tools/false_positives.py                # docs/inference.md holds its figures
    python tools/false_positives.py --tables 100   # quicker, less exact

A method orders a triplet rightly when a margin is above 0: a constant, an effect of each of the three images that is
the method's own, one of the seed, one of seed and image, and noise. Equal methods draw theirs from the same
distributions, so that no image set and no seed favours one. A table is wrong when any method is told apart from the
best of a column.
"""

from __future__ import annotations

import argparse
import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mtlbench.report.inference import SharedImages, compare, threshold

IMAGES, TRIPLETS = 600, 2000


def draw_triplets(random: np.random.Generator, share: float, tasks: int, images: int, number: int) -> NDArray[np.int64]:
    """Draw (T, n, 3) triplets: anchors evenly from the two labels of each task, one of which `share` images have."""
    drawn = []
    for _ in range(tasks):
        order = random.permutation(images)
        rare = max(3, round(share * images))
        labels = (order[:rare], order[rare:])
        rows = []
        for row in range(number):
            own, other = labels[row % 2], labels[1 - row % 2]
            anchor, positive = random.choice(own, 2, replace=False)
            rows.append((anchor, positive, random.choice(other)))
        drawn.append(rows)
    return np.array(drawn)


def draw_hits(
    random: np.random.Generator, triplets: NDArray[np.int64], images: int, seeds: int, noise: float
) -> list[NDArray[np.uint8]]:
    """Draw one method's hits, (T, n) a seed; `noise` is the standard deviation of a seed's effect on the margin."""
    tasks = len(triplets)
    own = random.normal(0, 0.5, (tasks, images, 3))
    hits = []
    for _ in range(seeds):
        effects = own + random.normal(0, 0.3 if noise else 0.0, (tasks, images, 3))
        # a seed moves all tasks together and each alone
        margin = 0.8 + random.normal(0, noise) + random.normal(0, noise, (tasks, 1))
        for role in range(3):
            margin = margin + np.take_along_axis(effects[:, :, role], triplets[:, :, role], axis=1)
        hits.append((margin + random.normal(0, 1, triplets.shape[:2]) > 0).astype(np.uint8))
    return hits


def wrong_tables(
    methods: int, share: float, tasks: int, noise: float, seeds: int, tables: int, seed: int = 0
) -> tuple[float, float]:
    """Return the share of tables of equal methods in which any mark of the column is wrong, and the mean number of
    comparisons that could be made.
    """
    random = np.random.default_rng(seed)
    wrong = made = 0
    for _ in range(tables):
        triplets = draw_triplets(random, share, tasks, IMAGES, TRIPLETS)
        shared = SharedImages(triplets)
        hits = [draw_hits(random, triplets, IMAGES, seeds, noise) for _ in range(methods)]
        best = max(range(methods), key=lambda m: float(np.mean(hits[m])))
        found = [compare(hits[best], hits[m], shared) for m in range(methods) if m != best]
        made += sum(one is not None for one in found)
        wrong += any(one is not None and one.differs(threshold(methods)) for one in found)
    return wrong / tables, made / tables


def seed_spread(noise: float, tables: int = 10) -> float:
    """Return the standard deviation over seeds of a method's mean accuracy over four tasks, in points."""
    random = np.random.default_rng(0)
    spreads = []
    for _ in range(tables):
        triplets = draw_triplets(random, 0.5, 4, IMAGES, TRIPLETS)
        means = [float(hits.mean()) for hits in draw_hits(random, triplets, IMAGES, 10, noise)]
        spreads.append(float(np.std(means, ddof=1)))
    return 100 * float(np.mean(spreads))


def main() -> None:
    """Print a row per situation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tables", type=int, default=300)
    tables = parser.parse_args().tables
    print("| methods | rarer label | tasks | seed noise | seeds | tables with a wrong mark |")
    print("|---|---|---|---|---|---|")
    for methods, share, tasks, noise, seeds in product((2, 6), (0.5, 0.03), (4,), (0.0, 0.3), (1, 3, 5)):
        rate, made = wrong_tables(methods, share, tasks, noise, seeds, tables)
        error = math.sqrt(max(rate * (1 - rate), 1 / tables) / tables)
        shown = f"{100 * rate:.1f} ±{100 * error:.1f} %" if made else "nothing is compared"
        print(f"| {methods} | {100 * share:.0f} % | {tasks} | {noise} | {seeds} | {shown} |", flush=True)
    spreads = "; ".join(f"{noise}: {seed_spread(noise):.1f} points" for noise in (0.0, 0.3))
    print(f"\nStandard deviation of a method's mean between seeds, by seed noise: {spreads}.")


if __name__ == "__main__":
    main()
