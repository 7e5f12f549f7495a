"""Sampling of one batch for all tasks."""

from __future__ import annotations

import torch

from mtlbench.sampling.contract import Batch, Generators, Sampler, Source, register_sampler
from mtlbench.sampling.triplets import TripletSampler, joint_batch


@register_sampler("joint")
class Joint(Sampler):
    """Triplets drawn for each task; all their images are embedded under every task, triplets formed among them all."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.samplers = [TripletSampler(row, source.anchors) for row in source.labels]

    def draw(self, generators: Generators) -> Batch:
        """Draw 3 n T images, and triplets of each task by the labels that they have."""
        groups: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for task, sampler in zip(self.source.tasks, self.samplers, strict=True):
            index = sampler.draw(self.source.triplets, generators[task]).t().flatten()
            groups[task] = (index, self.source.load(index, generators[task]))
        return joint_batch(self.source, groups, generators)
