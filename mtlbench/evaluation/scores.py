"""Every score of a network on one split: triplet accuracy and retrieval metrics, task by task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.evaluation.metrics import extra_metrics, standard_metrics
from mtlbench.evaluation.retrieval import retrieval
from mtlbench.evaluation.triplets import HeldOutTriplets

_KEPT = ("map@r", "precision@1")  # standard metrics whose scores a run keeps query by query


@dataclass(frozen=True)
class Scores:
    """What a network scored on one split.

    Attributes:
        metrics: by task and name.
        hits: (T, n) bool, which held-out triplets were ordered rightly.
        queries: (T, N) float32 by metric, the score of every image as a query; NaN where it has none.
    """

    metrics: dict[str, dict[str, float]]
    hits: Tensor
    queries: dict[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Return what a run keeps of them for significance, by name."""
        return {"hits": self.hits.to(torch.uint8), **{f"queries/{name}": v for name, v in self.queries.items()}}


def scores_of(embeddings: Tensor, held_out: HeldOutTriplets, benchmark: Benchmark, dataset: Dataset) -> Scores:
    """Score (T, N, D) embeddings of a split's images.

    Raises:
        UserError: the benchmark asks for a metric that does not exist.
    """
    evaluation, normalise = benchmark.evaluation, benchmark.embedding.normalise
    hits = held_out.hits(embeddings, normalise)
    extra = [metric.name for metric in extra_metrics(evaluation.metrics, evaluation.ks)]
    shape = (len(dataset.tasks), len(held_out.images))
    queries = {name: torch.full(shape, torch.nan) for name in (*_KEPT, *extra)}
    metrics = {}
    for t, task in enumerate(dataset.tasks):
        ordered = dataset.ordered[t]
        groups = [
            standard_metrics(evaluation.ks, ordered),
            extra_metrics(evaluation.metrics, evaluation.ks, ordered),
        ]
        found = retrieval(
            embeddings[t],
            dataset.labels[t, held_out.images],
            groups,
            normalise=normalise,
            ordered_values=len(dataset.values[t]) if ordered else None,
        )
        metrics[task] = {"triplet": hits[t].float().mean().item()} | found.metrics
        for name, rows in queries.items():
            if name in found.queries:
                rows[t] = found.queries[name].float()
    return Scores(metrics, hits, {name: rows for name, rows in queries.items() if not rows.isnan().all()})
