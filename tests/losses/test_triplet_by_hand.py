"""The triplet loss's soft margin and mining, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.losses import LossContext
from mtlbench.losses.triplet import Triplet
from mtlbench.sampling import Batch

# on a line: the anchor at 0, its positive at 2, negatives at 1, 3 and 5, one unlabelled at 0.5
PLACES = (0.0, 2.0, 1.0, 3.0, 5.0, 0.5)
LABELS = (0, 0, 1, 1, 2, -1)


def loss_of(places: tuple[float, ...] = PLACES, labels: tuple[int, ...] = LABELS, drawn: int = 4, **options) -> Tensor:
    """Of one triplet: anchor 0, positive 1, the drawn negative."""
    context = LossContext(("task",), (3,), 1, "plain", normalise=False)
    points = torch.tensor(places).view(1, -1, 1).requires_grad_()
    triplets = torch.tensor([[[0, 1, drawn]]])
    batch = Batch(torch.zeros(len(places), 3, 1, 1), torch.tensor([labels]), triplets, torch.tensor([True]))
    return Triplet(context, **options)(points, batch)


def test_a_soft_margin_is_softplus_of_the_difference():
    assert loss_of(soft_margin=True).item() == pytest.approx(math.log(1 + math.exp(2 - 5)))
    assert loss_of(drawn=2, soft_margin=True).item() == pytest.approx(math.log(1 + math.exp(2 - 1)))


@pytest.mark.parametrize(("mining", "negative"), [("all", 5), ("hard", 1), ("semi-hard", 3)])
def test_mining_chooses_the_negative_by_its_distance(mining, negative):
    assert loss_of(margin=4, mining=mining).item() == pytest.approx(max(0, 2 - negative + 4))


def test_semi_hard_takes_the_farthest_where_none_is_farther_than_the_positive():
    found = loss_of((0.0, 6.0, 1.0, 3.0, 5.0, 9.0), margin=4, mining="semi-hard")
    assert found.item() == pytest.approx(6 - 5 + 4)


@pytest.mark.parametrize("mining", ["hard", "semi-hard"])
def test_an_unlabelled_image_is_never_mined(mining):
    alone = loss_of((0.0, 2.0, 3.0, 2.5), (0, 0, 1, -1), drawn=2, margin=4, mining=mining)
    assert alone.item() == pytest.approx(2 - 3 + 4)


def test_mining_is_each_tasks_own():
    context = LossContext(("a", "b"), (2, 2), 1, "plain", normalise=False)
    points = torch.tensor([[0.0, 2.0, 3.0, 7.0], [0.0, 1.0, 9.0, 4.0]])[..., None]
    triplets = torch.tensor([[[0, 1, 3]], [[0, 1, 2]]])
    labels = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])
    for images in (torch.zeros(4, 3, 1, 1), torch.zeros(2, 4, 3, 1, 1)):  # joint, and a group for each task
        batch = Batch(images, labels, triplets, torch.tensor([True, True]))
        assert Triplet(context, margin=4, mining="hard")(points, batch).tolist() == [2 - 3 + 4, 1 - 4 + 4]


@pytest.mark.parametrize("mining", ["all", "hard", "semi-hard"])
def test_a_task_without_triplets_has_no_loss_and_a_graph(mining):
    context = LossContext(("task",), (2,), 3)
    points = torch.randn(1, 4, 3, requires_grad=True)
    batch = Batch(
        torch.zeros(4, 3, 1, 1), torch.full((1, 4), -1), torch.zeros(1, 2, 3, dtype=torch.int64), torch.tensor([False])
    )
    loss = Triplet(context, mining=mining)(points, batch)
    assert loss.tolist() == [0]
    loss.sum().backward()
    assert points.grad.eq(0).all()


def test_a_batch_without_triplets_is_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"set train\.sampling = 'joint'"):
        Triplet(LossContext(("task",), (2,), 1))(
            torch.zeros(1, 2, 1), Batch(torch.zeros(2, 3, 1, 1), torch.zeros(1, 2))
        )
