"""Simulates the false-positive rate of the tables' marks: how often they tell apart methods that are all equal.

    python tools/false_positives.py triplets     # docs/inference.md holds its figures
    python tools/false_positives.py worst        # the situations that are wrong most often, with --tables 5000
    python tools/false_positives.py retrieval    # the columns of retrieval metrics; worst-retrieval as worst
    python tools/false_positives.py clusters     # images of one person or product, many label values, small galleries
    python tools/false_positives.py triplets --tables 100   # quicker, less exact

A method orders a triplet correctly if a margin is above 0. The margin is a sum: a constant, the method's own effect of
each of the three images, an effect of the seed, an effect of seed and image together, and noise. For retrieval, the
tool draws embeddings and scores them as in real runs. Equal methods draw from the same distributions, so
no image set and no seed favours one of them. A table is wrong if any method is told apart from the best of a column.
Several tables share a set of triplets, or of labels; everything else is drawn for each table.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from mtlbench.evaluation.retrieval import retrieval_scores
from mtlbench.evaluation.triplets import triplet_hits
from mtlbench.report.clustering import Clustered, Scores, SharedImages, SharedQueries
from mtlbench.report.inference import Comparison, compare, threshold
from mtlbench.sampling.triplets import TripletSampler

IMAGES, TRIPLETS = 600, 2000
QUERIES, LENGTH = 300, 8  # images of the simulated retrieval, and dimensions of an embedding
RETRIEVED = ("map@r", "precision@1", "recall@10")
TOGETHER = 10  # tables per set of triplets or of labels
NOISES = (0.0, 0.1, 0.2, 0.3)
# methods, share of the rarer label, tasks, noise, seeds; with four tasks, seeds alone are wrong most often at 0.2
WORST = ((2, 0.5, 4, 0.2, 3), (2, 0.5, 4, 0.2, 5), (2, 0.5, 4, 0.3, 3), (2, 0.03, 4, 0.0, 5), (2, 0.03, 1, 0.1, 5),
         (6, 0.5, 4, 0.2, 3))  # fmt: skip
# test images, how many show the same person, label values, and how queries and gallery differ, by what it is called
CLUSTERED = {
    "600 alone": (600, 1, 2, ""),
    "600, 5 of each person": (600, 5, 2, ""),
    "600, 20 of each person": (600, 20, 2, ""),
    "30 values of 20": (600, 1, 30, ""),
    "20 values of 30": (600, 1, 20, ""),
    "40 values, one query and two gallery images of each": (120, 1, 40, "one query a value"),
    "1,000 queries, 20 gallery images": (1020, 1, 2, "small gallery"),
}
WORST_RETRIEVAL = ((2, 0.5, 4, 0.2, 3), (2, 0.5, 4, 0.2, 5), (2, 0.5, 4, 0.3, 5), (2, 0.5, 1, 0.3, 5))


def draw_triplets(random: np.random.Generator, share: float, tasks: int, images: int, number: int) -> NDArray[np.int64]:
    """Draw (T, n, 3) triplets: anchors evenly from the two labels of each task; a `share` of images has one of them."""
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
    """Draw one method's hits, (T, n) per seed; `noise` is the standard deviation of a seed's effect on the margin."""
    tasks, number = triplets.shape[:2]
    own = 0.5 * random.standard_normal((3, tasks, images), np.float32)
    # positions in the flattened effects, (3, T * n)
    places = np.moveaxis(triplets, 2, 0) + images * np.arange(3 * tasks).reshape(3, tasks, 1)
    places = places.reshape(3, -1)
    hits = []
    for _ in range(seeds):
        effects = (own + 0.3 * random.standard_normal(own.shape, np.float32) if noise else own).ravel()
        # a seed shifts all tasks together and each task alone
        level = 0.8 + random.normal(0, noise) + random.normal(0, noise, tasks)
        margin = random.standard_normal(tasks * number, np.float32)
        for role in places:
            margin += effects.take(role)
        hits.append((margin.reshape(tasks, number) > -level[:, None]).astype(np.uint8))
    return hits


def generator(seed: int) -> np.random.Generator:
    """Return a fast source of random numbers."""
    return np.random.Generator(np.random.SFC64(seed))


def wrong_tables(
    methods: int, share: float, tasks: int, noise: float, seeds: int, tables: int, seed: int = 0
) -> tuple[float, float]:
    """Return the share of tables of equal methods with a wrong mark in the column, and the mean number of comparisons.

    Only comparisons that could be made are counted.
    """
    random = generator(seed)
    wrong = made = 0
    for table in range(tables):
        if table % TOGETHER == 0:
            triplets = draw_triplets(random, share, tasks, IMAGES, TRIPLETS)
            shared = SharedImages(triplets)
        found = _with_best([draw_hits(random, triplets, IMAGES, seeds, noise) for _ in range(methods)], shared)
        made += len(found)
        wrong += _any_differs(found, threshold(methods))
    return wrong / tables, made / tables


def _any_differs(found: Sequence[Comparison], level: float) -> bool:
    """Return whether any two methods are told apart; compute Student's t only beyond the normal value, its minimum."""
    least = NormalDist().inv_cdf(1 - level / 2)
    return any(abs(one.difference) > least * one.error and one.differs(level) for one in found)


