"""The contract of a sampler: what a training step sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from mtlbench.devices import sent, uniforms
from mtlbench.registry import SAMPLERS, register_class
from mtlbench.sampling.triplets import joint_triplets, set_triplets

C = TypeVar("C")
Generators = Mapping[str, torch.Generator]


@dataclass(frozen=True)
class Batch:
    """What one step is trained on.

    >>> import torch
    >>> from mtlbench import Batch
    >>> Batch(torch.zeros(5, 3, 24, 24), torch.zeros(2, 5).long()).joint
    True

    Attributes:
        images: (B, 3, H, W), which are embedded under every task; or (T, B, 3, H, W), group t under task t alone.
        labels: (T, B) int64, of image b under task t, or of image b of group t; -1 is unlabelled.
        triplets: (T, n, 3) int64, indices of anchor, positive and negative into the batch; None where a sampler forms
            none.
        possible: (T,) bool: whether the task has any triplet in this batch; the indices of one that has none are zeros.
    """

    images: Tensor
    labels: Tensor
    triplets: Tensor | None = None
    possible: Tensor | None = None

    @property
    def joint(self) -> bool:
        """Whether every image is embedded under every task."""
        return self.images.dim() == 4


@dataclass(frozen=True)
class Source:
    """Where a sampler draws from, and how much.

    >>> import torch
    >>> from mtlbench import Source
    >>> load = lambda index, generator: torch.rand(len(index), 3, 8, 8)
    >>> Source(torch.zeros(2, 50).long(), ("colour", "shape"), load, triplets=4).anchors
    'balanced'

    Attributes:
        labels: (T, N) int64 of all images, -1 where unlabelled or not an image of the training split.
        tasks: the T names.
        load: (n,) indices of training images and a generator -> (n, 3, H, W) images as networks see them, augmented. Of
            several generators in a sequence each decides over an equal part of the images, in order.
        triplets: how many are drawn per task and step, 3 images each.
        joint_triplets: how many are formed per task within a joint batch.
        anchors: `positive` or `balanced`, see `TripletSampler`.
        listed: (n, 3) triplets of each task that came with the data set; empty where there are none.
        members: for each task whose labels are sets (V, U) bool, which of U values are in each set, on the CPU; None
            for others. Empty where no task has sets.
        unlabelled: (n,) indices on the CPU of the training images that have no label under any task.
    """

    labels: Tensor
    tasks: tuple[str, ...]
    load: Callable[[Tensor, torch.Generator | Sequence[torch.Generator]], Tensor]
    triplets: int
    joint_triplets: int = 512
    anchors: str = "balanced"
    listed: Sequence[Tensor] = field(default=())
    members: Sequence[Tensor | None] = field(default=())
    unlabelled: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    @cached_property
    def labels_here(self) -> Tensor:
        """The labels (T, N) on the CPU, where samplers draw."""
        return self.labels.cpu()

    @cached_property
    def images(self) -> Tensor:
        """(n,) indices on the CPU of all training images, ascending."""
        labelled = torch.nonzero((self.labels_here >= 0).any(0)).flatten()
        return torch.cat([labelled, self.unlabelled]).sort()[0]

    def batch(self, index: Tensor, generators: Generators) -> Batch:
        """Return the batch of some images, embedded under every task, with triplets of each task formed among them.

        Args:
            index: (B,) indices of training images, on the CPU.
            generators: one for each task by name, on the CPU.
        """
        images = self.load(index, generators[min(self.tasks)])
        return _formed(self, images, index, [generators[task] for task in self.tasks])


def joint_batch(source: Source, index: Tensor, generators: Sequence[torch.Generator]) -> Batch:
    """Join what was drawn for each task and form every task's triplets in it.

    Args:
        source: of the images.
        index: (T, n) images that were drawn for each task, on the CPU.
        generators: of the tasks.
    """
    order = sorted(range(len(source.tasks)), key=lambda t: source.tasks[t])  # so that the order of tasks plays no part
    drawn = index[order].flatten()
    images = source.load(drawn, [generators[t] for t in order])
    return _formed(source, images, drawn, generators)


def _formed(source: Source, images: Tensor, index: Tensor, generators: Sequence[torch.Generator]) -> Batch:
    """Form every task's triplets in a batch of images that all tasks share.

    Args:
        source: of the images.
        images: (B, 3, H, W); index: (B,) which they are, on the CPU.
        generators: of the tasks.
    """
    held, draws = source.labels_here[:, index], uniforms(generators, 4, source.joint_triplets)
    triplets, possible = joint_triplets(held, draws, source.anchors)
    for t, members in enumerate(source.members):
        if members is not None:
            triplets[t], possible[t] = set_triplets(held[t], members, draws[t])
    held, triplets, able = sent([held, triplets, possible.long()], source.labels.device)
    return Batch(images, held, triplets, able.bool())


class Sampler(nn.Module, ABC):
    """Draws batches; every method gets the same ones under the same seed.

    A subclass takes the source and its own options as keyword-only arguments with types and defaults, which a benchmark
    sets as `train.sampling = "name[option=value]"`. All chance comes from the generators, one for each task, on the
    CPU: a seed draws the same batches on every device. Draw indices there; labels may lie on a GPU. What it remembers
    from step to step, such as a place in a shuffled order, lives in buffers on the CPU (`register_buffer`), so that a
    checkpoint holds it; a run refuses a sampler that keeps it elsewhere.

    >>> import torch
    >>> from mtlbench import Sampler, Source
    >>> class FirstImages(Sampler):
    ...     def draw(self, generators):
    ...         index = self.source.images[: self.images_per_step]
    ...         return self.source.batch(index, generators)
    >>> load = lambda index, generator: torch.rand(len(index), 3, 8, 8)
    >>> source = Source(torch.arange(50).expand(2, -1) % 5, ("a", "b"), load, triplets=4)
    >>> FirstImages(source).draw({"a": torch.Generator(), "b": torch.Generator()}).images.shape
    torch.Size([24, 3, 8, 8])

    Attributes:
        uses_listed: whether the sampler draws the triplets that came with a data set.
        takes_sets: whether the sampler knows labels that are sets, which are alike where they share a value.
    """

    uses_listed: ClassVar[bool] = False
    takes_sets: ClassVar[bool] = False

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source

    @property
    def images_per_step(self) -> int:
        """Images drawn at every step, the same for every method and sampler."""
        return 3 * self.source.triplets * len(self.source.tasks)

    @abstractmethod
    def draw(self, generators: Generators) -> Batch:
        """Draw a step's batch of training images, with `source.batch` or as a `Batch` of its own.

        Args:
            generators: one for each task by name, on the CPU.
        """


def register_sampler(name: str) -> Callable[[type[C]], type[C]]:
    """Class decorator: make a `Sampler` known as `name`, for a benchmark's `train.sampling`.

    >>> import torch
    >>> from mtlbench import Sampler, register_sampler
    >>> @register_sampler("any-images")
    ... class AnyImages(Sampler):
    ...     '''Images drawn evenly, whatever their labels.'''
    ...
    ...     def draw(self, generators):
    ...         images, generator = self.source.images, generators[self.source.tasks[0]]
    ...         drawn = torch.randint(len(images), (self.images_per_step,), generator=generator)
    ...         return self.source.batch(images[drawn], generators)

    Raises:
        UserError: no subclass of `Sampler`, abstract methods left, or the name is taken.
    """
    return register_class(SAMPLERS, Sampler, name)
