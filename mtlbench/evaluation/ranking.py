"""Every query's gallery in the exact order of its distance, chunk by chunk, from embeddings and labels alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlbench.evaluation.distances import FARTHEST_STEP, points_of, steps_of
from mtlbench.evaluation.metrics import Ranked


@dataclass(frozen=True)
class Queries:
    """The labelled images of a task, as queries and as gallery, grouped by label.

    Attributes:
        rows: (n,) int64, which rows of the embeddings they are; on the CPU or the labels' device.
        points, unit, finite: see `distances.points_of`.
        relevant: (n,) int64, how many others carry the same label.
        counts: (V,) int64, how many images each label value has, in the order of the groups.
        gain_ranks: (n,) int32, what gains are the distance of.
        best: the gain of a relevant image.
        positions, discount: see `metrics.Ranked`.
        ideal: (n,) float64, see `metrics.Ranked`.
    """

    rows: Tensor
    points: Tensor
    unit: Tensor
    finite: Tensor
    relevant: Tensor
    counts: Tensor
    gain_ranks: Tensor
    best: int
    positions: Tensor
    discount: Tensor
    ideal: Tensor | None

    @staticmethod
    def of(embeddings: Tensor, labels: Tensor, normalise: bool, ordered_values: int | None) -> Queries:
        """Group the labelled images of a task; see `retrieval.retrieval_metrics` for the arguments."""
        labelled = (labels >= 0).nonzero().squeeze(1)
        # By label, so that the queries of a chunk look for about equally many relevant images.
        labelled = labelled[labels[labelled].argsort(stable=True)]
        points, unit, finite = points_of(embeddings[labelled.to(embeddings.device)], normalise)
        own = labels[labelled].to(points.device)
        values, codes, counts = torch.unique(own, return_inverse=True, return_counts=True)
        # Images gain max(0, best - distance of ranks): relevant ones `best`, and others nothing if there is no order.
        best = 1 if ordered_values is None else ordered_values - 1
        value_ranks = (torch.arange(len(values), device=points.device) if ordered_values is None else values).int()
        ranks = value_ranks[codes]
        positions = torch.arange(1, max(1, len(labelled)), device=points.device, dtype=torch.float64)
        discount = (1 + positions).log2().reciprocal()
        ideal = None
        if ordered_values is not None:
            # The first of the ideal order is dropped for the query itself, which has the best gain.
            orders = (_gains(rank, ranks, best).sort(descending=True).values[1:] for rank in value_ranks)
            ideal_per_value = [order.double() @ discount for order in orders]
            ideal = torch.stack(ideal_per_value)[codes] if ideal_per_value else discount
        return Queries(
            labelled, points, unit, finite, counts[codes] - 1, counts, ranks, best, positions, discount, ideal
        )

    def ranked(self, max_bytes: int) -> Iterator[Ranked]:
        """Rank the galleries of all queries in their order, a chunk at a time.

        Beside the points, the working memory stays below `max_bytes` as long as one query's row fits into it and each
        chunk is dropped before the next is asked for.
        """
        n, ranks, finite = len(self.rows), self.gain_ranks, self.finite
        squares = self.points.square().sum(dim=1)
        # Sort key: the distance's step above, the gain below; ascending order then puts the least relevant of a tie
        # first.
        gain_bits = self.best.bit_length()
        key_type = torch.int32 if (FARTHEST_STEP + 1) << gain_bits < 2**31 else torch.int64
        # The peak on an accelerator: a sort holds keys, their 64-bit indices and a buffer for both.
        bytes_per_pair = 8 * key_type.itemsize
        chunk = max(1, max_bytes // (bytes_per_pair * max(1, n)))
        for start in range(0, n, chunk):
            query = slice(start, start + chunk)
            distances = torch.addmm(squares, self.points[query], self.points.T, alpha=-2).add_(squares[query, None])
            keys = steps_of(distances.clamp_min_(0).sqrt_(), self.unit[query, None])
            del distances
            keys[~finite[query]] = FARTHEST_STEP
            keys[:, ~finite] = FARTHEST_STEP
            keys = keys.to(key_type).bitwise_left_shift_(gain_bits).add_(_gains(ranks[query, None], ranks, self.best))
            keys.diagonal(offset=start).fill_(torch.iinfo(key_type).max)
            gains = _ascending(keys)[:, :-1].bitwise_and_((1 << gain_bits) - 1)
            del keys
            ideal = None if self.ideal is None else self.ideal[query]
            found = Ranked(gains, self.best, self.relevant[query], self.positions, self.discount, ideal)
            del gains
            yield found
            del found


def _gains(query_ranks: Tensor, ranks: Tensor, best: int) -> Tensor:
    return (query_ranks - ranks).abs_().neg_().add_(best).clamp_min_(0)


def _ascending(keys: Tensor) -> Tensor:
    """Sort each row in place where possible."""
    if keys.device.type == "cpu":
        # NumPy sorts the values alone, about fifteen times faster than torch, which carries the indices along.
        keys.numpy().sort(axis=1)
        return keys
    return keys.sort(dim=1).values
