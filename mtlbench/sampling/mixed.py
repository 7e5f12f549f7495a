"""Triplets of several tasks, of which some have one value an image for a label and others a set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench.sampling.contract import Source
from mtlbench.sampling.sets import SetTriplets
from mtlbench.sampling.triplets import TaskTriplets


class MixedTriplets:
    """Draws triplets of T tasks of which some have sets for labels; of the others as `TaskTriplets` does."""

    def __init__(self, labels: Tensor, anchors: str, members: Sequence[Tensor | None]) -> None:
        self.plain = [t for t, of_task in enumerate(members) if of_task is None]
        self.joint = TaskTriplets(labels[self.plain], anchors) if self.plain else None
        self.sets = {t: SetTriplets(labels[t], m) for t, m in enumerate(members) if m is not None}

    def draw(self, number: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Return (T, 3, number) int64 indices of anchors, positives and negatives, task t's by its own generator."""
        found = {t: sampler.draw(number, generators[t]).t() for t, sampler in self.sets.items()}
        if self.joint is not None:
            found |= dict(zip(self.plain, self.joint.draw(number, [generators[t] for t in self.plain]), strict=True))
        return torch.stack([found[t] for t in range(len(generators))])


def triplets_of(source: Source) -> TaskTriplets | MixedTriplets:
    """Return what draws the triplets of a source's tasks."""
    labels = source.labels_here
    if any(members is not None for members in source.members):
        return MixedTriplets(labels, source.anchors, source.members)
    return TaskTriplets(labels, source.anchors)
