"""Collapse: embeddings at a point, told in their own scale, whatever the loss and the unit that a network embeds in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import make_dataset, protocol
from torch import Tensor

from mtlbench.benchmark import Embedding
from mtlbench.evaluation.collapse import collapsed_tasks
from mtlbench.evaluation.triplets import HeldOutTriplets


@pytest.fixture
def held_out() -> HeldOutTriplets:
    return HeldOutTriplets.draw(make_dataset(), protocol(), "test")


@pytest.fixture
def ball() -> Tensor:
    """Embeddings of two tasks, (2, 18, 8): the first all but at a point, the second healthy."""
    generator = torch.Generator().manual_seed(0)
    healthy = torch.randn(1, 18, 8, generator=generator)
    return torch.cat([torch.randn(1, 1, 8, generator=generator) + 1e-3 * healthy, healthy])


def test_collapse_is_seen_and_healthy_embeddings_are_not_called_collapsed(
    held_out: HeldOutTriplets, ball: Tensor
) -> None:
    for normalise in (True, False):
        assert collapsed_tasks(ball, held_out, Embedding(normalise=normalise)).tolist() == [True, False]
        assert collapsed_tasks(0 * ball, held_out, Embedding(normalise=normalise)).tolist() == [True, True]
        assert collapsed_tasks(ball * float("nan"), held_out, Embedding(normalise=normalise)).tolist() == [True, True]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])  # a contrastive loss, or one of proxies, sets any scale
def test_the_unit_that_a_network_embeds_in_plays_no_part_on_the_sphere(
    held_out: HeldOutTriplets, ball: Tensor, scale: float
) -> None:
    assert collapsed_tasks(scale * ball, held_out, Embedding(normalise=True)).tolist() == [True, False]


def test_large_embeddings_at_a_point_have_collapsed_though_their_distances_are_large(
    held_out: HeldOutTriplets, ball: Tensor
) -> None:
    point = ball[:1, :1] + 1e-4 * ball[1:]
    assert collapsed_tasks(1e4 * torch.cat([point, ball[1:]]), held_out, Embedding(normalise=False)).tolist() == [
        True, False,
    ]  # fmt: skip


def test_embeddings_that_are_not_normalised_have_collapsed_where_they_are_tiny(
    held_out: HeldOutTriplets, ball: Tensor
) -> None:
    assert collapsed_tasks(1e-3 * ball, held_out, Embedding(normalise=False)).tolist() == [True, True]


def test_a_common_offset_of_embeddings_that_are_not_normalised_is_no_collapse(
    held_out: HeldOutTriplets, ball: Tensor
) -> None:
    """Distances don't see it: what lies apart by a tenth of the norm is told apart."""
    healthy = ball[1:].expand(2, -1, -1)
    offset = healthy + 10 * healthy.norm(dim=2).mean() * F.normalize(torch.ones(8), dim=0)
    assert collapsed_tasks(offset, held_out, Embedding(normalise=False)).tolist() == [False, False]


@pytest.mark.parametrize("spread", [0.01, 0.05, 0.06, 0.07, 0.075, 0.08, 0.1, 0.3, 1.0])
def test_under_the_triplet_protocol_it_is_what_five_percent_of_the_margin_told(
    held_out: HeldOutTriplets, ball: Tensor, spread: float
) -> None:
    """Every published run is normalised, with squared distances and a margin of 0.2."""
    points = ball[1:] * spread + F.normalize(torch.ones(8), dim=0) * 2.5
    points = points.expand(2, -1, -1)
    unit = F.normalize(points, dim=2)
    rows = torch.arange(2)[:, None]
    anchors, negatives = (unit[rows, held_out.triplets[:, :, leg]] for leg in (0, 2))
    by_margin = ~((anchors - negatives).square().sum(-1).mean(1) > 0.05 * 0.2)
    assert torch.equal(collapsed_tasks(points, held_out, Embedding(normalise=True)), by_margin)


def test_both_verdicts_occur_near_the_limit(held_out: HeldOutTriplets, ball: Tensor) -> None:
    points = torch.stack([ball[1] * spread + F.normalize(torch.ones(8), dim=0) * 2.5 for spread in (0.05, 0.3)])
    assert collapsed_tasks(points, held_out, Embedding(normalise=True)).tolist() == [True, False]
