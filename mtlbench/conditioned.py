"""The walk over the layers of one network that such methods share as change its features for each task.

What a task does to the features is the method's; so are its parameters.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.errors import UserError
from mtlbench.folded import Scaled
from mtlbench.learned import Learned


class Conditioned(Architecture):
    """An architecture of one network in which every task has its own way with the features after some layers.

    Layers are numbered from 1: the backbone's stages, then the embedding. A subclass says in `condition` what becomes
    of a layer's output, and in `task_state` what is a task's own. What comes before the first chosen layer runs once
    for all tasks in `embed`.

    >>> import torch
    >>> from torch import nn
    >>> from mtlbench import BackboneFactory, Conditioned
    >>> class OwnShift(Conditioned):
    ...     def __init__(self, backbones, tasks, *, after=None):
    ...         super().__init__(backbones, tasks, after, method="own-shift")
    ...         self.shifts = nn.ModuleDict(
    ...             {str(n): nn.ParameterList([torch.zeros(self.sizes[n - 1]) for _ in tasks]) for n in self.chosen}
    ...         )
    ...
    ...     def condition(self, layer, features, tasks):
    ...         shifts = torch.stack([self.shifts[str(layer)][t] for t in tasks])
    ...         shifts = shifts.repeat_interleave(len(features) // len(tasks), dim=0)
    ...         return features + shifts.reshape(*shifts.shape, *[1] * (features.dim() - 2))
    ...
    ...     def task_state(self, task):
    ...         return [shifts[task] for shifts in self.shifts.values()]
    >>> net = OwnShift(BackboneFactory("small", 24, 8), ["colour", "shape"], after=(4, 5))
    >>> net.embed(torch.randn(3, 3, 24, 24)).shape
    torch.Size([2, 3, 8])
    >>> sum(p.numel() for p in net.task_parameters(0))  # 128 channels of stage 4 and 8 of the embedding
    136

    Args:
        backbones: see `Architecture`.
        tasks: see `Architecture`.
        after: the chosen layers: a number, several, or a word: `all`, `stages` (all of them), `embedding` (alone).
            Default: the last two stages and the embedding, as in the modulation paper.
        method: what users call the method, for messages.

    Attributes:
        net: the backbone.
        sizes: channels of each layer, the embedding's last.
        chosen: the layers' numbers, in order.

    Raises:
        UserError: `after` names layers that aren't there, or none.
    """

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        after: int | tuple[int, ...] | str | None = None,
        *,
        method: str,
    ) -> None:
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()
        self.sizes = [*self.net.channels, backbones.embedding_size]
        self.chosen = _chosen(after, len(self.sizes), method)

    @abstractmethod
    def condition(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Change a chosen layer's output as the tasks have it.

        Args:
            layer: its number.
            features: (len(tasks) * B, C, h, w), or (len(tasks) * B, D) of the embedding: equal groups, one for each of
                `tasks`.
            tasks: their indices.

        Returns:
            the same shape.
        """

    def scales_and_shifts(self, layer: int, tasks: Sequence[int]) -> tuple[Tensor, Tensor | None] | None:
        """Return (len(tasks), C) scales, and shifts or None, where `condition` is x * scale + shift of a channel.

        Override it where that is so: the next stage's convolution then runs on all tasks' features together in `embed`
        where that is faster; see `folded`. Else None.
        """
        return None

    def stage(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Run stage `layer` on equal groups, and then what the tasks do; override it to do something within."""
        return self._condition(layer, self.net.stages[layer - 1](features), tasks)

    def vectors_learned(
        self, name: str, meaning: str, neutral: float, tensors: str = "", row: int | None = None
    ) -> list[Learned]:
        """Return what `learned` says of vectors of channels that every task has after every chosen layer.

        Args:
            name, meaning, neutral, row: see `Learned`.
            tensors: the attribute that holds them, by layer and task; `name` by default.
        """
        return [
            Learned(
                name,
                f"layer {layer}",
                tuple(f"{tensors or name}.{layer}.{t}" for t in range(len(self.tasks))),
                ("task", "channel"),
                meaning,
                neutral,
                row,
            )
            for layer in self.chosen
        ]

    @property
    def stages_for_all(self) -> int:
        """How many stages run the same for all tasks; override it where `stage` does something within."""
        return min(self.chosen[0], len(self.net.stages))

    def _condition(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        return self.condition(layer, features, tasks) if layer in self.chosen else features

    def _from(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Run what comes after the first `layer` stages: (len(tasks) * B, ...) -> (len(tasks) * B, D)."""
        return self._after(layer, self._condition(layer, features, tasks), tasks)

    def _after(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        for n in range(layer + 1, len(self.net.stages) + 1):
            features = self.stage(n, features, tasks)
        return self._condition(len(self.sizes), self.net.head(features), tasks)

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        tasks = range(len(self.tasks))
        embeddings: Tensor = self._from(0, images.flatten(0, 1), tasks).unflatten(0, images.shape[:2])
        return embeddings

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): what all tasks have in common runs once."""
        tasks = range(len(self.tasks))
        if self.chosen[0] == len(self.sizes):  # the embedding alone
            embeddings: Tensor = self.net(images)
            return torch.stack([self.condition(len(self.sizes), embeddings, [t]) for t in tasks])
        features = images
        for stage in self.net.stages[: self.stages_for_all]:
            features = stage(features)
        begun = self.stages_for_all
        vectors = None
        if begun in self.chosen and begun < len(self.net.stages) and not torch.compiler.is_compiling():
            vectors = self.scales_and_shifts(begun, tasks)  # a graph that is traced has no place for what is lazy
        if vectors is not None:
            changed: Tensor = self.stage(begun + 1, Scaled.of(features, *vectors), tasks)
            embeddings = self._after(begun + 1, changed, tasks)
        else:
            each = features.expand(len(tasks), *features.shape).flatten(0, 1)
            embeddings = self._from(begun, each, tasks)
        by_task: Tensor = embeddings.unflatten(0, (len(tasks), len(images)))
        return by_task

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): one pass of the network."""
        return self._from(0, images, [task])

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The embedding head's parameters."""
        return tuple(self.net.head.parameters())


def _chosen(after: int | tuple[int, ...] | str | None, layers: int, method: str) -> tuple[int, ...]:
    """Return the layers that `after` names, in order; the last of all is the embedding."""
    words = {
        "all": tuple(range(1, layers + 1)),
        "stages": tuple(range(1, layers)),
        "embedding": (layers,),
    }
    if after is None:
        return tuple(range(max(layers - 2, 1), layers + 1))
    if isinstance(after, str):
        chosen = words.get(after, ())
    else:
        chosen = (after,) if isinstance(after, int) else tuple(sorted(set(after)))
    if not chosen or not all(1 <= n <= layers for n in chosen):
        written = ":".join(map(str, after)) if isinstance(after, tuple) else after
        raise UserError(
            f"{method}: after={written} must name layers from 1 to {layers} of this backbone (stages 1 to"
            f" {layers - 1}; {layers} is the embedding), or be one of {', '.join(words)}."
        )
    return chosen
