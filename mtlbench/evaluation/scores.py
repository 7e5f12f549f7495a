"""Every score of a network on one split: triplet accuracy and retrieval metrics, task by task."""

from __future__ import annotations

from torch import Tensor

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.evaluation.retrieval import retrieval_metrics
from mtlbench.evaluation.triplets import HeldOutTriplets


def scores_of(
    embeddings: Tensor, held_out: HeldOutTriplets, benchmark: Benchmark, dataset: Dataset
) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Return every task's metrics, and (T, n) which triplets were ordered rightly, from (T, N, D) embeddings."""
    normalise = benchmark.embedding.normalise
    hits = held_out.hits(embeddings, normalise)
    metrics = {}
    for t, task in enumerate(dataset.tasks):
        found = retrieval_metrics(
            embeddings[t],
            dataset.labels[t, held_out.images],
            normalise=normalise,
            ordered_values=len(dataset.values[t]) if dataset.ordered[t] else None,
            ks=benchmark.evaluation.ks,
        )
        metrics[task] = {"triplet": hits[t].float().mean().item()} | found
    return metrics, hits
