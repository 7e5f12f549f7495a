"""The contract of an architecture: how T tasks share the parameters of one or more backbones.

Losses, optimisers, data and evaluation are elsewhere; an architecture sees images and returns embeddings.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from mtlbench.backbones import BackboneFactory
from mtlbench.learned import Learned
from mtlbench.recipes import Space
from mtlbench.registry import ARCHITECTURES, register_class

C = TypeVar("C")


class Architecture(nn.Module, ABC):
    """How T tasks share parameters. The leading axis is the task, always.

    A subclass takes `(backbones, tasks)` and its own options as keyword-only arguments with defaults, which users set
    as `name[option=value]`. It is never told the data set. What it remembers from step to step, a plain counter too,
    lives in buffers and parameters, so that a checkpoint holds it.

    Embeddings leave unnormalised: the benchmark's protocol decides on that.

    >>> import torch
    >>> from torch import nn
    >>> from mtlbench import Architecture, BackboneFactory
    >>> class OwnHeads(Architecture):
    ...     def __init__(self, backbones, tasks, *, dropout=0.1):
    ...         super().__init__(backbones, tasks)
    ...         self.trunk = nn.Sequential(*backbones.backbone().stages, nn.Dropout(dropout))
    ...         self.heads = nn.ModuleList(backbones.head(task) for task in tasks)
    ...
    ...     def forward(self, images):
    ...         return torch.stack([head(self.trunk(group)) for head, group in zip(self.heads, images)])
    ...
    ...     def task_state(self, task):
    ...         return [self.heads[task]]
    >>> net = OwnHeads(BackboneFactory("small", image_size=24, embedding_size=8), ["colour", "shape"]).eval()
    >>> net.embed(torch.randn(5, 3, 24, 24)).shape
    torch.Size([2, 5, 8])
    >>> sum(p.numel() for p in net.task_parameters(0)), sum(p.numel() for p in net.shared_parameters())
    (4104, 573600)

    Args:
        backbones: builds backbones and embedding heads whose initial weights depend on the run's seed and their owner
            alone, so that a network for one task starts the same whichever other tasks there are.
        tasks: the T task names, in the order of the leading axis.

    Attributes:
        search: where `mtlbench tune` looks for the values of options: a `Range`, or a tuple of values.
        mixes_tasks: whether one task's embedding is made of other tasks' parts too, as where columns exchange features.
            Then other tasks' losses reach a task's own parameters, and where it starts depends on which other tasks
            there are; elsewhere neither may be so. Images never mix: that holds for every architecture.
        representation: the latest features that all tasks share, one tensor whose leading axis is the batch, where
            `embed` has such a place between what is shared and what is the tasks' own; else None. Set it in `embed`
            alone, in training: balancers can take the tasks' gradients there instead of at all shared parameters.
        views: the representation as the tasks take it, (T, B, ...), where `branch_off` has made them; else None.
    """

    search: ClassVar[Space] = {}
    mixes_tasks: bool = False
    representation: Tensor | None = None
    views: Tensor | None = None

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Embed group t of the images under task t: (T, B, 3, H, W) -> (T, B, D)."""

    def embed(self, images: Tensor) -> Tensor:
        """Embed every image under every task: (B, 3, H, W) -> (T, B, D).

        Override it where work can be shared between tasks; it must agree with `forward`.
        """
        embeddings: Tensor = self(images.expand(len(self.tasks), *images.shape))
        return embeddings

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """Embed images under one task, what a deployed query pays: (B, 3, H, W) -> (B, D).

        Override it where one task needs less than all; it must agree with `embed`.
        """
        return self.embed(images)[task]

    def branch_off(self, features: Tensor) -> Tensor:
        """Return shared features as every task takes them, (B, ...) -> (T, B, ...) without a copy; for `embed` alone.

        In training they become the `representation`. Let row t reach task t's embedding alone: then one pass finds all
        tasks' gradients there, where it would take one for each.
        """
        views = features.expand(len(self.tasks), *features.shape)
        self.representation, self.views = (features, views) if self.training else (None, None)
        return views

    def forget(self) -> None:
        """Drop what the latest pass left for the balancer; with it goes the step's graph."""
        self.representation = self.views = None

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Return the modules and parameters that exist for this task alone. Everything else counts as shared."""
        return ()

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """Return the parameters of the last layer that all tasks share; empty when they share none."""
        return ()

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """Return multiples of the learning rate, by the beginning of a parameter's name (`units.` -> 100).

        Parameters of a method's own kind, such as vectors that start at 1, may need a rate other than a network's
        weights do: give them an option `rate`, and return it here. A multiple of 1 changes nothing;
        one that is not above 0 is refused.

        Args:
            adaptive: the optimiser steps by about its learning rate whatever the size of a gradient (Adam, Adagrad), so
                that a multiple meant for gradient descent would be as large a step.
        """
        return {}

    def learned(self) -> Sequence[Learned]:
        """Return what of the checkpoint says how tasks share, for the figures that reports draw of it."""
        return ()

    def regulariser(self) -> Tensor | None:
        """Return a penalty per task, (T,), on the latest forward pass, or None; it is added to the tasks' losses."""
        return None

    def task_parameters(self, task: int) -> list[nn.Parameter]:
        """Return the parameters that only this task has."""
        found: list[nn.Parameter] = []
        for part in self.task_state(task):
            found += [part] if isinstance(part, nn.Parameter) else list(part.parameters())
        return found

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that no single task owns; frozen stages of several tasks' networks are among them."""
        owners: Counter[int] = Counter()
        for task in range(len(self.tasks)):
            owners.update({id(p) for p in self.task_parameters(task)})
        return [p for p in self.parameters() if owners[id(p)] != 1]


def copied(architecture: Architecture) -> Architecture:
    """Return a copy; tensors kept of the latest pass are cut off from its graph, which can't be copied."""
    memo: dict[int, Any] = {}

    def cut(value: object) -> None:
        if isinstance(value, Tensor) and not value.is_leaf:
            memo[id(value)] = value.detach()
        elif isinstance(value, (list, tuple, dict)):
            for inner in value.values() if isinstance(value, dict) else value:
                cut(inner)

    for module in architecture.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_modules"):
                cut(value)
    return copy.deepcopy(architecture, memo)


def register_architecture(
    name: str, *, groups: Sequence[str] = (), cite: str = "", shares: str = ""
) -> Callable[[type[C]], type[C]]:
    """Class decorator: make an `Architecture` known as `name`; with the plain mean of losses it is a method too.

    >>> from mtlbench import Architecture, register_architecture
    >>> @register_architecture("one-for-all", groups=("mine",), shares="everything")
    ... class OneForAll(Architecture):
    ...     '''One network, which knows of no task.'''
    ...
    ...     def __init__(self, backbones, tasks):
    ...         super().__init__(backbones, tasks)
    ...         self.net = backbones.backbone()
    ...
    ...     def forward(self, images):
    ...         return self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    In a file, `mtlbench run --methods mine --plugins that_file.py` finds it.

    Args:
        name: what users call it.
        groups: by which `--methods` finds it beside others.
        cite: its source: a BibTeX entry, or a key of methods/references.bib; lists take authors and year from it.
        shares: what the tasks share, in a few words.

    Raises:
        UserError: no subclass of `Architecture`, abstract methods left, or the name is taken.
    """
    return register_class(ARCHITECTURES, Architecture, name, groups=groups, cite=cite, shares=shares)
