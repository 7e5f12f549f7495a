"""Retrieval metrics against independent libraries and a brute force."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from retrieval_support import (
    KS,
    brute_force,
    random_task,
    tied_tasks,
)
from torchmetrics.functional.retrieval import (
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_r_precision,
)

from mtlbench.evaluation.retrieval import retrieval_metrics


@pytest.mark.parametrize("values", [2, 7])
@pytest.mark.parametrize("normalise", [True, False])
def test_agrees_with_pytorch_metric_learning(values: int, normalise: bool) -> None:
    embeddings, labels = random_task(60, values)  # few enough that no two distances are within the resolution
    ours = retrieval_metrics(embeddings, labels, normalise=normalise)
    for average_of_averages, prefix in ((False, ""), (True, "macro/")):
        calculator = AccuracyCalculator(
            include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
            k="max_bin_count",
            avg_of_avgs=average_of_averages,
            knn_func=CustomKNN(LpDistance(normalize_embeddings=normalise, p=2, power=2)),
            device=torch.device("cpu"),
        )
        theirs = calculator.get_accuracy(embeddings, labels)
        assert ours[f"{prefix}precision@1"] == pytest.approx(theirs["precision_at_1"])
        assert ours[f"{prefix}r-precision"] == pytest.approx(theirs["r_precision"])
        assert ours[f"{prefix}map@r"] == pytest.approx(theirs["mean_average_precision_at_r"])


@pytest.mark.parametrize("n", [12, 60])  # 12: fewer images than the deepest k
def test_agrees_with_torchmetrics(n: int) -> None:
    embeddings, labels = random_task(n, 3, seed=1)
    ours = retrieval_metrics(embeddings, labels, normalise=False, ordered_values=3)
    theirs: dict[str, list[float]] = {}
    for query in range(n):
        others = torch.arange(n) != query
        similarity = 1 / (1 + (embeddings[others] - embeddings[query]).norm(dim=1))
        relevant = labels[others] == labels[query]
        for k in KS:
            theirs.setdefault(f"hit@{k}", []).append(float(retrieval_hit_rate(similarity, relevant, top_k=k)))
            theirs.setdefault(f"precision@{k}", []).append(float(retrieval_precision(similarity, relevant, top_k=k)))
        theirs.setdefault("r-precision", []).append(float(retrieval_r_precision(similarity, relevant)))
        gain = 2 - (labels[others] - labels[query]).abs()
        theirs.setdefault("ndcg", []).append(float(retrieval_normalized_dcg(similarity, gain)))
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(fmean(values), abs=1e-6), name


@settings(max_examples=150, deadline=None)
@given(tied_tasks, st.sampled_from([4, 200]))  # 200 values need 64-bit sort keys
def test_ties_put_the_least_relevant_first(task: tuple[list[tuple[int, ...]], list[int]], values: int) -> None:
    points, labels = task
    ours = retrieval_metrics(
        torch.tensor(points, dtype=torch.float32), torch.tensor(labels), normalise=False, ordered_values=values
    )
    expected = brute_force(points, labels, values - 1, tie=lambda gain: gain)
    if expected:
        assert ours == pytest.approx(expected)
    else:
        assert all(math.isnan(value) for value in ours.values())


@settings(max_examples=60, deadline=None)
@given(tied_tasks, st.randoms(use_true_random=False))
def test_no_other_way_to_break_ties_scores_less(
    task: tuple[list[tuple[int, ...]], list[int]], random_source: random.Random
) -> None:
    points, labels = task
    ours = retrieval_metrics(
        torch.tensor(points, dtype=torch.float32), torch.tensor(labels), normalise=False, ordered_values=4
    )
    for name, value in brute_force(points, labels, 3, tie=lambda gain: random_source.random()).items():
        assert ours[name] <= value + 1e-9, name
