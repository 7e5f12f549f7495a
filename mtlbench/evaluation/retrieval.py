"""Retrieval metrics and nearest neighbours of one task, from embeddings and labels alone.

Two images count as equally far when their distances differ by less than the embeddings' own rounding, and a tie is
always settled against the embedding: a collapsed network scores at or below chance, whatever the order of the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mtlbench.evaluation.distances import FARTHEST_STEP, STEP, check_embeddings, points_of, steps_of
from mtlbench.evaluation.metrics import RELEVANT, Ranked, measured
from mtlbench.evaluation.ranking import Distances, Space, first, in_chunks
from mtlbench.evaluation.sets import Sets


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
    query: Tensor | None = None,
    gallery: Tensor | None = None,
    members: Tensor | None = None,
    apart: Tensor | None = None,
) -> dict[str, Tensor]:
    """Score every labelled image of one task as a query that is searched for among the other labelled ones.

    Where query and gallery sets are given, the labelled queries alone are scored, among the labelled gallery images
    alone; one that is in both is no neighbour of itself.

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
        query, gallery: `(N,)` bool, both or neither.
        members: `(V, U)` bool where labels are sets, which of U values are in each: an image that shares one with the
            query is relevant, and gains the Jaccard index of both sets, |a and b| / |a or b|, in `ndcg`.
        apart: `(N,)` int64: gallery images with the query's code are left out, whatever their label, as if they were
            not there; -1 is no code. Re-identification leaves out the query's own person by its own camera (Zheng et
            al.: Scalable Person Re-identification, ICCV 2015).

    Returns:
        Metric name -> (N,) float64 on the CPU, NaN where a query has no score.

    Raises:
        ValueError: a tensor of another shape, a depth below 1, or ordered labels that do not fit `ordered_values`.
    """
    [scores] = scores_of_tasks(
        embeddings,
        labels[None],
        [ordered_values],
        normalise=normalise,
        ks=ks,
        extra=extra,
        max_bytes=max_bytes,
        query=query,
        gallery=gallery,
        members=[members],
        apart=apart,
    )
    return scores


@torch.no_grad()
def scores_of_tasks(
    embeddings: Tensor,
    labels: Tensor,
    ordered_values: Sequence[int | None],
    *,
    normalise: bool,
    ks: Sequence[int] = (1, 5, 10, 20),
    extra: Sequence[str] = (),
    max_bytes: int | None = None,
    query: Tensor | None = None,
    gallery: Tensor | None = None,
    members: Sequence[Tensor | None] | None = None,
    apart: Tensor | None = None,
) -> list[dict[str, Tensor]]:
    """Return `retrieval_scores` of several tasks that have the same embeddings; distances are worked out once.

    Args:
        embeddings: `(N, D)`.
        labels: `(T, N)`.
        ordered_values: of each task.
        normalise, ks, extra, max_bytes, query, gallery, apart: see `retrieval_scores`.
        members: of each task.
    """
    check_embeddings(embeddings)
    if labels.shape[1:] != embeddings.shape[:1]:
        raise ValueError(f"labels must have the shape ({embeddings.shape[0]},), found {tuple(labels.shape[1:])}")
    if any(k < 1 for k in ks):
        raise ValueError(f"ks must be at least 1, found {tuple(ks)}")
    for of_task, values in zip(labels, ordered_values, strict=True):
        if values is not None and (values < 2 or (of_task >= values).any()):
            raise ValueError(f"ordered_values must be at least 2 and above every label, found {values}")
    sets = members or [None] * len(labels)
    everyone = torch.ones(labels.shape[1], dtype=torch.bool, device=labels.device)
    asked_for, searched = everyone if query is None else query, everyone if gallery is None else gallery
    scores = [dict[str, Tensor]() for _ in labels]
    together: dict[bytes, list[int]] = {}  # tasks by the images that they label
    for t, has in enumerate((labels >= 0).cpu()):
        together.setdefault(has.numpy().tobytes(), []).append(t)
    for tasks in together.values():
        has = labels[tasks[0]] >= 0
        # Queries alone, those in the gallery too, the rest of the gallery: queries and gallery are a stretch each.
        parts = [has & asked_for & ~searched, has & asked_for & searched, has & searched & ~asked_for]
        # By label, so that the queries of a chunk look for about equally many relevant images.
        rows = [part.nonzero().squeeze(1) for part in parts]
        rows = [of_part[labels[tasks[0], of_part].argsort(stable=True)] for of_part in rows]
        labelled, first, stop = torch.cat(rows), len(rows[0]), len(rows[0]) + len(rows[1])
        distances = Distances(embeddings[labelled.to(embeddings.device)], normalise, first)
        shots = None if apart is None else apart[labelled.to(apart.device)].to(distances.device)
        asked = [
            _Task(labels[t, labelled].to(distances.device), first, ordered_values[t], ks, extra, sets[t], shots)
            for t in tasks
        ]
        for task, t in zip(asked, tasks, strict=True):
            found = torch.full((labels.shape[1], len(task.metrics)), torch.nan, dtype=torch.float64)
            scores[t] = dict(zip(task.metrics, found.unbind(1), strict=True))
            task.scores = found
        key_type = max((task.key_type for task in asked), key=lambda kind: kind.itemsize)
        places = labelled.cpu()
        score = partial(_scores_of_chunk, distances, asked)
        queries = (range(first), range(first, stop))
        size = len(labelled) - first
        for chunk, of_chunk in in_chunks(queries, size, key_type, distances.device, max_bytes, score):
            for task, of_queries in zip(asked, of_chunk, strict=True):
                task.scores[places[chunk]] = of_queries
    return scores


def _scores_of_chunk(distances: Distances, asked: Sequence[_Task], query: slice, space: Space) -> list[Tensor]:
    bits = distances.bits(query, space)
    return [task.score(bits, query.start, space) for task in asked]


class _Task:
    """What one task asks of the galleries that are ranked.

    Args:
        labels: `(n,)`, of the images that have one.
        first: where the gallery begins among them.
        ordered_values: V, if the labels are ordered.
        ks, extra, members: see `retrieval_scores`.

    Attributes:
        metrics: by name.
        key_type: of the keys that galleries are sorted by.
    """

    scores: Tensor

    def __init__(
        self,
        labels: Tensor,
        first: int,
        ordered_values: int | None,
        ks: Sequence[int],
        extra: Sequence[str],
        members: Tensor | None = None,
        apart: Tensor | None = None,
    ) -> None:
        n, device = len(labels) - first, labels.device
        values, codes, counts = torch.unique(labels, return_inverse=True, return_counts=True)
        self._first = first
        self._sets = None if members is None else Sets(members.to(device)[values])
        held = torch.bincount(codes[first:], minlength=len(values))
        self._relevant = (held if self._sets is None else self._sets.alike(held))[codes]
        self._relevant[first:] -= 1  # an image in the gallery is not looked for by itself
        # Images gain max(0, best - distance of ranks): relevant ones `best`, and others nothing if there is no order.
        self._best = 1 if ordered_values is None else ordered_values - 1
        self._worth = None if self._sets is None else self._sets.worth
        if self._worth is not None:
            self._best = len(self._worth) - 1
        ranks = (torch.arange(len(values), device=device) if ordered_values is None else values).int()
        self._ranks = ranks[codes]
        self._in_gallery = self._ranks[first:]
        # Queries are scored with those of the same label, those that look for few images first.
        self._turn = counts.argsort(stable=True).argsort()[codes]
        positions = torch.arange(1, max(1, n + (first > 0)), device=device, dtype=torch.float64)
        self._discount = (1 + positions).log2().reciprocal()
        self._ideal = None
        graded = ordered_values is not None or self._sets is not None
        if graded:
            alone = [self._ideal_gains(ranks, 0)[codes[:first]]] if first else []
            self._ideal = torch.cat([*alone, self._ideal_gains(ranks, 1)[codes[first:]]])
        self._apart = apart if apart is not None and bool((apart >= 0).any()) else None
        if self._apart is not None:
            self._leave_apart_out(self._apart, codes, ranks)
        self.metrics = measured(ks, extra, ordered=graded)
        # Sort key: the distance's step above, the gain in the bits below: of a tie the least relevant comes first.
        self._factor = max(1, (1 << self._best.bit_length()) // STEP)
        self.key_type = torch.int32 if self._factor == 1 else torch.int64

    def _ideal_gains(self, ranks: Tensor, dropped: int) -> Tensor:
        """Return the discounted gain of the ideal order by label value.

        Args:
            ranks: of the values.
            dropped: 1 where the query is in the gallery itself: it has the best gain, and is the first in that order.
        """
        best = []
        for rank in ranks:
            order = self._gains(rank).sort(descending=True).values[dropped:]
            gains = order.double() if self._worth is None else self._worth[order.long()]
            best.append(gains @ self._discount[: len(order)])
        return torch.stack(best) if best else self._discount.new_zeros(0)

    def _leave_apart_out(self, apart: Tensor, codes: Tensor, ranks: Tensor) -> None:
        """Count again what queries look for whose gallery lacks images with their own code, themselves among them."""
        known = (apart >= 0).nonzero().squeeze(1)
        pairs, place = torch.unique(torch.stack([codes[known], apart[known]]), dim=1, return_inverse=True)
        relevant, ideal = torch.empty_like(self._relevant[: pairs.shape[1]]), []
        for i, (code, shot) in enumerate(pairs.T):
            gains = self._gains(ranks[code])[apart[self._first :] != shot]
            relevant[i] = (gains == self._best if self._worth is None else gains > 0).sum()
            if self._ideal is not None:
                order = gains.sort(descending=True).values
                best = order.double() if self._worth is None else self._worth[order.long()]
                ideal.append(best @ self._discount[: len(order)])
        self._relevant[known] = relevant[place]
        if self._ideal is not None and ideal:
            self._ideal[known] = torch.stack(ideal)[place]

    def _gains(self, rank: Tensor) -> Tensor:
        """Return `(g,)` int32: what the gallery's images gain for a query of that rank."""
        if self._sets is not None:
            return self._sets.gains(int(rank))[self._in_gallery.long()]
        if self._best == 1:
            return (self._in_gallery == rank).int()
        return (self._in_gallery - rank).abs_().neg_().add_(self._best).clamp_min_(0)

    def _depth(self, relevant: int, gallery: int) -> int:
        """Return how many of a gallery's images are looked at, where so many are relevant at most."""
        depths = (relevant if metric.depth == RELEVANT else metric.depth for metric in self.metrics.values())
        return max(gallery if depth is None else min(int(depth), gallery) for depth in depths)

    def score(self, bits: Tensor, start: int, space: Space) -> Tensor:
        """Return `(q, metrics)` float64 scores on the CPU, NaN where a query has none.

        Args:
            bits: `(q, g)` of the queries from `start` on, all of which or none are in the gallery.
            start: see above.
            space: see `Distances.bits`.
        """
        of_chunk = slice(start, start + len(bits))
        relevant, turn, ranks = self._relevant[of_chunk], self._turn[of_chunk], self._ranks[of_chunk]
        scores = torch.empty(len(bits), len(self.metrics), dtype=torch.float64)
        for rows in turn.argsort(stable=True).split(space.block):
            keys = self._keys(bits, rows, space)
            alike = torch.unique_consecutive(ranks[rows], return_counts=True)
            for rank, same in zip(alike[0], keys.split(alike[1].tolist()), strict=True):
                same.add_(self._gains(rank))
            if self._apart is not None:
                shots = self._apart[rows + start, None]
                left = (shots == self._apart[self._first :]) & (shots >= 0)
                keys.masked_fill_(left, torch.iinfo(keys.dtype).max - (STEP * self._factor - 1))  # last, without gain
            itself = start >= self._first
            if itself:
                own = rows + (start - self._first)
                keys[torch.arange(len(rows), device=keys.device), own] = torch.iinfo(keys.dtype).max
            depth = self._depth(int(relevant[rows].max()), keys.shape[1] - itself)
            gains = first(keys, depth).bitwise_and_(STEP * self._factor - 1)
            ideal = None if self._ideal is None else self._ideal[rows + start]
            ranked = Ranked(gains, self._best, relevant[rows], ideal, self._discount[:depth], self._worth)
            found = torch.stack([metric.of(ranked) for metric in self.metrics.values()], dim=1)
            scores[rows.cpu()] = torch.where(relevant[rows, None] > 0, found, torch.nan).cpu()
        return scores

    def _keys(self, bits: Tensor, rows: Tensor, space: Space) -> Tensor:
        """Return the keys of some queries without the gains."""
        keys = space.keys(len(rows), bits.shape[1])
        if keys.dtype == bits.dtype:
            return torch.index_select(bits, 0, rows, out=keys)
        return keys.copy_(bits[rows]).mul_(self._factor)


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
        steps = steps_of(distances / unit[query, None])
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
