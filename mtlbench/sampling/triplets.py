"""Triplets (anchor, positive, negative) drawn from integer labels, without Python per image.

Anchor and positive share the label, the negative differs, positive is not the anchor; unlabelled images never enter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench.devices import uniforms, whole
from mtlbench.errors import UserError
from mtlbench.sampling.sets import SetTriplets


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
        draws = torch.rand(4, number, generator=generator, device=self.images.device, dtype=torch.float64)
        if self.bounds is None:
            label = self.able[whole(draws[0], len(self.able))]
        else:
            label = self.able[torch.searchsorted(self.bounds, draws[0], right=True).clamp(max=len(self.able) - 1)]
        places = _places(draws[1:], self.starts[label], self.counts[label], len(self.images))
        return self.images[places].t()


class TaskTriplets:
    """Draws triplets of T tasks at once, each as a `TripletSampler` of its labels would.

    Args:
        labels: (T, N) int64, -1 for not labelled.
        anchors: see `TripletSampler`.

    Raises:
        UserError: no triplet can be drawn for some task.
    """

    def __init__(self, labels: Tensor, anchors: str = "balanced") -> None:
        tasks = [TripletSampler(row, anchors) for row in labels]

        def joined(parts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            """Return tasks' tables one after the other, with their beginnings and lengths, (T, 1) each."""
            lengths = torch.tensor([len(part) for part in parts])[:, None]
            return torch.cat(parts), lengths.cumsum(0) - lengths, lengths

        self.images, self.first_image, self.images_of = joined([task.images for task in tasks])
        self.counts, self.first_label, _ = joined([task.counts for task in tasks])
        self.starts, _, _ = joined([task.starts for task in tasks])
        self.able, self.first_able, self.able_of = joined([task.able for task in tasks])

    def draw(self, number: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Return (T, 3, number) int64 indices of anchors, positives and negatives, task t's by its own generator."""
        draws = uniforms(generators, 4, number).movedim(1, 0)
        label = self.first_label + self.able[self.first_able + whole(draws[0], self.able_of)]
        places = _places(draws[1:], self.starts[label], self.counts[label], self.images_of)
        return self.images[self.first_image + places].movedim(0, 1)


class ListedTriplets:
    """Draws triplets of T tasks, evenly and with replacement, from lists (n, 3) of anchor, positive and negative."""

    def __init__(self, lists: Sequence[Tensor]) -> None:
        self.lists = [rows.cpu() for rows in lists]

    def draw(self, number: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Return (T, 3, number) int64 columns of the lists, task t's by its own generator."""
        draws = uniforms(generators, number)
        return torch.stack([rows[whole(row, len(rows))].t() for rows, row in zip(self.lists, draws, strict=True)])


def _places(draws: Tensor, start: Tensor, count: Tensor, total: Tensor | int) -> Tensor:
    """Return anchor, positive and negative as places among a task's images in the order of their labels.

    Args:
        draws: (3, ...) float64 in [0, 1).
        start: (...) where the images of the anchor's label begin; count: (...) how many they are.
        total: how many images have a label; broadcasts.

    Returns:
        (3, ...) int64.
    """
    first = whole(draws[0], count)
    second = (first + 1 + whole(draws[1], count - 1)) % count
    other = whole(draws[2], total - count)
    other = other + torch.where(other >= start, count, 0)
    return torch.stack([start + first, start + second, other])


def joint_triplets(labels: Tensor, draws: Tensor, anchors: str) -> tuple[Tensor, Tensor]:
    """Form triplets for every task from one batch, by the labels that its images have under each.

    Args:
        labels: (T, B) int64 of the batch, -1 for not labelled.
        draws: (T, 4, n) float64 in [0, 1): all chance.
        anchors: see `TripletSampler`.

    Returns:
        (T, n, 3) int64 indices into the batch, and (T,) bool: whether the task has any triplet in this batch.
        The indices of a task that has none are zeros.
    """
    size = labels.shape[1]
    ranked, order = labels.sort(dim=1, stable=True)  # images by label, those without one first
    bare = (labels < 0).sum(1, keepdim=True)
    starts = torch.searchsorted(ranked, ranked)
    counts = torch.searchsorted(ranked, ranked, right=True) - starts
    able = (ranked >= 0) & (counts >= 2) & (counts < size - bare)
    if anchors == "positive":
        able = able & (ranked == 1)
    heads = (able & (starts == torch.arange(size, device=labels.device))).cumsum(1)  # labels that can anchor, counted
    possible = heads[:, -1] > 0
    nth = whole(draws[:, 0], heads[:, -1:]) + 1
    head = torch.searchsorted(heads, nth).clamp_max(size - 1)  # where the nth of them begins
    count = counts.gather(1, head)
    places = bare + _places(draws[:, 1:].movedim(1, 0), head - bare, count, size - bare)
    triplets = order.gather(1, places.clamp(0, size - 1).movedim(0, 1).flatten(1)).view(len(labels), 3, -1)
    return triplets.movedim(1, 2) * possible[:, None, None], possible


def set_triplets(labels: Tensor, members: Tensor, draws: Tensor) -> tuple[Tensor, bool]:
    """Form triplets of a task whose labels are sets from one batch: (n, 3), and whether there are any.

    Args:
        labels: (B,) int64 numbers of sets; members: (V, U) bool, the values in each.
        draws: (4, n) float64 in [0, 1): all chance.
    """
    try:
        return SetTriplets(labels, members).drawn(draws), True
    except UserError:
        return torch.zeros(draws.shape[1], 3, dtype=torch.int64), False
