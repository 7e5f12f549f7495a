"""The nearest images, in the order that the metrics rank them by."""

from __future__ import annotations

import pytest
import torch
from retrieval_support import (
    random_task,
)

from mtlbench.evaluation.retrieval import nearest, retrieval_metrics


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("rounding", [0.0, 1.0])  # rounded to whole numbers, many embeddings are tied
def test_the_nearest_give_the_precision_that_the_metrics_have(normalise, rounding):
    embeddings, labels = random_task(200, 5, size=3)
    labels[::17] = -1
    embeddings = embeddings.round() if rounding else embeddings
    labelled = torch.nonzero(labels >= 0).flatten()
    metrics = retrieval_metrics(embeddings, labels, normalise=normalise, ks=(1, 5))
    rows, distances = nearest(embeddings, labelled, labelled, 5, normalise=normalise, labels=labels, max_bytes=10_000)
    right = (labels[rows] == labels[labelled, None]).double()
    assert right[:, 0].mean() == pytest.approx(metrics["precision@1"])
    assert right.mean() == pytest.approx(metrics["precision@5"])
    assert not (rows == labelled[:, None]).any()
    assert (distances.diff(dim=1) >= -1e-5).all()
    points = torch.nn.functional.normalize(embeddings.double(), dim=1) if normalise else embeddings.double()
    torch.testing.assert_close(distances, (points[labelled, None] - points[rows]).norm(dim=2), atol=1e-6, rtol=0)


def test_of_a_collapsed_network_the_nearest_are_wrong_and_then_in_order():
    labels = torch.tensor([0, 0, 1, 1, 0])
    rows, distances = nearest(torch.ones(5, 4), torch.tensor([0]), torch.arange(5), 9, normalise=True, labels=labels)
    assert rows.tolist() == [[2, 3, 1, 4]]
    assert distances.tolist() == [[0.0] * 4]
    rows, _ = nearest(torch.ones(5, 4), torch.tensor([0]), torch.arange(1, 5), 2, normalise=True)
    assert rows.tolist() == [[1, 2]]


def test_embeddings_that_are_not_finite_are_the_farthest():
    embeddings = torch.tensor([[0.0, 1.0], [torch.nan, 0.0], [5.0, 5.0], [0.0, 1.1]])
    rows, distances = nearest(embeddings, torch.tensor([0]), torch.arange(4), 3, normalise=False)
    assert rows.tolist() == [[3, 2, 1]]
    assert distances[0, 2] == torch.inf


def test_nothing_is_nearest_where_there_is_nothing_else():
    rows, distances = nearest(torch.ones(3, 2), torch.tensor([1]), torch.tensor([1]), 4, normalise=True)
    assert rows.shape == distances.shape == (1, 0)
