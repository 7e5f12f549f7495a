"""Retrieval metrics: what must not matter to them, and what must."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_support import (
    random_task,
    tied_tasks,
)

from mtlbench.evaluation.retrieval import retrieval_metrics


def test_one_huge_embedding_does_not_blur_the_others() -> None:
    embeddings, labels = random_task(60, 3)
    alone = retrieval_metrics(embeddings, labels, normalise=False)
    outlier = torch.full((1, embeddings.shape[1]), 1e7)
    # A value of its own: never a query, always the farthest of the gallery.
    beside = retrieval_metrics(
        torch.cat([embeddings, outlier]), torch.cat([labels, torch.tensor([3])]), normalise=False
    )
    assert beside == pytest.approx(alone)


def test_many_ordered_values_and_a_wide_range_of_distances_fit_one_sort_key() -> None:
    metrics = retrieval_metrics(
        torch.tensor([[1.0], [100.0], [1e6]]), torch.tensor([0, 0, 199]), normalise=False, ordered_values=200
    )
    assert metrics["hit@1"] == metrics["ndcg"] == 1


@settings(max_examples=40, deadline=None)
@given(tied_tasks, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_the_images_does_not_matter(
    task: tuple[list[tuple[int, ...]], list[int]], random_source: random.Random, normalise: bool
) -> None:
    embeddings, labels = torch.tensor(task[0], dtype=torch.float32), torch.tensor(task[1])
    order = list(range(len(labels)))
    random_source.shuffle(order)
    shuffled = retrieval_metrics(embeddings[order], labels[order], normalise=normalise, ordered_values=4)
    assert shuffled == pytest.approx(
        retrieval_metrics(embeddings, labels, normalise=normalise, ordered_values=4), nan_ok=True
    )


@pytest.mark.parametrize("ordered_values", [None, 5])
def test_the_chunk_size_does_not_matter(ordered_values: int | None) -> None:
    embeddings, labels = random_task(101, 5)
    whole = retrieval_metrics(embeddings, labels, normalise=True, ordered_values=ordered_values)
    for max_bytes in (1, 101 * 32 * 7):
        chunked = retrieval_metrics(
            embeddings, labels, normalise=True, ordered_values=ordered_values, max_bytes=max_bytes
        )
        assert chunked == pytest.approx(whole)


def test_unlabelled_images_change_nothing() -> None:
    embeddings, labels = random_task(80, 4)
    unlabelled = torch.arange(80) % 3 == 0
    labels[unlabelled] = -1
    with_them = retrieval_metrics(embeddings, labels, normalise=True, ordered_values=4)
    embeddings[unlabelled] = embeddings[torch.arange(80) % 3 == 1].mean(dim=0)
    assert retrieval_metrics(embeddings, labels, normalise=True, ordered_values=4) == with_them
    without = retrieval_metrics(embeddings[~unlabelled], labels[~unlabelled], normalise=True, ordered_values=4)
    assert without == with_them


@pytest.mark.parametrize("normalise", [True, False])
def test_normalising_is_dividing_by_the_norm(normalise: bool) -> None:
    embeddings, labels = random_task(70, 3)
    lengthened = embeddings * torch.logspace(-2, 2, 70)[:, None]
    before = retrieval_metrics(embeddings, labels, normalise=normalise)
    after = retrieval_metrics(lengthened, labels, normalise=normalise)
    assert (before == pytest.approx(after)) == normalise


def test_a_rare_label_shows_in_the_macro_mean_only() -> None:
    labels = (torch.arange(500) >= 490).long()
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(500, 8, generator=generator)
    lost = found.clone()
    found[labels == 1] += 100
    good = retrieval_metrics(found, labels, normalise=False)
    bad = retrieval_metrics(lost, labels, normalise=False)
    assert good["precision@1"] - bad["precision@1"] < 0.05
    assert good["macro/precision@1"] - bad["macro/precision@1"] > 0.4


def test_a_lone_image_is_no_query_but_stays_in_the_gallery() -> None:
    embeddings = torch.tensor([[0.0], [1.0], [0.1]])
    metrics = retrieval_metrics(embeddings, torch.tensor([0, 0, 5]), normalise=False, ks=(1, 2))
    assert metrics["hit@1"] == metrics["macro/hit@1"] == 0  # the lone image stands nearest to both
    assert metrics["hit@2"] == 1
    assert metrics["precision@2"] == 0.5


@pytest.mark.parametrize("labels", [[], [3], [0, 1, 2], [-1, -1]])
@pytest.mark.parametrize("ordered_values", [None, 4])
def test_without_any_relevant_image_every_metric_is_nan(labels: list[int], ordered_values: int | None) -> None:
    metrics = retrieval_metrics(
        torch.ones(len(labels), 2), torch.tensor(labels).long(), normalise=True, ordered_values=ordered_values
    )
    assert set(metrics) >= {"hit@1", "precision@20", "map@r", "r-precision", "macro/map@r"}
    assert ("ndcg" in metrics) == (ordered_values is not None)
    assert all(math.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("normalise", [True, False])
def test_an_embedding_that_is_not_finite_is_never_found_early(bad: float, normalise: bool) -> None:
    embeddings = torch.tensor([[1.0, 0.0], [bad, 0.0], [-1.0, 0.01], [-1.0, 0.0]])
    metrics = retrieval_metrics(embeddings, torch.tensor([0, 0, 1, 1]), normalise=normalise, ks=(1, 2))
    # The first image finds the broken one last; the broken one sees a tie and is shown the wrong label first.
    assert metrics["hit@2"] == metrics["macro/hit@2"] == 0.5
    assert metrics["map@r"] == 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 6), st.booleans())
def test_metrics_lie_between_zero_and_one(seed: int, n: int, values: int, normalise: bool) -> None:
    embeddings, labels = random_task(n, values, seed, size=3)
    metrics = retrieval_metrics(embeddings, labels, normalise=normalise, ordered_values=max(2, values))
    assert all(math.isnan(value) or 0 <= value <= 1 + 1e-12 for value in metrics.values())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(0, 10_000))
def test_perfect_clusters_score_one(labels: list[int], seed: int) -> None:
    target = torch.tensor([*labels, labels[0]])
    scatter = 0.1 * torch.rand(len(target), 1, generator=torch.Generator().manual_seed(seed))
    metrics = retrieval_metrics(10.0 * target[:, None] + scatter, target, normalise=False)
    for name in ("hit@1", "hit@20", "precision@1", "map@r", "r-precision"):
        assert metrics[name] == metrics[f"macro/{name}"] == pytest.approx(1)


def test_ndcg_is_one_for_the_ideal_order_only() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    # The middle label has a neighbour on either side, equally far in rank: no order of the two is worse.
    ideal = retrieval_metrics(labels[:, None].float(), labels, normalise=False, ordered_values=3)
    assert ideal["ndcg"] == ideal["macro/ndcg"] == pytest.approx(1)
    swapped = retrieval_metrics((labels[:, None] * 2 % 3).float(), labels, normalise=False, ordered_values=3)
    assert swapped["map@r"] == 1
    assert swapped["ndcg"] < 1


def test_ndcg_rewards_a_near_miss_over_a_far_one() -> None:
    line = torch.tensor([[0.0], [3.0], [1.0]])  # the third image stands between the two that share a label
    near = retrieval_metrics(line, torch.tensor([0, 0, 1]), normalise=False, ordered_values=5)
    far = retrieval_metrics(line, torch.tensor([0, 0, 4]), normalise=False, ordered_values=5)
    assert near["map@r"] == far["map@r"] == 0
    assert near["ndcg"] == pytest.approx((3 + 4 / math.log2(3)) / (4 + 3 / math.log2(3)))
    assert far["ndcg"] == pytest.approx((0 + 4 / math.log2(3)) / 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels must have the shape"),
        ({"embeddings": torch.zeros(4)}, "embeddings must be"),
        ({"embeddings": torch.zeros(4, 2, dtype=torch.int64)}, "embeddings must be"),
        ({"ks": (0,)}, "ks must be at least 1"),
        ({"ordered_values": 1}, "ordered_values must be"),
        ({"ordered_values": 2}, "ordered_values must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    fitting: dict[str, Any] = {"embeddings": torch.ones(4, 2), "labels": torch.tensor([0, 1, 2, 2])}
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(**{**fitting, **arguments}, normalise=True)
