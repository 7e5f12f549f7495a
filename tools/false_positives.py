"""How often methods that are all equal are told apart: the false-positive rate of the tables' marks, simulated.

    python tools/false_positives.py triplets     # docs/inference.md holds its figures
    python tools/false_positives.py worst        # the situations that are wrong most often, with --tables 2000
    python tools/false_positives.py retrieval    # the columns of retrieval metrics
    python tools/false_positives.py seeds        # seeds alone, and how often true differences are told apart
    python tools/false_positives.py prior        # the same by what is known of seeds beforehand, with --tables 20000
    python tools/false_positives.py triplets --tables 100   # quicker, less exact

A method orders a triplet rightly when a margin is above 0: a constant, an effect of each of the three images that is
the method's own, one of the seed, one of seed and image, and noise. For retrieval, embeddings are drawn and scored as
those of runs are. Equal methods draw theirs from the same distributions, so that no image set and no seed favours one.
A table is wrong when any method is told apart from the best of a column.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from mtlbench.evaluation.retrieval import retrieval_scores
from mtlbench.report.clustering import Clustered, Scores, SharedImages, SharedQueries
from mtlbench.report.inference import PRIORS, Comparison, Prior, compare, moderated, student_p, threshold

IMAGES, TRIPLETS = 600, 2000
QUERIES, LENGTH = 300, 8  # images of the simulated retrieval, and numbers of an embedding
RETRIEVED = ("map@r", "precision@1", "recall@10")
NOISES = (0.0, 0.1, 0.3)
WORST = ((6, 0.5, 4, 0.3, 3), (2, 0.5, 4, 0.3, 3), (2, 0.5, 4, 0.3, 5), (2, 0.5, 4, 0.1, 5), (2, 0.03, 4, 0.0, 5))


def draw_triplets(random: np.random.Generator, share: float, tasks: int, images: int, number: int) -> NDArray[np.int64]:
    """Draw (T, n, 3) triplets: anchors evenly from the two labels of each task, one of which `share` images have."""
    drawn = []
    for _ in range(tasks):
        order = random.permutation(images)
        rare = max(3, round(share * images))
        labels = (order[:rare], order[rare:])
        rows = np.empty((number, 3), np.int64)
        for value in (0, 1):
            own, other = labels[value], labels[1 - value]
            size = len(rows[value::2])
            anchor = random.integers(len(own), size=size)
            positive = (anchor + 1 + random.integers(len(own) - 1, size=size)) % len(own)
            rows[value::2] = np.stack([own[anchor], own[positive], random.choice(other, size)], axis=1)
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
        hits = [draw_hits(random, triplets, IMAGES, seeds, noise) for _ in range(methods)]
        found = _with_best(hits, SharedImages(triplets))
        made += len(found)
        wrong += any(one.differs(threshold(methods)) for one in found)
    return wrong / tables, made / tables


def _with_best(scores: Sequence[Sequence[Scores]], shared: Clustered) -> list[Comparison]:
    """Compare methods, each with its runs' scores, with the best of them, as tables do."""
    means = [float(np.mean([shared.mean(run) for run in runs])) for runs in scores]
    best = int(np.argmax(means))
    pairs = [compare(scores[best], runs, shared) for place, runs in enumerate(scores) if place != best]
    return [pair for pair in pairs if pair is not None]


def draw_labels(random: np.random.Generator, share: float, tasks: int, images: int) -> NDArray[np.int64]:
    """Draw (T, N) labels 0 and 1 of independent tasks; `share` of the images have label 1."""
    labels = np.zeros((tasks, images), np.int64)
    for task in labels:
        task[random.permutation(images)[: max(3, round(share * images))]] = 1
    return labels


def draw_scores(
    random: np.random.Generator, labels: NDArray[np.int64], seeds: int, noise: float
) -> list[dict[str, NDArray[np.float64]]]:
    """Draw one method's embeddings and score them as runs are, (T, N) by metric a seed.

    An embedding is its label's centre, an effect of the image that is the method's own, and one of seed and image;
    `noise` is the standard deviation of a seed's effect on how far centres lie apart, in shares of that.
    """
    tasks, images = labels.shape
    own = random.normal(0, 0.6, (tasks, images, LENGTH))
    signs = 2.0 * labels - 1
    found = []
    for _ in range(seeds):
        embeddings = own + random.normal(0, 0.3 if noise else 0.0, own.shape)
        # a seed moves all tasks together and each alone
        embeddings[:, :, 0] += 0.7 * (1 + random.normal(0, noise) + random.normal(0, noise, (tasks, 1))) * signs
        each = [
            retrieval_scores(
                torch.from_numpy(points), torch.from_numpy(own_labels), normalise=False, ks=(1,), extra=("recall@10",)
            )
            for points, own_labels in zip(embeddings.astype(np.float32), labels, strict=True)
        ]
        found.append({name: np.stack([scores[name].numpy() for scores in each]) for name in RETRIEVED})
    return found


