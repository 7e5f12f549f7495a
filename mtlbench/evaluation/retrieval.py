"""Retrieval metrics and nearest neighbours of one task, from embeddings and labels alone.

Two images count as equally far when their distances differ by less than the embeddings' own rounding, and a tie is
always settled against the embedding: a collapsed network scores at or below chance, whatever the order of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtlbench.evaluation.distances import FARTHEST_STEP, check_embeddings, points_of, steps_of
from mtlbench.evaluation.metrics import Metric, extra_metrics, standard_metrics
from mtlbench.evaluation.ranking import Queries

# Bounds on the working memory: a processor is fastest with chunks about as large as its caches, a GPU with few.
_ON_CPU, _ON_GPU = 32 * 2**20, 256 * 2**20


@dataclass(frozen=True)
class Retrieval:
    """The retrieval metrics of one task.

    Attributes:
        metrics: the mean over queries by name, and under `macro/` the mean over label values of theirs.
        queries: (N,) float64 scores by name, NaN for what is no query or has no score; on the CPU.
    """

    metrics: dict[str, float]
    queries: dict[str, Tensor]


def retrieval_metrics(
    embeddings: Tensor,
    labels: Tensor,
    *,
    normalise: bool,
    ordered_values: int | None = None,
    ks: Sequence[int] = (1, 5, 10, 20),
    extra: Sequence[str] = (),
    max_bytes: int | None = None,
) -> dict[str, float]:
    """Return the retrieval metrics of one task, every labelled image being searched for among the other labelled ones.

    An image is relevant when it carries the query's label. With R relevant images and the gallery in the order of its
    Euclidean distance to the query:

    - `hit@k`: 1 if one of the first k is relevant, else 0.
    - `precision@k`: the relevant ones among the first k, divided by k, also where the gallery holds fewer than k
      (as torchmetrics and pytorch-metric-learning do).
    - `r-precision`: the relevant ones among the first R, divided by R.
    - `map@r`: 1/R times the sum over i = 1 … R of precision@i where the i-th is relevant (Musgrave, Belongie, Lim: A
      Metric Learning Reality Check, ECCV 2020).
    - `ndcg`, for ordered labels only: an image whose label is j ranks away gains V - 1 - j, is discounted by
      log2(1 + position), and the sum over the whole gallery is divided by that of the ideal order (Järvelin and
      Kekäläinen 2002, linear gain). Chance is far from zero here: read it beside the chance row.

    Each is the mean over queries, and under `macro/` the mean over label values of the mean over their queries. A query
    without a relevant image has no score and enters no mean; it stays in the gallery of the others.

    Among images at the same distance the least relevant comes first. Distances are compared in steps of about two
    millionths of the query's norm (the rounding of float32 embeddings): those in one step are the same. An
    embedding with a NaN or an infinity is farther than every other one from every query, and as a query sees all of the
    gallery at one distance.

    Beyond that the neighbours are exact: the products run in float64, which neither autocast nor TF32 touches. Besides
    float64 copies of the embeddings, the memory stays below `max_bytes` as long as one query's row fits into it.

    Args:
        embeddings: `(N, D)`, of one task.
        labels: `(N,)` int64; -1 is unlabelled: neither query nor gallery. For ordered labels the rank, 0 … V - 1.
        normalise: divide each embedding by its L2 norm first (a zero vector stays zero).
        ordered_values: V, the number of label values, if they are ordered.
        ks: depths of `hit@k` and `precision@k`.
        extra: registered metrics besides those, see `metrics.metric`; those for ordered labels need ordered ones.
        max_bytes: bound on the working memory, in bytes; by default 32 MiB on a processor, 256 MiB on a GPU.

    Returns:
        Metric name -> value in [0, 1]; all NaN when no query has a relevant image.

    Raises:
        ValueError: a tensor of another shape, a depth below 1, or ordered labels that do not fit `ordered_values`.
        UserError: an extra metric that does not exist.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"ks must be at least 1, found {tuple(ks)}")
    ordered = ordered_values is not None
    groups = [standard_metrics(ks, ordered), extra_metrics(extra, ks, ordered)]
    return retrieval(
        embeddings, labels, groups, normalise=normalise, ordered_values=ordered_values, max_bytes=max_bytes
    ).metrics


