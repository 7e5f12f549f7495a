"""Triplet accuracy: whether the positive is nearer than the negative."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_support import (
    broken,
    identical,
    random_task,
    rounded_alike_within_a_label,
    scattered_by_rounding,
    zero,
)
from torch import Tensor

from mtlbench.evaluation.triplets import triplet_hits


def test_a_triplet_is_a_hit_when_the_positive_is_nearer() -> None:
    embeddings = torch.tensor([[0.0, 1.0], [0.0, 1.1], [3.0, 1.0]])
    triplets = torch.tensor([[0, 1, 2], [0, 2, 1], [2, 1, 0], [2, 0, 1]])
    assert triplet_hits(embeddings, triplets, normalise=False).tolist() == [True, False, False, True]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_triplet_hits_order_by_the_plain_distance(seed: int, normalise: bool) -> None:
    embeddings, _ = random_task(20, 2, seed, size=5)
    triplets = torch.randint(0, 20, (40, 3), generator=torch.Generator().manual_seed(seed))
    points = embeddings.double()
    if normalise:
        points = torch.nn.functional.normalize(points)
    near, far = ((points[triplets[:, 0]] - points[triplets[:, i]]).norm(dim=1) for i in (1, 2))
    clear = (near - far).abs() > 1e-3
    hits = triplet_hits(embeddings, triplets, normalise=normalise)
    assert torch.equal(hits[clear], (near < far)[clear])
    assert not hits[near == far].any()


def test_normalising_ignores_the_length_of_an_embedding() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [50.0, 1.0], [1.0, 0.5]])
    triplet = torch.tensor([[0, 1, 2]])
    assert triplet_hits(embeddings, triplet, normalise=True).item()
    assert not triplet_hits(embeddings, triplet, normalise=False).item()


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("collapse", [identical, scattered_by_rounding, rounded_alike_within_a_label, zero, broken])
def test_a_collapsed_network_hits_no_triplet(collapse: Callable[[Tensor, Tensor], Tensor], normalise: bool) -> None:
    labels = torch.arange(60) % 2
    embeddings = collapse(labels, torch.randn(37, generator=torch.Generator().manual_seed(5)))
    triplets = torch.tensor([[i, (i + 2) % 60, (i + 1) % 60] for i in range(60)])
    assert not triplet_hits(embeddings, triplets, normalise=normalise).any()


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_triplet_with_an_embedding_that_is_not_finite_is_a_miss(position: int, bad: float) -> None:
    embeddings = torch.tensor([[0.0, 1.0], [0.0, 1.1], [3.0, 1.0]])
    triplet = torch.tensor([[0, 1, 2]])
    assert triplet_hits(embeddings, triplet).item()
    embeddings[position, 0] = bad
    assert not triplet_hits(embeddings, triplet).item()


def test_a_zero_vector_can_be_normalised() -> None:
    embeddings = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.1]])
    triplets = torch.tensor([[1, 2, 0], [0, 1, 2]])
    assert triplet_hits(embeddings, triplets, normalise=True).tolist() == [True, False]


def test_many_triplets_are_answered_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, _ = random_task(50, 2)
    triplets = torch.randint(0, 50, (300, 3), generator=torch.Generator().manual_seed(0))
    at_once = triplet_hits(embeddings, triplets)
    monkeypatch.setattr("mtlbench.evaluation.triplets._TRIPLET_CHUNK", 100)
    assert torch.equal(triplet_hits(embeddings, triplets), at_once)


def test_no_triplets_give_no_hits_and_a_wrong_shape_is_refused() -> None:
    assert triplet_hits(torch.ones(3, 2), torch.empty(0, 3, dtype=torch.int64)).shape == (0,)
    with pytest.raises(ValueError, match="triplets must have the shape"):
        triplet_hits(torch.ones(3, 2), torch.tensor([0, 1, 2]))