def wrong_columns(
    methods: int, share: float, tasks: int, noise: float, seeds: int, tables: int, seed: int = 0
) -> tuple[dict[str, float], float]:
    """Return the same as `wrong_tables` for the columns of retrieval metrics, the share by metric."""
    random = np.random.default_rng(seed)
    wrong = dict.fromkeys(RETRIEVED, 0)
    made = 0
    for _ in range(tables):
        labels = draw_labels(random, share, tasks, QUERIES)
        shared = SharedQueries(labels)
        drawn = [draw_scores(random, labels, seeds, noise) for _ in range(methods)]
        for name in RETRIEVED:
            found = _with_best([[run[name] for run in runs] for runs in drawn], shared)
            made += len(found)
            wrong[name] += any(one.differs(threshold(methods)) for one in found)
    return {name: number / tables for name, number in wrong.items()}, made / tables / len(RETRIEVED)


def told_by_seeds(
    means: NDArray[np.float64], tasks: int, methods: int, prior: Prior | None = None
) -> NDArray[np.bool_]:
    """Say which methods of many tables are told apart from the best where nothing but seeds plays a part.

    What `compare` does, for all tables at once; a test holds the two against each other.

    Args:
        means: (tables, methods, seeds) of a mean over `tasks`.
        methods: of the suite, by which the level is divided.
        prior: what is known of seeds beforehand, by default what tables take.

    Returns:
        (tables, methods).
    """
    seeds = means.shape[2]
    prior = prior or PRIORS[min(tasks, max(PRIORS))]
    variances = means.var(axis=2, ddof=1).ravel().tolist()
    pairs = [moderated(one, seeds - 1.0, prior) if seeds > 2 else (one, 1.0) for one in variances]
    parts, freedoms = (np.array(one).reshape(means.shape[:2]) for one in zip(*pairs, strict=True))
    parts = parts / seeds
    level = means.mean(axis=2)
    best = level.argmax(axis=1)[:, None]
    of_best = [np.take_along_axis(one, best, axis=1) for one in (level, parts, freedoms)]
    variance = parts + of_best[1]
    freedom = variance**2 / (parts**2 / freedoms + of_best[1] ** 2 / of_best[2]) if seeds > 2 else np.ones_like(parts)
    t = (of_best[0] - level) / np.sqrt(variance)
    p = np.array([student_p(*one) for one in zip(t.ravel().tolist(), freedom.ravel().tolist(), strict=True)])
    return (p.reshape(t.shape) < threshold(methods)) & (np.arange(means.shape[1]) != best)


def wrong_by_seeds(
    methods: int, tasks: int, deviation: float, seeds: int, tables: int, seed: int = 0, prior: Prior | None = None
) -> float:
    """Return the share of wrong tables where nothing but seeds plays a part; a mean's deviation is over seeds."""
    means = np.random.default_rng(seed).normal(0, deviation, (tables, methods, seeds))
    return float(told_by_seeds(means, tasks, methods, prior).any(axis=1).mean())


def power(gap: float, deviation: float, seeds: int, methods: int, tables: int, seed: int = 0) -> float:
    """Return how often a method `gap` below another in the mean of four tasks is told apart from it, by seeds alone."""
    means = np.random.default_rng(seed).normal(0, deviation, (tables, 2, seeds)) - np.array([[[0.0], [gap]]])
    return float(told_by_seeds(means, 4, methods).any(axis=1).mean())


def spread_of(noise: float, draw: Callable[[np.random.Generator, float], list[float]], tables: int = 10) -> float:
    """Return the standard deviation over seeds of a method's mean, in points; `draw` makes the means of ten seeds."""
    random = np.random.default_rng(0)
    return 100 * float(np.mean([np.std(draw(random, noise), ddof=1) for _ in range(tables)]))


def _triplet_means(random: np.random.Generator, noise: float) -> list[float]:
    triplets = draw_triplets(random, 0.5, 4, IMAGES, TRIPLETS)
    return [float(hits.mean()) for hits in draw_hits(random, triplets, IMAGES, 10, noise)]


def _retrieval_means(random: np.random.Generator, noise: float) -> list[float]:
    labels = draw_labels(random, 0.5, 2, QUERIES)
    shared = SharedQueries(labels)
    return [shared.mean(run["map@r"]) for run in draw_scores(random, labels, 10, noise)]


def _rate(rate: float, tables: int) -> str:
    error = math.sqrt(max(rate * (1 - rate), 1 / tables) / tables)
    return f"{100 * rate:.1f} ±{100 * error:.1f} %"


