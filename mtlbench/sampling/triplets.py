"""Triplets (anchor, positive, negative) drawn from integer labels, on the labels' own device, without Python per image.

Anchor and positive share the label, the negative differs, positive is not the anchor; unlabelled images never enter.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.sampling.contract import Batch, Generators, Source


class TripletSampler:
    """Draws triplets of one task from a fixed set of images.

    Args:
        labels: (N,) int64, -1 for not labelled.
        anchors: `positive` takes anchors from label 1 alone, for binary attributes (the modulation paper's way);
            `balanced` draws the anchor's label evenly over the labels that can anchor, then the anchor from that label.
        min_images: a label with fewer images than this is drawn less often than others, in proportion to its images,
            where anchors are balanced; 0 draws all evenly.

    A label with one image can't anchor. Positive and negative are drawn evenly from all images that qualify.

    Raises:
        UserError: no triplet can be drawn.
    """

    def __init__(self, labels: Tensor, anchors: str = "balanced", min_images: int = 0) -> None:
        images = torch.nonzero(labels >= 0).flatten()
        values, inverse, counts = torch.unique(labels[images], return_inverse=True, return_counts=True)
        self.images = images[torch.argsort(inverse, stable=True)]  # grouped by label
        self.counts = counts
        self.starts = torch.cumsum(counts, 0) - counts
        able = (counts >= 2) & (counts < len(images))
        if anchors == "positive":
            able = able & (values == 1)
        self.able = torch.nonzero(able).flatten()
        if len(self.able) == 0:
            raise UserError(
                "No triplet can be drawn: it takes two images of one label"
                + (" (1, with anchors = 'positive')" if anchors == "positive" else "")
                + " and one of another."
            )

        self.bounds: Tensor | None = None  # of the labels' parts of [0, 1), where they aren't equal
        if min_images and bool((counts[self.able] < min_images).any()):
            parts = counts[self.able].clamp(max=min_images).double().cumsum(0)
            self.bounds = parts / parts[-1]

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Return (number, 3) int64 indices of anchor, positive and negative into the labels."""
        device = self.images.device

        def uniform(high: Tensor | int) -> Tensor:
            """Whole numbers in [0, high), float64 so that no index of a large set is left out."""
            draws = torch.rand(number, generator=generator, device=device, dtype=torch.float64)
            return (draws * high).long().clamp(max=high - 1)

        if self.bounds is None:
            label = self.able[uniform(len(self.able))]
        else:
            draws = torch.rand(number, generator=generator, device=device, dtype=torch.float64)
            label = self.able[torch.searchsorted(self.bounds, draws, right=True).clamp(max=len(self.able) - 1)]
        count, start = self.counts[label], self.starts[label]
        first = uniform(count)
        second = (first + 1 + uniform(count - 1)) % count
        other = uniform(len(self.images) - count)
        other = other + torch.where(other >= start, count, torch.zeros_like(count))
        return torch.stack([self.images[start + first], self.images[start + second], self.images[other]], dim=1)


class ListedTriplets:
    """Draws triplets of one task, evenly and with replacement, from a list (n, 3) of anchor, positive, negative."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Return (number, 3) int64 rows of the list."""
        return self.rows[torch.randint(len(self.rows), (number,), generator=generator, device=self.rows.device)]


def joint_triplets(labels: Tensor, number: int, anchors: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw triplets for every task from one batch, by the labels that its images have under each.

    Args:
        labels: (T, B) int64 of the batch, -1 for not labelled.
        number: of triplets per task.
        anchors: see `TripletSampler`.
        generator: on the labels' device.

    Returns:
        (T, number, 3) int64 indices into the batch, and (T,) bool: whether the task has any triplet in this batch.
        The indices of a task that has none are zeros.
    """
    tasks, size = labels.shape
    labelled = labels >= 0
    same = (labels[:, :, None] == labels[:, None, :]) & labelled[:, :, None]
    other = labelled[:, :, None] & labelled[:, None, :] & ~same
    alone = torch.eye(size, dtype=torch.bool, device=labels.device)
    positives, negatives = same & ~alone, other
    able = positives.any(2) & negatives.any(2)
    if anchors == "positive":
        able = able & (labels == 1)
    # an anchor's weight is one over its label's images in the batch: labels evenly, then images evenly
    # (in float64: where rounding makes a cumulative sum rise beside an image of weight 0, that image could be drawn)
    weights = able.double() / same.sum(2).clamp_min(1)
    possible = able.any(1)
    anchor = _pick(weights, number, generator)
    rows = torch.arange(tasks, device=labels.device)[:, None].expand(tasks, number)
    positive = _pick(positives[rows, anchor].flatten(0, 1).float(), 1, generator).view(tasks, number)
    negative = _pick(negatives[rows, anchor].flatten(0, 1).float(), 1, generator).view(tasks, number)
    triplets = torch.stack([anchor, positive, negative], dim=2)
    return triplets * possible[:, None, None], possible


def joint_batch(source: Source, groups: Mapping[str, tuple[Tensor, Tensor]], generators: Generators) -> Batch:
    """Join what was drawn for each task, (n,) indices and (n, 3, H, W) images, and form every task's triplets in it."""
    order = sorted(source.tasks)  # so that the order of tasks plays no part
    images = torch.cat([groups[task][1] for task in order])
    labels = source.labels[:, torch.cat([groups[task][0] for task in order])]
    formed = [
        joint_triplets(labels[t : t + 1], source.joint_triplets, source.anchors, generators[task])
        for t, task in enumerate(source.tasks)
    ]
    triplets, possible = (torch.cat(parts) for parts in zip(*formed, strict=True))
    return Batch(images, labels, triplets, possible)


def _pick(weights: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draw columns by weight, with replacement: (R, C) -> (R, number). A row of zeros gives column 0 or any other."""
    totals = weights.cumsum(1)
    last = totals[:, -1:]
    draws = torch.rand(len(weights), number, generator=generator, device=weights.device, dtype=weights.dtype) * last
    draws = torch.minimum(draws, torch.nextafter(last, torch.zeros_like(last)))  # a product may round up to the total
    return torch.searchsorted(totals, draws, right=True).clamp_max(weights.shape[1] - 1)
