"""Sampling for each task on its own, the modulation paper's way."""

from __future__ import annotations

import torch

from mtlbench.sampling.contract import Batch, Generators, Sampler, Source, register_sampler
from mtlbench.sampling.triplets import ListedTriplets, TripletSampler


@register_sampler("per-task")
class PerTask(Sampler):
    """Triplets of images of its own for every task; those of the data set's lists, where it came with some."""

    uses_listed = True

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.samplers: list[ListedTriplets | TripletSampler] = [ListedTriplets(rows) for rows in source.listed]
        self.samplers = self.samplers or [TripletSampler(row, source.anchors) for row in source.labels]

    def draw(self, generators: Generators) -> Batch:
        """Draw (T, 3 n) images, the n anchors first, then positives, then negatives."""
        source = self.source
        groups, drawn = [], []
        for task, sampler in zip(source.tasks, self.samplers, strict=True):
            index = sampler.draw(source.triplets, generators[task]).t().flatten()
            drawn.append(index)
            groups.append(source.load(index, generators[task]))
        images = torch.stack([group.movedim(1, -1) for group in groups]).movedim(-1, 2)  # channels stay last
        labels = torch.stack([row[index] for row, index in zip(source.labels, drawn, strict=True)])
        legs = torch.arange(3 * source.triplets, device=labels.device).view(3, -1).t()
        possible = torch.ones(len(source.tasks), dtype=torch.bool, device=labels.device)
        return Batch(images, labels, legs.expand(len(source.tasks), -1, -1), possible)
