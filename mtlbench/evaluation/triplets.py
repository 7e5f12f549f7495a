"""Triplets of a split that every method and seed is judged by, and whether embeddings order them rightly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.devices import named_generator
from mtlbench.evaluation.distances import check_embeddings, points_of, steps_of
from mtlbench.sampling.asked import AskedTriplets
from mtlbench.sampling.sets import SetTriplets
from mtlbench.sampling.triplets import TripletSampler

_TRIPLET_CHUNK = 1 << 22


@torch.no_grad()
def triplet_hits(embeddings: Tensor, triplets: Tensor, normalise: bool = True) -> Tensor:
    """Return for each triplet whether the anchor is strictly nearer to the positive than to the negative.

    Plain and squared Euclidean distance give the same answers, since squaring keeps the order of distances; so there
    is no choice of distance here. Distances that are equal up to the rounding of float32 embeddings are a miss, and so
    is a triplet with a NaN or an infinity in one of its embeddings.

    Args:
        embeddings: `(N, D)`, of one task.
        triplets: `(n, 3)` int64, rows of `embeddings`: anchor, positive, negative.
        normalise: divide each embedding by its L2 norm first (a zero vector stays zero).

    Returns:
        `(n,)` bool, on the device of `embeddings`. The mean is the triplet accuracy.

    Raises:
        ValueError: a tensor of another shape.
    """
    check_embeddings(embeddings)
    if triplets.ndim != 2 or triplets.shape[1] != 3:
        raise ValueError(f"triplets must have the shape (n, 3), found {tuple(triplets.shape)}")
    points, unit, finite = points_of(embeddings, normalise)
    hits = []
    for rows in torch.split(triplets.to(points.device), max(1, _TRIPLET_CHUNK // max(1, points.shape[1]))):
        anchor, positive, negative = rows.unbind(dim=1)
        near = steps_of((points[anchor] - points[positive]).norm(dim=1).div_(unit[anchor]))
        far = steps_of((points[anchor] - points[negative]).norm(dim=1).div_(unit[anchor]))
        hits.append((near < far) & finite[rows].all(dim=1))
    return torch.cat(hits).to(embeddings.device)


@dataclass
class HeldOutTriplets:
    """Triplets that every method and seed is judged by: images of one split and (T, n, 3) indices into them."""

    images: Tensor
    triplets: Tensor

    @staticmethod
    def draw(dataset: Dataset, benchmark: Benchmark, split: str) -> HeldOutTriplets:
        """Draw a split's triplets by the benchmark's own seed; they don't depend on the run.

        Where the data set came with triplets of its own, those are drawn, each at most once. Where the split has query
        and gallery sets, anchors are queries, and positives and negatives gallery images. Where labels are sets, the
        positive shares a value with the anchor and the negative none.
        """
        images = dataset.members(split)
        drawn = []
        if dataset.triplets:
            place = torch.zeros(len(dataset.split), dtype=torch.int64, device=dataset.device)
            place[images] = torch.arange(len(images), device=dataset.device)
            fixed = dataset.triplets[split]
            number = min(benchmark.evaluation.triplets, *(len(rows) for rows in fixed))
            for task, rows in zip(dataset.tasks, fixed, strict=True):
                generator = named_generator(torch.device("cpu"), benchmark.evaluation.seed, "questions", split, task)
                drawn.append(place[rows[torch.randperm(len(rows), generator=generator)[:number].to(rows.device)]])
            return HeldOutTriplets(images, torch.stack(drawn))
        roles, rules = dataset.roles(images), (benchmark.evaluation.anchors, benchmark.evaluation.min_images)
        query, gallery = (None, None) if roles is None else (roles[0].cpu(), roles[1].cpu())
        labels_of = dataset.labels[:, images].cpu()
        for task, labels, members in zip(dataset.tasks, labels_of, dataset.sets, strict=True):
            generator = named_generator(torch.device("cpu"), benchmark.evaluation.seed, "questions", split, task)
            sampler: TripletSampler | AskedTriplets | SetTriplets
            if members is not None:
                sampler = SetTriplets(labels, members, query, gallery, benchmark.evaluation.min_images)
            elif query is not None and gallery is not None:
                sampler = AskedTriplets(labels, query, gallery, *rules)
            else:
                sampler = TripletSampler(labels, *rules)
            drawn.append(sampler.draw(benchmark.evaluation.triplets, generator))
        return HeldOutTriplets(images, torch.stack(drawn).to(dataset.device))

    def hits(self, embeddings: Tensor, normalise: bool) -> Tensor:
        """Return (T, n) bool: which triplets the (T, N, D) embeddings of `images` order rightly."""
        return torch.stack([triplet_hits(e, t, normalise) for e, t in zip(embeddings, self.triplets, strict=True)])