def _print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _print_head(*cells: object) -> None:
    _print_row(*cells)
    print("|" + "---|" * len(cells))


def print_worst(tables: int) -> None:
    """Print the same as `print_triplets` for the situations that were wrong most often, for many tables."""
    _print_head("methods", "rarer label", "tasks", "seed noise", "seeds", "tables with a wrong mark")
    for place, (methods, share, tasks, noise, seeds) in enumerate(WORST):
        rate, _ = wrong_tables(methods, share, tasks, noise, seeds, tables, 1000 + place)
        _print_row(methods, f"{100 * share:.0f} %", tasks, noise, seeds, _rate(rate, tables))


def print_triplets(tables: int) -> None:
    """Print a row per situation for the columns of triplet accuracy."""
    _print_head("methods", "rarer label", "tasks", "seed noise", "seeds", "tables with a wrong mark")
    situations = product((2, 6), (0.5, 0.03), (4,), NOISES, (1, 3, 5))
    for place, (methods, share, tasks, noise, seeds) in enumerate(situations):
        rate, made = wrong_tables(methods, share, tasks, noise, seeds, tables if seeds > 1 else 1, place)
        shown = _rate(rate, tables) if made else "nothing is compared"
        _print_row(methods, f"{100 * share:.0f} %", tasks, noise, seeds, shown)
    spreads = "; ".join(f"{noise}: {spread_of(noise, _triplet_means):.1f} points" for noise in NOISES)
    print(f"\nStandard deviation of a method's mean between seeds, by seed noise: {spreads}.")


def print_retrieval(tables: int) -> None:
    """Print a row per situation for the columns of retrieval metrics."""
    _print_head("methods", "rarer label", "tasks", "seed noise", "seeds", *RETRIEVED)
    for methods, share, tasks, noise, seeds in product((2, 6), (0.5, 0.03), (2,), NOISES, (1, 3, 5)):
        rates, made = wrong_columns(methods, share, tasks, noise, seeds, tables if seeds > 1 else 1)
        cells = [_rate(rate, tables) if made else "nothing is compared" for rate in rates.values()]
        _print_row(methods, f"{100 * share:.0f} %", tasks, noise, seeds, *cells)
    spreads = "; ".join(f"{noise}: {spread_of(noise, _retrieval_means):.1f} points" for noise in NOISES)
    print(f"\nStandard deviation of a method's mean map@r between seeds, by seed noise: {spreads}.")


def print_seeds(tables: int) -> None:
    """Print how often seeds alone make a wrong mark, and how often a true difference is told apart."""
    deviations = (0.3, 1.0, 2.5, 4.0, 5.0, 7.5, 12.0)  # points
    _print_head("methods", "tasks", "seeds", *(f"sd {one:g}" for one in deviations))
    for methods, tasks, seeds in product((2, 6), (1, 2, 4), (2, 3, 5)):
        rates = [wrong_by_seeds(methods, tasks, one / 100, seeds, tables) for one in deviations]
        _print_row(methods, tasks, seeds, *(_rate(rate, tables) for rate in rates))
    gaps = (5, 7, 9, 12)
    print()
    _print_head("methods", "seeds", "sd", *(f"{gap} points apart" for gap in gaps))
    for methods, seeds, deviation in product((2, 7), (3, 5), (0.5, 1.5, 2.5)):
        rates = [power(gap / 100, deviation / 100, seeds, methods, tables) for gap in gaps]
        _print_row(methods, seeds, deviation, *(f"{100 * rate:.0f} %" for rate in rates))


def print_prior(tables: int) -> None:
    """Print how often seeds alone make a wrong mark in a mean of four tasks, by the prior's degrees of freedom."""
    own = PRIORS[max(PRIORS)]
    deviations = (4.0, 5.0, 7.5)  # points
    _print_head("d0", "methods", "seeds", *(f"sd {one:g}" for one in deviations))
    for freedom, methods, seeds in product((own.freedom, 2.5, 2.8), (2, 6), (3, 5)):
        prior = Prior(own.deviation, freedom)
        rates = [wrong_by_seeds(methods, 4, one / 100, seeds, tables, prior=prior) for one in deviations]
        _print_row(freedom, methods, seeds, *(_rate(rate, tables) for rate in rates))


def main() -> None:
    """Print the tables of one kind of column, or of seeds alone."""
    kinds = {"triplets": print_triplets, "worst": print_worst, "retrieval": print_retrieval, "seeds": print_seeds,
             "prior": print_prior}  # fmt: skip
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--tables", type=int, default=300)
    chosen = parser.parse_args()
    kinds[chosen.what](chosen.tables)


if __name__ == "__main__":
    main()
