"""The retrieval metrics that every task has; `retrieval.retrieval_metrics` gives their definitions in full."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.evaluation.metrics import Ranked, register_metric


@register_metric("hit", meaning="1 if one of the first k is relevant, else 0")
def hit(ranked: Ranked, *, k: int) -> Tensor:
    """Return whether one of the first k is relevant."""
    return ranked.hits[:, :k].any(dim=1).double()


@register_metric("precision", meaning="the relevant ones among the first k, divided by k")
def precision(ranked: Ranked, *, k: int) -> Tensor:
    """Return the share of relevant ones, by k also where the gallery holds fewer, as other libraries do."""
    return ranked.hits[:, :k].sum(dim=1).double() / k


@register_metric("map@r", meaning="mean over the first R of precision@i where the i-th is relevant, of R relevant ones")
def map_at_r(ranked: Ranked) -> Tensor:
    """Return MAP@R (Musgrave, Belongie, Lim: A Metric Learning Reality Check, ECCV 2020)."""
    within = ranked.hits_within_r
    found = within.cumsum(dim=1, dtype=torch.int32).mul_(within).double()
    return found @ ranked.positions[: within.shape[1]].reciprocal() / ranked.relevant


@register_metric("r-precision", meaning="the relevant ones among the first R, divided by R")
def r_precision(ranked: Ranked) -> Tensor:
    """Return the share of relevant ones among as many as there are."""
    return ranked.hits_within_r.sum(dim=1).double() / ranked.relevant


@register_metric(
    "ndcg", meaning="discounted gain over that of the ideal order; chance is far from 0", ordered_only=True
)
def ndcg(ranked: Ranked) -> Tensor:
    """Return NDCG over the whole gallery (Järvelin and Kekäläinen 2002, linear gain)."""
    if ranked.ideal is None:
        raise ValueError("ndcg is for tasks whose label values have an order")
    return ranked.gains.double() @ ranked.discount / ranked.ideal
