"""My-method: batches of a few labels, with a few images of each.

<Authors: Title, Venue Year (arXiv number).>

<Say here what a batch is made of. This file runs unchanged: a task is drawn, then some of its label
values and `per_class` training images of each, with replacement. All images of the batch count for all
tasks: labels (T, B) say what each is under each task.>
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlbench import Batch, Sampler, Source, UserError, register_sampler


# The name is what a benchmark's `train.sampling` says, or --set train.sampling=my-method in a run.
@register_sampler("my-method")
class MyMethod(Sampler):
    """A few label values of one task, a few images of each; tasks alternate at random.

    <The line above is what `mtlbench list samplers` shows.>

    Args:
        per_class: images of a label value, 2 or more: a loss compares images of one label.
    """

    # Options are keyword-only arguments with a type and a default. `source` holds the training data:
    # .tasks, .labels_here (T, N) on the CPU with -1 where an image has none or isn't for training, .images
    # (n,) indices of the training images, and .load(index, generator) -> (B, 3, H, W) as networks see them.
    def __init__(self, source: Source, *, per_class: int = 2) -> None:
        super().__init__(source)
        if per_class < 2:
            raise UserError(f"my-method: per_class={per_class} must be 2 or more.")
        self.per_class = per_class
        # For each task, the training images of each label value that has two or more.
        self.images: list[list[Tensor]] = []
        for task, row in zip(source.tasks, source.labels_here, strict=True):
            values = [torch.nonzero(row == value).flatten() for value in row.unique().tolist() if value >= 0]
            self.images.append([images for images in values if len(images) > 1])
            if len(self.images[-1]) < 2:
                raise UserError(f"my-method: '{task}' needs two labels with two images each.")

    # The one required method. All randomness comes from the generators, one for each task, on the CPU:
    # an interrupted run continues from their states, and a seed draws the same on every device. What is
    # remembered from step to step lives in buffers of a fixed shape: self.register_buffer in __init__.
    def draw(self, generators: Mapping[str, torch.Generator]) -> Batch:
        """Draw a batch."""
        generator = generators[self.source.tasks[0]]

        def pick(number: int, how_many: int) -> Tensor:
            return torch.randint(number, (how_many,), generator=generator)

        # Every sampler draws as many images a step, so that runs can be compared. One that draws another
        # number says so: it overrides the property images_per_step.
        wanted = self.images_per_step
        values = self.images[int(pick(len(self.images), 1))]
        chosen = [values[int(v)] for v in pick(len(values), -(-wanted // self.per_class))]
        index = torch.cat([images[pick(len(images), self.per_class)] for images in chosen])[:wanted]
        # Loads the images, to be embedded under every task, and forms triplets of each task among them. For
        # groups of images that belong to one task alone return a `Batch` of your own.
        return self.source.batch(index, generators)
