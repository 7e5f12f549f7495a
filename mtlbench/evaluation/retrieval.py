"""Retrieval metrics and nearest neighbours of one task, from embeddings and labels alone.

Two images count as equally far when their distances differ by less than the embeddings' own rounding, and a tie is
always settled against the embedding: a collapsed network scores at or below chance, whatever the order of the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtlbench.evaluation.distances import FARTHEST_STEP, check_embeddings, points_of, steps_of
from mtlbench.evaluation.metrics import Ranked, measured

_MOST_BYTES = 256 * 2**20


@torch.no_grad()
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
    """Return the retrieval metrics of one task, the means over queries of `retrieval_scores`.

    Returns:
        Metric name -> mean over queries, and under `macro/` the mean over label values of the mean over their queries;
        all NaN when no query has a relevant image. A query without a relevant image enters no mean.
    """
    scores = retrieval_scores(
        embeddings,
        labels,
        normalise=normalise,
        ordered_values=ordered_values,
        ks=ks,
        extra=extra,
        max_bytes=max_bytes,
    )
    return means_of(scores, labels)


def means_of(scores: Mapping[str, Tensor], labels: Tensor) -> dict[str, float]:
    """Return the means over queries of (N,) scores, NaN where a query has none, and those over label values."""
    table = torch.stack(list(scores.values()), dim=1)
    labels = labels.cpu()
    answered = ~table[:, 0].isnan() if len(table) else torch.zeros(0, dtype=torch.bool)
    order = labels[answered].argsort(stable=True)
    rows = table[answered][order]
    mean = torch.nanmean if rows.isnan().any() else torch.mean  # a metric may score some queries alone
    micro = mean(rows, dim=0)
    macro = micro
    if len(rows):
        counts = torch.unique(labels[answered], return_counts=True)[1]
        macro = mean(torch.stack([mean(group, dim=0) for group in torch.split(rows, counts.tolist())]), dim=0)
    return dict(zip(scores, micro.tolist(), strict=True)) | {
        f"macro/{name}": value for name, value in zip(scores, macro.tolist(), strict=True)
    }


@torch.no_grad()
def retrieval_scores(
    embeddings: Tensor,
    labels: Tensor,
    *,
    normalise: bool,
    ordered_values: int | None = None,
    ks: Sequence[int] = (1, 5, 10, 20),
    extra: Sequence[str] = (),
    max_bytes: int | None = None,
) -> dict[str, Tensor]:
    """Score every labelled image of one task as a query that is searched for among the other labelled ones.

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

    A query without a relevant image has no score; it stays in the gallery of the others.

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
        extra: further metrics by name, see `metrics`.
        max_bytes: bound on the working memory, in bytes; by default what suits the device.

    Returns:
        Metric name -> (N,) float64 on the CPU, NaN where a query has no score.

    Raises:
        ValueError: a tensor of another shape, a depth below 1, or ordered labels that do not fit `ordered_values`.
    """
    check_embeddings(embeddings)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels must have the shape ({embeddings.shape[0]},), found {tuple(labels.shape)}")
    if any(k < 1 for k in ks):
        raise ValueError(f"ks must be at least 1, found {tuple(ks)}")
    if ordered_values is not None and (ordered_values < 2 or (labels >= ordered_values).any()):
        raise ValueError(f"ordered_values must be at least 2 and above every label, found {ordered_values}")

    labelled = (labels >= 0).nonzero().squeeze(1)
    # By label, so that the queries of a chunk look for about equally many relevant images.
    labelled = labelled[labels[labelled].argsort(stable=True)]
    points, unit, finite = points_of(embeddings[labelled.to(embeddings.device)], normalise)
    values, codes, counts = torch.unique(labels[labelled].to(points.device), return_inverse=True, return_counts=True)
    relevant = counts[codes] - 1
    # Images gain max(0, best - distance of ranks): relevant ones `best`, and all others nothing if there is no order.
    best = 1 if ordered_values is None else ordered_values - 1
    value_ranks = (torch.arange(len(values), device=points.device) if ordered_values is None else values).int()
    ranks = value_ranks[codes]

    positions = torch.arange(1, max(1, len(labelled)), device=points.device, dtype=torch.float64)
    discount = (1 + positions).log2().reciprocal()
    if ordered_values is not None:
        # The first of the ideal order is dropped for the query itself, which has the best gain.
        orders = (_gains(rank, ranks, best).sort(descending=True).values[1:] for rank in value_ranks)
        ideal_per_value = [order.double() @ discount for order in orders]
        ideal = torch.stack(ideal_per_value)[codes] if ideal_per_value else discount

    metrics = measured(ks, extra, ordered=ordered_values is not None)
    scores = torch.full((len(labels), len(metrics)), torch.nan, dtype=torch.float64)
    if max_bytes is None:
        max_bytes = _MOST_BYTES if points.device.type == "cuda" else _MOST_BYTES // 8  # a processor's caches are small
    squares = points.square().sum(dim=1)
    # Sort key: the distance's step above, the gain below; ascending order then puts the least relevant of a tie first.
    gain_bits = best.bit_length()
    key_type = torch.int32 if (FARTHEST_STEP + 1) << gain_bits < 2**31 else torch.int64
    # The peak on an accelerator: a sort holds keys, their 64-bit indices and a buffer for both.
    bytes_per_pair = 8 * key_type.itemsize
    chunk = max(1, max_bytes // (bytes_per_pair * max(1, len(labelled))))
    for start in range(0, len(labelled), chunk):
        query = slice(start, start + chunk)
        distances = torch.addmm(squares, points[query], points.T, alpha=-2).add_(squares[query, None])
        keys = steps_of(distances.clamp_min_(0).sqrt_(), unit[query, None])
        del distances
        keys[~finite[query]] = FARTHEST_STEP
        keys[:, ~finite] = FARTHEST_STEP
        keys = keys.to(key_type).bitwise_left_shift_(gain_bits).add_(_gains(ranks[query, None], ranks, best))
        keys.diagonal(offset=start).fill_(torch.iinfo(key_type).max)
        gains = _ascending(keys)[:, :-1].bitwise_and_((1 << gain_bits) - 1)
        del keys
        asked = None if ordered_values is None else ideal[query]
        ranked = Ranked(gains, best, relevant[query], asked, discount)
        of_queries = torch.stack([metric(ranked) for metric in metrics.values()], dim=1).cpu()
        of_queries[(relevant[query] == 0).cpu()] = torch.nan
        scores[labelled[query].cpu()] = of_queries
        del ranked, gains
    return dict(zip(metrics, scores.unbind(1), strict=True))


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


def _gains(query_ranks: Tensor, ranks: Tensor, best: int) -> Tensor:
    return (query_ranks - ranks).abs_().neg_().add_(best).clamp_min_(0)


def _ascending(keys: Tensor) -> Tensor:
    """Sort each row in place where possible."""
    if keys.device.type == "cpu":
        # NumPy sorts the values alone, about fifteen times faster than torch, which carries the indices along.
        keys.numpy().sort(axis=1)
        return keys
    return keys.sort(dim=1).values
