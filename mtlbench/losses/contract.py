"""The contract of a loss: a batch and its embeddings -> one loss per task."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbench import benchmark
from mtlbench.errors import UserError
from mtlbench.options import valid
from mtlbench.registry import LOSSES, register_class
from mtlbench.sampling.contract import Batch

C = TypeVar("C")


@dataclass(frozen=True)
class LossContext:
    """What a loss is built for.

    >>> from mtlbench import LossContext
    >>> LossContext(("colour", "shape"), values=(2, 3), embedding_size=8).normalise
    True

    Attributes:
        tasks: the T names.
        values: how many label values each task has.
        embedding_size: D.
        distance: `squared` or `plain` Euclidean.
        normalise: whether embeddings are compared at unit length.
        seed: of the run.
        sets: for each task whether its labels are sets; empty where none are.
    """

    tasks: tuple[str, ...]
    values: tuple[int, ...]
    embedding_size: int
    distance: str = "squared"
    normalise: bool = True
    seed: int = 0
    sets: tuple[bool, ...] = ()


class Loss(nn.Module, ABC):
    """One loss per task, from embeddings of a batch.

    A subclass takes the context and its own options as keyword-only arguments with types and defaults; a benchmark sets
    them beside the name in `[loss]`. Parameters that it owns, such as proxies, are trained by the run's optimiser
    without weight decay and kept when a run is interrupted; a deployed network doesn't have them. What it remembers
    from step to step lives in buffers, so that a checkpoint holds it.

    >>> import torch
    >>> from mtlbench import Batch, Loss, LossContext
    >>> class Spread(Loss):
    ...     def __init__(self, context, *, weight: float = 1.0):
    ...         super().__init__(context)
    ...         self.weight = weight
    ...
    ...     def forward(self, embeddings, batch):
    ...         return self.weight * self.points(embeddings).mean(1).square().sum(1)
    >>> loss = Spread(LossContext(("colour", "shape"), (2, 3), embedding_size=8))
    >>> loss(torch.randn(2, 5, 8), Batch(torch.randn(5, 3, 24, 24), torch.zeros(2, 5).long())).shape
    torch.Size([2])

    Attributes:
        takes_sets: whether the loss can do with labels that are sets, whose numbers alone don't say what is alike.
    """

    takes_sets: ClassVar[bool] = False

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        self.context = context

    @abstractmethod
    def forward(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """Return the tasks' losses.

        Args:
            embeddings: (T, B, D), unnormalised, with their graph; in the precision that the network runs in.
            batch: what they were computed from.

        Returns:
            (T,) float32; 0, with a graph, for a task that has nothing to learn from in this batch.
        """

    def points(self, embeddings: Tensor) -> Tensor:
        """Return embeddings as the protocol compares them: float32, of unit length where it says so."""
        points = embeddings.float()
        return F.normalize(points, dim=2) if self.context.normalise else points

    @contextmanager
    def seeded(self, task: str) -> Iterator[None]:
        """Make initial values that are drawn inside depend on the run's seed and the task alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(zlib.crc32(f"{self.context.seed}/{task}/loss".encode()))
            yield


def register_loss(name: str, *, cite: str = "") -> Callable[[type[C]], type[C]]:
    """Class decorator: make a `Loss` known as `name`, for a benchmark's `loss.name`.

    >>> from mtlbench import Loss, register_loss
    >>> @register_loss("short")
    ... class Short(Loss):
    ...     '''The mean squared length of embeddings.'''
    ...
    ...     def forward(self, embeddings, batch):
    ...         return embeddings.float().square().sum(2).mean(1)

    Raises:
        UserError: no subclass of `Loss`, abstract methods left, or the name is taken.
    """
    return register_class(LOSSES, Loss, name, cite=cite)


def resolved(section: benchmark.Loss) -> benchmark.Loss:
    """Return a benchmark's `[loss]` with all the loss's defaults filled in.

    Raises:
        UserError: no such loss, an option that it does not have, or a value of another type.
    """
    cls = LOSSES.get(section.name).target
    options = valid(LOSSES.kind, section.name, cls, section.options, "loss")
    return benchmark.Loss(name=section.name, **options)


def build_loss(section: benchmark.Loss, context: LossContext) -> Loss:
    """Build a benchmark's loss.

    Raises:
        UserError: see `resolved`.
    """
    cls = LOSSES.get(section.name).target
    odd = [task for task, of_sets in zip(context.tasks, context.sets, strict=False) if of_sets]
    if odd and not cls.takes_sets:
        raise UserError(
            f"The loss {section.name} needs one label per image, and those of '{odd[0]}' are sets: set loss.name ="
            " 'triplet', or data.multi_valued to another rule than 'set'."
        )
    loss: Loss = cls(context, **resolved(section).options)
    return loss
