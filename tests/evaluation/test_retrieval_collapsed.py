"""Retrieval metrics of networks that collapsed: at chance or below."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from retrieval_support import (
    broken,
    chance,
    identical,
    rounded_alike_within_a_label,
    scattered_by_rounding,
    zero,
)
from torch import Tensor

from mtlbench.evaluation.retrieval import retrieval_metrics


def balanced(n: int) -> Tensor:
    return torch.arange(n) % 2


def sorted_by_index(n: int) -> Tensor:
    return balanced(n).sort().values


def rare(n: int) -> Tensor:
    return (torch.arange(n) % 50 == 7).long()


def rare_first(n: int) -> Tensor:
    return rare(n).sort(descending=True).values


def ordered_blocks(n: int) -> Tensor:
    return torch.arange(n) * 5 // n


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("label_of", [balanced, sorted_by_index, rare, rare_first, ordered_blocks])
@pytest.mark.parametrize("collapse", [identical, scattered_by_rounding, rounded_alike_within_a_label, zero, broken])
@pytest.mark.parametrize("scale", [1e-3, 300.0])
def test_a_collapsed_network_does_not_score_above_chance(
    collapse: Callable[[Tensor, Tensor], Tensor], label_of: Callable[[int], Tensor], normalise: bool, scale: float
) -> None:
    labels = label_of(151)
    point = scale * torch.randn(37, generator=torch.Generator().manual_seed(2))
    values = int(labels.max()) + 1
    metrics = retrieval_metrics(collapse(labels, point), labels, normalise=normalise, ordered_values=values)
    for name, expected in chance(labels, values - 1).items():
        assert metrics[name] <= expected, name


def test_two_points_that_ignore_the_label_do_not_score_above_chance() -> None:
    labels = torch.arange(200) % 2
    generator = torch.Generator().manual_seed(4)
    centres = torch.randn(2, 64, generator=generator)
    embeddings = centres[(torch.arange(200) // 2) % 2] * (1 + 1e-7 * labels[:, None])
    metrics = retrieval_metrics(embeddings, labels, normalise=False, ordered_values=2)
    for name, expected in chance(labels, 1).items():
        assert metrics[name] <= expected, name