def _with_best(scores: Sequence[Sequence[Scores]], shared: Clustered) -> list[Comparison]:
    """Compare methods with the best of them, as tables do; each method has the scores of its runs."""
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
    """Draw one method's embeddings and score them as runs are scored, (T, N) by metric, per seed.

    An embedding is the sum of its label's centre, the method's own effect of the image, and an effect of seed and image
    together. `noise` is the standard deviation of a seed's effect on the distance between centres, as a share of it.
    """
    tasks, images = labels.shape
    own = 0.6 * random.standard_normal((tasks, images, LENGTH), np.float32)
    signs = 2.0 * labels - 1
    found = []
    for _ in range(seeds):
        embeddings = own + (0.3 if noise else 0.0) * random.standard_normal(own.shape, np.float32)
        # a seed shifts all tasks together and each task alone
        embeddings[:, :, 0] += 0.7 * (1 + random.normal(0, noise) + random.normal(0, noise, (tasks, 1))) * signs
        each = [scored(points, own_labels) for points, own_labels in zip(embeddings, labels, strict=True)]
        found.append({name: np.stack([scores[name] for scores in each]) for name in RETRIEVED})
    return found


def scored(points: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return the scores that `mtlbench.evaluation.retrieval` gives (N,) queries of one task, four times as fast.

    A test compares both.

    Args:
        points: (N, D), no two at the same distance from a third.
        labels: (N,), each value on at least two images.
    """
    squares = (points * points).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    # bits order nonnegative numbers; the lowest bit marks relevant ones, so that sorting values is enough
    keys = distances.view(np.int32) & ~1 | (labels[:, None] == labels)
    np.fill_diagonal(keys, np.iinfo(np.int32).max - 1)
    keys.sort(axis=1)
    hits = keys & 1
    found = {name: np.empty(len(labels)) for name in RETRIEVED}
    found["precision@1"][:] = hits[:, 0]
    for value in np.unique(labels):
        rows = labels == value
        relevant = int(rows.sum()) - 1
        within = hits[rows, :relevant]
        counted = (within.cumsum(axis=1, dtype=np.int32) * within).astype(np.float64)
        found["map@r"][rows] = counted @ (1 / np.arange(1, relevant + 1)) / relevant
        found["recall@10"][rows] = hits[rows, :10].sum(axis=1) / relevant
    return found


def wrong_columns(
    methods: int, share: float, tasks: int, noise: float, seeds: int, tables: int, seed: int = 0
) -> tuple[dict[str, float], float]:
    """Return the same as `wrong_tables` for the columns of retrieval metrics, with a share for each metric."""
    random = generator(seed)
    wrong = dict.fromkeys(RETRIEVED, 0)
    made = 0
    for table in range(tables):
        if table % TOGETHER == 0:
            labels = draw_labels(random, share, tasks, QUERIES)
            shared = SharedQueries(labels)
        drawn = [draw_scores(random, labels, seeds, noise) for _ in range(methods)]
        for name in RETRIEVED:
            found = _with_best([[run[name] for run in runs] for runs in drawn], shared)
            made += len(found)
            wrong[name] += _any_differs(found, threshold(methods))
    return {name: number / tables for name, number in wrong.items()}, made / tables / len(RETRIEVED)


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


def draw_clustered(
    random: np.random.Generator, case: str
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], dict[str, NDArray[np.bool_]], Callable[[], Callable[[], torch.Tensor]]
]:
    """Draw what methods are asked in one of `CLUSTERED`, and return what draws a method.

    Returns:
        (N,) labels and groups, which images are queries and gallery where these are sets of their own, and the method:
        it draws the embeddings (N, D) of a seed. An embedding is the sum of its label's centre, the method's own
        effects of the image and of its group or value, and a small one of seed and image.
    """
    size, groups, values, roles = CLUSTERED[case]
    group = np.arange(size) // max(groups, 1)
    label = np.arange(size) // (size // values) if values > 2 else group % 2
    asked: dict[str, NDArray[np.bool_]] = {}
    if roles:
        query = np.arange(size) % 3 == 0 if roles == "one query a value" else np.arange(size) >= 20
        asked = {"query": query, "gallery": ~query}
    centre = np.zeros((size, LENGTH))
    centre[:, 0] = 0.7 * (2 * (label % 2) - 1)
    if values > 2:
        centre = random.standard_normal((values, LENGTH))[label]
    cluster = label if values > 2 else group

    def method() -> Callable[[], torch.Tensor]:
        alone, together = random.standard_normal((size, LENGTH)), random.standard_normal((size, LENGTH))[cluster]
        own = centre + 0.8 * np.sqrt(0.5) * (alone + together)
        return lambda: torch.from_numpy(own + 0.1 * random.standard_normal(own.shape)).float()

    return label, group, asked, method


def wrong_clusters(case: str, tables: int, metric: str, seed: int = 0) -> tuple[float, float]:
    """Return the share of tables of two equal methods with a wrong mark, and the mean error over the true deviation.

    Args:
        case: of `CLUSTERED`; tables: how many; metric: `triplet` or a retrieval metric.
        seed: of the drawing.
    """
    random, wrong, errors, differences = generator(seed), 0, [], []
    for table in range(tables):
        label, group, asked, method = draw_clustered(random, case)
        labels = torch.from_numpy(label)
        query, gallery = (torch.from_numpy(asked[name]) if asked else None for name in ("query", "gallery"))
        runs = [[draw() for _ in range(3)] for draw in (method(), method())]
        shared: Clustered
        if metric == "triplet":
            triplets = TripletSampler(labels).draw(TRIPLETS, torch.Generator().manual_seed(table))
            shared = SharedImages(triplets.numpy()[None], group, label[None])
            scores = [[triplet_hits(one, triplets, False).numpy()[None] for one in seeds] for seeds in runs]
        else:
            search = partial(retrieval_scores, labels=labels, normalise=False, query=query, gallery=gallery)
            scores = [[search(one)[metric].numpy()[None] for one in seeds] for seeds in runs]
            searched = np.where(asked["gallery"], label, -1)[None] if asked else None
            shared = SharedQueries(np.where(np.isnan(scores[0][0]), -1, label), searched, group)
        pair = compare(scores[0], scores[1], shared)
        if pair is not None:
            wrong += pair.differs(threshold(2))
            errors.append(pair.from_images)
            differences.append(pair.difference)
    return wrong / tables, math.sqrt(float(np.mean(errors))) / float(np.std(differences))


def print_clusters(tables: int) -> None:
    """Print the table of images that come in clusters."""
    print("| test images | metric | tables with a wrong mark | error from images, as a share of the true deviation |")
    print("|---|---|---|---|")
    for case, (_, _, _, roles) in CLUSTERED.items():
        for metric in ("map@r", "precision@1") if roles else ("triplet", "map@r"):
            rate, ratio = wrong_clusters(case, tables, metric)
            print(f"| {case} | {metric} | {rated(rate, tables)} | {ratio:.1f} |", flush=True)


def rated(rate: float, tables: int) -> str:
    """Write a share found in a number of tables, with its standard error."""
    error = math.sqrt(max(rate * (1 - rate), 1 / tables) / tables)
    return f"{100 * rate:.1f} ±{100 * error:.1f} %"


def at_most(rate: float, tables: int) -> float:
    """Return the upper end of the 95 % interval of a share found in a number of tables (Wilson, 1927)."""
    z = 1.96
    middle = rate + z * z / (2 * tables)
    half = z * math.sqrt(rate * (1 - rate) / tables + z * z / (4 * tables * tables))
    return (middle + half) / (1 + z * z / tables)


def bounded(rate: float, tables: int) -> str:
    """Write a share found in a number of tables, with the upper end of its interval."""
    return f"{100 * rate:.1f} %, at most {100 * at_most(rate, tables):.1f} %"


def print_row(*cells: object) -> None:
    """Print a row of a table in Markdown."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_head(*cells: object) -> None:
    """Print the head of a table in Markdown."""
    print_row(*cells)
    print("|" + "---|" * len(cells))


def print_worst(tables: int) -> None:
    """Print the situations that were wrong most often, for many tables, with the upper ends of 95 % intervals."""
    print_head("methods", "rarer label", "tasks", "seed noise", "seeds", "tables with a wrong mark")
    for place, (methods, share, tasks, noise, seeds) in enumerate(WORST):
        rate, _ = wrong_tables(methods, share, tasks, noise, seeds, tables, 1000 + place)
        print_row(methods, f"{100 * share:.0f} %", tasks, noise, seeds, bounded(rate, tables))


def print_worst_retrieval(tables: int) -> None:
    """Print the same as `print_worst` for the columns of retrieval metrics."""
    print_head("methods", "rarer label", "tasks", "seed noise", "seeds", *RETRIEVED)
    for place, (methods, share, tasks, noise, seeds) in enumerate(WORST_RETRIEVAL):
        rates, _ = wrong_columns(methods, share, tasks, noise, seeds, tables, 2000 + place)
        cells = [bounded(rate, tables) for rate in rates.values()]
        print_row(methods, f"{100 * share:.0f} %", tasks, noise, seeds, *cells)


def print_triplets(tables: int) -> None:
    """Print a row per situation for the columns of triplet accuracy: the mean of four tasks, and a single task."""
    print_head("methods", "rarer label", "tasks", "seed noise", "seeds", "tables with a wrong mark")
    situations = product((2, 6), (0.5, 0.03), (4, 1), NOISES, (1, 3, 5))
    for place, (methods, share, tasks, noise, seeds) in enumerate(situations):
        rate, made = wrong_tables(methods, share, tasks, noise, seeds, tables if seeds > 1 else 1, place)
        if made:
            print_row(methods, f"{100 * share:.0f} %", tasks, noise, seeds, rated(rate, tables))
    spreads = "; ".join(f"{noise}: {spread_of(noise, _triplet_means):.1f} points" for noise in NOISES)
    print(f"\nStandard deviation of a method's mean between seeds, by seed noise: {spreads}.")


def print_retrieval(tables: int) -> None:
    """Print a row per situation for the columns of retrieval metrics."""
    print_head("methods", "rarer label", "tasks", "seed noise", "seeds", *RETRIEVED)
    for methods, share, tasks, noise, seeds in product((2, 6), (0.5, 0.03), (2,), NOISES, (1, 3, 5)):
        rates, made = wrong_columns(methods, share, tasks, noise, seeds, tables if seeds > 1 else 1)
        if made:
            print_row(methods, f"{100 * share:.0f} %", tasks, noise, seeds, *(rated(r, tables) for r in rates.values()))
    spreads = "; ".join(f"{noise}: {spread_of(noise, _retrieval_means):.1f} points" for noise in NOISES)
    print(f"\nStandard deviation of a method's mean map@r between seeds, by seed noise: {spreads}.")


def main() -> None:
    """Print the tables of one kind of column."""
    kinds = {"triplets": print_triplets, "worst": print_worst, "retrieval": print_retrieval,
             "worst-retrieval": print_worst_retrieval, "clusters": print_clusters}  # fmt: skip
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--tables", type=int, default=300)
    chosen = parser.parse_args()
    kinds[chosen.what](chosen.tables)


if __name__ == "__main__":
    main()
