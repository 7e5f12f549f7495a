"""Every score of a network on one split: triplet accuracy and retrieval metrics, task by task."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.evaluation.metrics import measured, read_metric
from mtlbench.evaluation.retrieval import means_of, scores_of_tasks
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.returned import check_bounded


def metric_names(benchmark: Benchmark) -> list[str]:
    """Return the retrieval metrics that a benchmark's runs measure, those of ordered labels alone too."""
    evaluation = benchmark.evaluation
    return list(measured(evaluation.ks, evaluation.metrics, ordered=True))


class Scores(NamedTuple):
    """What a network scores on a split.

    Attributes:
        metrics: means by task and metric.
        hits: (T, n) bool: which triplets it orders rightly.
        queries: (T, N) float32 scores of single queries by metric, NaN where a query has none: of map@r, of precision@1
            and of the benchmark's further metrics.
    """

    metrics: dict[str, dict[str, float]]
    hits: Tensor
    queries: dict[str, Tensor]


def scores_of(embeddings: Tensor, held_out: HeldOutTriplets, benchmark: Benchmark, dataset: Dataset) -> Scores:
    """Score (T, N, D) embeddings of a split's images, under every task."""
    evaluation, normalise = benchmark.evaluation, benchmark.embedding.normalise
    hits = held_out.hits(embeddings, normalise)
    labels = dataset.labels[:, held_out.images]
    values = [len(v) if ordered else None for v, ordered in zip(dataset.values, dataset.ordered, strict=True)]
    query, gallery = dataset.roles(held_out.images) or (None, None)
    each: list[dict[str, Tensor]] = [{} for _ in dataset.tasks]
    for tasks in _with_the_same(embeddings):
        scores = scores_of_tasks(
            embeddings[tasks[0]],
            labels[tasks],
            [values[t] for t in tasks],
            normalise=normalise,
            ks=evaluation.ks,
            extra=evaluation.metrics,
            query=query,
            gallery=gallery,
            members=[dataset.sets[t] for t in tasks],
            apart=None if dataset.apart is None else dataset.apart[held_out.images],
        )
        for t, of_task in zip(tasks, scores, strict=True):
            each[t] = of_task
    metrics = {}
    for t, task in enumerate(dataset.tasks):
        for name, of_queries in each[t].items():
            check_bounded(read_metric(name)[0].target, of_queries)
        metrics[task] = {"triplet": hits[t].float().mean().item()} | means_of(each[t], labels[t])
    kept = [name for name in ("map@r", "precision@1", *evaluation.metrics) if all(name in scores for scores in each)]
    queries = {name: torch.stack([scores[name] for scores in each]).float() for name in dict.fromkeys(kept)}
    return Scores(metrics, hits, queries)


def _with_the_same(embeddings: Tensor) -> list[list[int]]:
    """Return the tasks in groups that have the same embeddings, as those of one network for all do."""
    groups: list[list[int]] = []
    for t, own in enumerate(embeddings):
        group = next((group for group in groups if torch.equal(embeddings[group[0]], own)), None)
        if group is None:
            groups.append([t])
        else:
            group.append(t)
    return groups
