"""Sampling of one batch for all tasks."""

from __future__ import annotations

from mtlbench.sampling.contract import Batch, Generators, Sampler, Source, joint_batch, register_sampler
from mtlbench.sampling.mixed import triplets_of


@register_sampler("joint")
class Joint(Sampler):
    """Triplets drawn for each task; all their images are embedded under every task, triplets formed among them all."""

    takes_sets = True

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.triplets = triplets_of(source)

    def draw(self, generators: Generators) -> Batch:
        """Draw 3 n T images, and triplets of each task by the labels that they have."""
        by_task = [generators[task] for task in self.source.tasks]
        index = self.triplets.draw(self.source.triplets, by_task).flatten(1)
        return joint_batch(self.source, index, by_task)
