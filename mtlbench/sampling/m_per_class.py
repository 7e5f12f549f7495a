"""Class-balanced sampling of one batch for all tasks, which most losses beside the triplet loss are made for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench.devices import uniforms, whole
from mtlbench.errors import UserError
from mtlbench.sampling.contract import Batch, Generators, Sampler, Source, joint_batch, register_sampler


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
        members: list[Tensor] = []  # of each value, one task after the other
        self.values: list[int] = []  # how many each task has
        for task, row in zip(source.tasks, source.labels_here, strict=True):
            labelled = torch.nonzero(row >= 0).flatten()
            groups = [labelled[row[labelled] == value] for value in torch.unique(row[labelled])]
            usable = [group for group in groups if len(group) >= 2]
            if not usable or len(groups) < 2:
                raise UserError(
                    f"m-per-class: the task '{task}' needs two training images of one label and one of another."
                )
            members += usable
            self.values.append(len(usable))
        self.counts = torch.tensor([len(group) for group in members])
        self.starts = self.counts.cumsum(0) - self.counts
        self.members = torch.cat(members)

    def draw(self, generators: Generators) -> Batch:
        """Draw 3 n T images, and triplets of each task by the labels that they have."""
        by_task = [generators[task] for task in self.source.tasks]
        wanted, first, chosen = 3 * self.source.triplets, 0, []
        groups = -(-wanted // self.images)
        for number, generator in zip(self.values, by_task, strict=True):
            times = -(-groups // number)
            order = torch.rand(times, number, generator=generator, dtype=torch.float64).argsort(1)
            chosen.append(first + order.flatten()[:groups])
            first += number
        value = torch.stack(chosen)
        draws = uniforms(by_task, self.images, groups).unbind(1)
        index = self.members[self.starts[value] + self._different(self.counts[value], draws)]
        return joint_batch(self.source, index.movedim(0, 2).flatten(1)[:, :wanted], by_task)

    def _different(self, count: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """Return (m, ...) numbers below `count`, drawn evenly, all different as long as there are m."""
        taken: list[Tensor] = []
        for number, draw in enumerate(draws):
            place = whole(draw, (count - number).clamp_min(1))  # among those that are left: every order is as likely
            for other in torch.stack(taken).sort(dim=0)[0] if taken else ():
                place = place + (place >= other).long()
            taken.append(torch.where(count > number, place, whole(draw, count)))  # all were taken: some twice
        return torch.stack(taken)