@torch.no_grad()
def retrieval(
    embeddings: Tensor,
    labels: Tensor,
    groups: Sequence[Sequence[Metric]],
    *,
    normalise: bool,
    ordered_values: int | None = None,
    max_bytes: int | None = None,
) -> Retrieval:
    """Return some metrics of one task by one ranking pass; see `retrieval_metrics` for its rules and arguments.

    Args:
        groups: of metrics. The means of a group are taken together, so that they are the same to the last bit whatever
            the other groups hold.
    """
    check_embeddings(embeddings)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels must have the shape ({embeddings.shape[0]},), found {tuple(labels.shape)}")
    if ordered_values is not None and (ordered_values < 2 or (labels >= ordered_values).any()):
        raise ValueError(f"ordered_values must be at least 2 and above every label, found {ordered_values}")
    queries = Queries.of(embeddings, labels, normalise, ordered_values)
    groups = [group for group in groups if group]
    scores = [[torch.empty(0, len(group), dtype=torch.float64)] for group in groups]
    for ranked in queries.ranked(max_bytes or (_ON_CPU if queries.points.device.type == "cpu" else _ON_GPU)):
        for group, parts in zip(groups, scores, strict=True):
            parts.append(torch.stack([metric(ranked) for metric in group], dim=1).cpu())
        del ranked  # its memory is wanted for the next chunk
    has_relevant = (queries.relevant > 0).cpu()
    sizes = queries.counts[queries.counts > 1].tolist()
    rows = queries.rows.cpu()
    micro: dict[str, float] = {}
    macro: dict[str, float] = {}
    by_query: dict[str, Tensor] = {}
    for group, parts in zip(groups, scores, strict=True):
        names = [metric.name for metric in group]
        of_queries = torch.cat(parts)
        of_queries[~has_relevant] = torch.nan
        answered = of_queries[has_relevant]
        means = answered.mean(dim=0) if not answered.isnan().any() else answered.nanmean(dim=0)
        micro |= dict(zip(names, means.tolist(), strict=True))
        macro |= {f"macro/{n}": v for n, v in zip(names, _macro(answered, sizes, means).tolist(), strict=True)}
        whole = torch.full((len(labels), len(names)), torch.nan, dtype=torch.float64)
        whole[rows] = of_queries
        by_query |= dict(zip(names, whole.unbind(1), strict=True))
    return Retrieval(micro | macro, by_query)


def _macro(answered: Tensor, sizes: list[int], micro: Tensor) -> Tensor:
    """Return the mean over label values of the mean over their queries, which come grouped by label."""
    if not len(answered):
        return micro
    groups = torch.split(answered, sizes)
    if answered.isnan().any():
        return torch.stack([group.nanmean(dim=0) for group in groups]).nanmean(dim=0)
    return torch.stack([group.mean(dim=0) for group in groups]).mean(dim=0)


@torch.no_grad()
def nearest(
    embeddings: Tensor,
    queries: Tensor,
    gallery: Tensor,
    k: int,
    *,
    normalise: bool,
    labels: Tensor | None = None,
    max_bytes: int = 64 * 2**20,
) -> tuple[Tensor, Tensor]:
    """Return each query's k nearest images of a gallery, as `retrieval_metrics` orders them.

    Of images in one step of distance those with another label than the query's come first, then the order is that of
    the rows. A query that is in the gallery is no neighbour of itself.

    Args:
        embeddings: `(N, D)`, of one task, queries and gallery together.
        queries: `(q,)` int64 rows of `embeddings`.
        gallery: `(n,)` int64 rows, each once.
        k: how many, at most those that there are.
        normalise: divide each embedding by its L2 norm first (a zero vector stays zero).
        labels: `(N,)` int64, to settle ties; without them the rows alone do.
        max_bytes: bound on the working memory, in bytes, as long as one query's row fits into it.

    Returns:
        `(q, k)` int64 rows, the nearest first, and `(q, k)` float64 Euclidean distances, both on the CPU; infinite
        where an embedding is not finite.
    """
    check_embeddings(embeddings)
    points, unit, finite = points_of(embeddings.cpu(), normalise)
    queries, gallery = queries.cpu(), gallery.cpu()
    order = torch.arange(len(gallery))
    own_place = torch.full((len(points),), -1)
    own_place[gallery] = order
    k = min(k, len(gallery) - int((own_place[queries] >= 0).any()))
    rows = torch.empty(len(queries), k, dtype=torch.int64)
    found = torch.empty(len(queries), k, dtype=torch.float64)
    if k < 1 or not len(queries):
        return rows, found
    others = points[gallery]
    squares = others.square().sum(dim=1)
    chunk = max(1, max_bytes // (32 * len(gallery)))
    for start in range(0, len(queries), chunk):
        query = queries[start : start + chunk]
        own = points[query]
        distances = torch.addmm(squares, own, others.T, alpha=-2).add_(own.square().sum(dim=1)[:, None])
        distances = distances.clamp_min_(0).sqrt_()
        steps = steps_of(distances.clone(), unit[query, None])
        if not finite.all():
            unknown = ~(finite[query][:, None] & finite[gallery])
            steps[unknown] = FARTHEST_STEP
            distances[unknown] = torch.inf
        steps.mul_(2)
        if labels is not None:
            steps += labels[query].cpu()[:, None] == labels[gallery].cpu()
        # the place in the gallery goes along in the low bits: sorting values alone is fast and settles what is left
        keys = steps.long().bitwise_left_shift_(32).add_(order)
        itself = own_place[query]
        keys[itself >= 0, itself[itself >= 0]] = torch.iinfo(torch.int64).max
        nearest_keys = np.sort(np.partition(keys.numpy(), k - 1, axis=1)[:, :k], axis=1)
        place = torch.from_numpy(nearest_keys).bitwise_and_(2**32 - 1)
        rows[start : start + chunk] = gallery[place]
        found[start : start + chunk] = distances.gather(1, place)
    return rows, found
