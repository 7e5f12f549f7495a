"""Embeddings, label sets and a brute force for tests of retrieval and of triplets."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import torch
from hypothesis import strategies as st
from torch import Tensor

KS = (1, 5, 10, 20)


def random_task(n: int, values: int, seed: int = 0, size: int = 16) -> tuple[Tensor, Tensor]:
    """Embeddings that know a little about their labels, none of them tied."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, values, (n,), generator=generator)
    return torch.randn(n, size, generator=generator) + 0.7 * torch.randn(values, size, generator=generator)[
        labels
    ], labels


def scores_of_ranking(gains: list[int], ideal: list[int], best: int) -> dict[str, float]:
    """The metrics of one query from the gains of its gallery as retrieved, straight from their definitions."""
    relevant = [gain == best for gain in gains]
    r = sum(relevant)
    scores = {f"hit@{k}": float(any(relevant[:k])) for k in KS}
    scores |= {f"precision@{k}": sum(relevant[:k]) / k for k in KS}
    scores["map@r"] = sum(sum(relevant[: i + 1]) / (i + 1) for i in range(r) if relevant[i]) / r
    scores["r-precision"] = sum(relevant[:r]) / r

    def dcg(order: list[int]) -> float:
        return sum(gain / math.log2(i + 2) for i, gain in enumerate(order))

    scores["ndcg"] = dcg(gains) / dcg(ideal)
    return scores


def brute_force(
    points: list[tuple[int, ...]], labels: list[int], best: int, tie: Callable[[int], float]
) -> dict[str, float]:
    """Rank every query's gallery by its exact integer squared distance and then by `tie` of the gain."""
    per_query: list[tuple[int, dict[str, float]]] = []
    labelled = [i for i, label in enumerate(labels) if label >= 0]
    for query in labelled:
        gallery = []
        for other in labelled:
            if other != query:
                squared = sum((a - b) ** 2 for a, b in zip(points[query], points[other], strict=True))
                gain = best - abs(labels[query] - labels[other])
                gallery.append((squared, tie(gain), gain))
        gains = [gain for _, _, gain in sorted(gallery)]
        if best in gains:
            per_query.append((labels[query], scores_of_ranking(gains, sorted(gains, reverse=True), best)))
    if not per_query:
        return {}
    names = per_query[0][1]
    result = {name: fmean(scores[name] for _, scores in per_query) for name in names}
    for name in names:
        by_label = [
            fmean(scores[name] for label, scores in per_query if label == value)
            for value in {label for label, _ in per_query}
        ]
        result[f"macro/{name}"] = fmean(by_label)
    return result


def chance(labels: Tensor, best: int) -> dict[str, float]:
    """The expected metrics of a random order, in closed form; binary metrics and NDCG, micro and macro."""
    per_label: dict[int, dict[str, float]] = {}
    for value in labels.unique().tolist():
        gains = sorted((best - (labels - value).abs()).tolist(), reverse=True)[1:]
        n, r = len(gains), int((labels == value).sum()) - 1
        scores = {f"hit@{k}": 1 - math.comb(n - r, k) / math.comb(n, k) for k in KS}
        scores |= {f"precision@{k}": r / n for k in KS} | {"r-precision": r / n}
        scores["map@r"] = sum(r / n * (1 + (i - 1) * (r - 1) / (n - 1)) / i for i in range(1, r + 1)) / r
        discounts = [1 / math.log2(i + 2) for i in range(n)]
        scores["ndcg"] = fmean(gains) * sum(discounts) / sum(map(math.prod, zip(gains, discounts, strict=True)))
        per_label[value] = scores
    names = next(iter(per_label.values()))
    result = {name: fmean(per_label[label][name] for label in labels.tolist()) for name in names}
    return result | {f"macro/{name}": fmean(scores[name] for scores in per_label.values()) for name in names}


tied_tasks = st.integers(2, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 2)), min_size=n, max_size=n),
        st.lists(st.integers(-1, 3), min_size=n, max_size=n),
    )
)


def identical(labels: Tensor, point: Tensor) -> Tensor:
    return point.repeat(len(labels), 1)


def scattered_by_rounding(labels: Tensor, point: Tensor) -> Tensor:
    return point * (1 + 1e-7 * torch.randn(len(labels), len(point), generator=torch.Generator().manual_seed(3)))


def rounded_alike_within_a_label(labels: Tensor, point: Tensor) -> Tensor:
    return scattered_by_rounding(labels.unique(), point)[labels]


def zero(labels: Tensor, point: Tensor) -> Tensor:
    return torch.zeros(len(labels), len(point))


def broken(labels: Tensor, point: Tensor) -> Tensor:
    return torch.full((len(labels), len(point)), math.nan)
