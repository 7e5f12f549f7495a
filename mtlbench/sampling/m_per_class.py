"""Class-balanced sampling of one batch for all tasks, which most losses beside the triplet loss are made for."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.sampling.contract import Batch, Generators, Sampler, Source, register_sampler
from mtlbench.sampling.triplets import joint_batch


@register_sampler("m-per-class")
class MPerClass(Sampler):
    """For each task, m images of each of several label values; all are embedded under every task.

    Every task draws its 3 n images: values evenly and without repetition while there are any left, then m different
    images of each value evenly (of a value with fewer, all of them and some twice). The last value may get fewer
    than m.

    Args:
        images: m, how many images of a value.
    """

    def __init__(self, source: Source, *, images: int = 4) -> None:
        super().__init__(source)
        if images < 2:
            raise UserError(f"m-per-class: images={images} must be at least 2, so that each image has a positive.")
        self.images = images
        self.values: list[list[Tensor]] = []
        for task, row in zip(source.tasks, source.labels, strict=True):
            labelled = torch.nonzero(row >= 0).flatten()
            members = [labelled[row[labelled] == value] for value in torch.unique(row[labelled])]
            self.values.append([m for m in members if len(m) >= 2])
            if not self.values[-1] or len(members) < 2:
                raise UserError(
                    f"m-per-class: the task '{task}' needs two training images of one label and one of another."
                )

    def draw(self, generators: Generators) -> Batch:
        """Draw 3 n T images, and triplets of each task by the labels that they have."""
        groups = {}
        for task, values in zip(self.source.tasks, self.values, strict=True):
            index = self._draw_task(values, generators[task])
            groups[task] = (index, self.source.load(index, generators[task]))
        return joint_batch(self.source, groups, generators)

    def _draw_task(self, values: list[Tensor], generator: torch.Generator) -> Tensor:
        wanted, device = 3 * self.source.triplets, self.source.labels.device
        drawn: list[Tensor] = []
        while (left := wanted - sum(map(len, drawn))) > 0:
            order = torch.randperm(len(values), generator=generator, device=device)
            for place in order[: -(-left // self.images)].tolist():
                drawn.append(self._different(values[place], generator))
        return torch.cat(drawn)[:wanted]

    def _different(self, members: Tensor, generator: torch.Generator) -> Tensor:
        """Draw m members evenly, all different as long as there are m."""
        count, device = len(members), members.device
        if count <= self.images:
            more = torch.randint(count, (self.images - count,), generator=generator, device=device)
            return torch.cat([members, members[more]])
        chosen: list[int] = []  # Floyd's algorithm: m draws, whatever the number of members
        top = torch.arange(count - self.images + 1, count + 1, device=device)
        draws = torch.rand(self.images, generator=generator, device=device, dtype=torch.float64) * top
        for last, place in zip(range(count - self.images, count), draws.long().tolist(), strict=True):
            chosen.append(last if place in chosen else place)
        return members[torch.tensor(chosen, device=device)]
