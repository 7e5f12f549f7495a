"""Sampling for each task on its own, the modulation paper's way."""

from __future__ import annotations

import torch

from mtlbench.devices import sent
from mtlbench.sampling.contract import Batch, Generators, Sampler, Source, register_sampler
from mtlbench.sampling.mixed import triplets_of
from mtlbench.sampling.triplets import ListedTriplets


@register_sampler("per-task")
class PerTask(Sampler):
    """Triplets of images of its own for every task; those of the data set's lists, where it came with some."""

    uses_listed = True
    takes_sets = True

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.labels, device = source.labels_here, source.labels.device
        self.triplets = ListedTriplets(source.listed) if source.listed else triplets_of(source)
        legs = torch.arange(3 * source.triplets, device=device).view(3, -1).t()
        self.legs = legs.expand(len(source.tasks), -1, -1)
        self.possible = torch.ones(len(source.tasks), dtype=torch.bool, device=device)

    def draw(self, generators: Generators) -> Batch:
        """Draw (T, 3 n) images, the n anchors first, then positives, then negatives."""
        source = self.source
        by_task = [generators[task] for task in source.tasks]
        index = self.triplets.draw(source.triplets, by_task).flatten(1)
        images = source.load(index.flatten(), by_task).unflatten(0, index.shape)  # channels stay last in memory
        (labels,) = sent([self.labels.gather(1, index)], source.labels.device)
        return Batch(images, labels, self.legs, self.possible)
