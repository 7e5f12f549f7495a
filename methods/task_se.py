"""Task-specific squeeze-and-excitation. Maninis, Radosavovic, Kokkinos: Attentive Single-Tasking of Multiple Tasks,
CVPR 2019 (arXiv 1904.08918), with the module of Hu, Shen, Sun: Squeeze-and-Excitation Networks, CVPR 2018
(arXiv 1709.01507).

One network for all tasks. After chosen stages l each task scales the channels by gates that a small network of its own
computes from the image:

    x_l <- x_l * sigmoid(W2_{t,l} ReLU(W1_{t,l} z + b1_{t,l}) + b2_{t,l}),    z = mean of x_l over space

with W1 of C/r x C and W2 of C x C/r. So the task's scales, unlike `modulation`'s, differ from image to image. We follow
Maninis et al.: a module per task, where Hu et al. have one for all; from the authors' code come r = 16 and the start,
He's normal initialisation with biases of 0. Gates lie between 0 and 1; the tasks' differ from the start.

Deviations: of the paper, its task attention by SE modules alone: no residual adapters, no adversarial discriminator of
gradients, no batch norms per task. Its modules stand in every residual block, before the addition; here one follows a
stage, by default every stage but the first, which in a ResNet is the stem and has none in the paper either. The hidden
layer has at least 8 units: a sixteenth of 32 channels would be 2, which a ReLU can leave dead from the start. The
authors start all tasks' modules from one SE network trained on ImageNet; here each starts anew.

By default modules learn at the network's rate.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, Range, UserError, register_architecture

_LEAST_UNITS = 8


@register_architecture(
    "task-se",
    groups=("architectures",),
    cite="maninis2019attentive",
    shares="everything but squeeze-and-excitation modules",
)
class TaskSE(Architecture):
    """One network whose channels each task gates by squeeze-and-excitation modules of its own.

    Storage: one network and, per task, about 2 C^2 / reduction numbers for each gated stage of C channels.

    Args:
        after: the stages to gate, by number from 1. `task-se[after=3:4]`. Default: every stage but the first.
        reduction: channels per unit of a module's hidden layer, which has at least 8 units.
        rate: the modules' learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.1, 30, log=True)}

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        after: int | tuple[int, ...] | None = None,
        reduction: int = 16,
        rate: float = 1.0,
    ) -> None:
        super().__init__(backbones, tasks)
        self.rate = rate
        self.net = backbones.backbone()
        channels = self.net.channels
        chosen = tuple(range(min(2, len(channels)), len(channels) + 1)) if after is None else after
        chosen = (chosen,) if isinstance(chosen, int) else tuple(sorted(set(chosen)))
        if not chosen or not all(1 <= n <= len(channels) for n in chosen):
            raise UserError(
                f"task-se: after={':'.join(map(str, chosen))} must name stages from 1 to {len(channels)} of this"
                f" backbone; the embedding has no space to squeeze."
            )
        if reduction < 1:
            raise UserError(f"task-se: reduction={reduction} must be at least 1.")
        self.gates = nn.ModuleList()
        for task in tasks:
            with backbones.seeded(task):
                self.gates.append(nn.ModuleDict({str(n): _excitation(channels[n - 1], reduction) for n in chosen}))
        self.chosen = chosen

    def _gate(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Gate features whose batch holds equal groups, one for each of `tasks`: (len(tasks) * B, C, H, W)."""
        if layer not in self.chosen:
            return features
        squeezed = features.mean((2, 3)).unflatten(0, (len(tasks), -1))
        modules = [self.gates[t].get_submodule(str(layer)) for t in tasks]
        scale = torch.cat([module(group) for module, group in zip(modules, squeezed, strict=True)])
        return features * scale.to(features.dtype)[:, :, None, None]

    def _from(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Run what comes after the first `layer` stages: (len(tasks) * B, ...) -> (len(tasks) * B, D)."""
        features = self._gate(layer, features, tasks)
        for n, stage in enumerate(self.net.stages, 1):
            if n > layer:
                features = self._gate(n, stage(features), tasks)
        embeddings: Tensor = self.net.head(features)
        return embeddings

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        tasks = range(len(self.tasks))
        embeddings: Tensor = self._from(0, images.flatten(0, 1), tasks).unflatten(0, images.shape[:2])
        return embeddings

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): all before the first gated stage's module runs once."""
        tasks, first = range(len(self.tasks)), min(self.chosen)
        features = images
        for stage in self.net.stages[:first]:
            features = stage(features)
        each = features.expand(len(tasks), *features.shape).flatten(0, 1)
        embeddings: Tensor = self._from(first, each, tasks).unflatten(0, (len(tasks), len(images)))
        return embeddings

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): one pass of the network with the task's modules."""
        return self._from(0, images, [task])

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its modules."""
        return (self.gates[task],)

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The modules' rate."""
        return {"gates.": self.rate}

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The embedding head's parameters."""
        return tuple(self.net.head.parameters())


def _excitation(channels: int, reduction: int) -> nn.Sequential:
    """(B, C) means of the channels -> (B, C) gates from 0 to 1."""
    units = max(channels // reduction, _LEAST_UNITS)
    layers = (nn.Linear(channels, units), nn.Linear(units, channels))
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(inplace=True), layers[1], nn.Sigmoid())
