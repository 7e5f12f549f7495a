"""The triplet loss: soft margin and mining against hand-computed cases."""

from __future__ import annotations

import math

import pytest
import torch

from mtlbench.errors import UserError
from mtlbench.losses.contract import LossContext
from mtlbench.losses.triplet import Triplet
from mtlbench.sampling.contract import Batch

CONTEXT = LossContext(("a",), (2,), embedding_size=1, distance="plain", normalise=False)
POINTS = torch.tensor([[[0.0], [1.0], [1.5], [4.0], [0.4]]])  # on a line
LABELS = torch.tensor([[0, 0, 1, 1, -1]])  # the last is unlabelled


def batch(*triplets: tuple[int, int, int]) -> Batch:
    return Batch(torch.zeros(5, 3, 8, 8), LABELS, torch.tensor([triplets]), torch.tensor([True]))


def test_the_soft_margin_is_the_logarithm_of_one_plus_the_exponential():
    loss = Triplet(CONTEXT, soft_margin=True)(POINTS, batch((0, 1, 3)))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(1.0 - 4.0)))


def test_hard_mining_takes_the_nearest_image_of_another_label_and_no_unlabelled_one():
    loss = Triplet(CONTEXT, margin=1.0, mining="hard")(POINTS, batch((0, 1, 3), (1, 0, 3)))
    # anchor 0: nearest other label at 1.5; anchor 1: at 0.5
    assert loss.item() == pytest.approx(((1.0 - 1.5 + 1.0) + (1.0 - 0.5 + 1.0)) / 2)


@pytest.mark.parametrize("mining", ["hard", "semi-hard"])
@pytest.mark.parametrize("triplet", [(4, 0, 3), (2, 1, 0)], ids=["unlabelled anchor", "positive of another label"])
def test_mining_never_takes_a_listed_positive_for_a_negative(mining, triplet):
    """Triplets that came with a data set may have anchors without a label, and positives of another one."""
    mined = Triplet(CONTEXT, mining=mining)._mined(POINTS, LABELS, torch.tensor([[triplet]]))
    assert mined.tolist() == [[list(triplet)]]


def test_semi_hard_mining_takes_the_nearest_that_is_farther_than_the_positive_else_the_farthest():
    loss = Triplet(CONTEXT, margin=1.0, mining="semi-hard")(POINTS, batch((1, 0, 2), (3, 2, 1)))
    # anchor 1, positive at 1: of others at 0.5 and 3 the second; anchor 3, positive at 2.5: others at 3 and 4
    assert loss.item() == pytest.approx((max(0.0, 1.0 - 3.0 + 1.0) + (2.5 - 3.0 + 1.0)) / 2)
    points = torch.tensor([[[0.0], [5.0], [1.0], [2.0], [0.0]]])
    loss = Triplet(CONTEXT, margin=1.0, mining="semi-hard")(points, batch((0, 1, 2)))
    assert loss.item() == pytest.approx(5.0 - 2.0 + 1.0)


def test_a_task_without_another_label_in_the_batch_keeps_its_drawn_negatives():
    labels = torch.zeros(1, 5, dtype=torch.int64)
    same = Batch(torch.zeros(5, 3, 8, 8), labels, torch.tensor([[[0, 1, 3]]]), torch.tensor([True]))
    assert Triplet(CONTEXT, margin=1.0, mining="hard")(POINTS, same).item() == 0  # 1 - 4 + 1


def test_mining_has_the_gradient_of_the_triplets_that_it_chose():
    points = POINTS.clone().requires_grad_()
    Triplet(CONTEXT, margin=1.0, mining="hard")(points, batch((0, 1, 3))).sum().backward()
    assert points.grad is not None
    # near = |x0 - x1|, far = |x0 - x2|
    assert points.grad.flatten().tolist() == [0.0, 1.0, -1.0, 0.0, 0.0]


def test_a_sampler_without_triplets_is_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"needs triplets.*train\.sampling = 'joint'"):
        Triplet(CONTEXT)(POINTS, Batch(torch.zeros(5, 3, 8, 8), LABELS))
