"""Channel modulation. Zhao, Li, Shen, Liang, Wu: A Modulation Module for Multi-task Learning with Applications in
Image Retrieval, ECCV 2018 (arXiv 1807.06708).

One network for all tasks. After chosen layers l the channels are scaled by a vector of the task's own:

    x_l <- x_l * ReLU(v_{t,l}),    v_{t,l} in R^C, initialised to 1, broadcast over space

so that at the start all tasks see the one shared network, and each may learn to leave channels out. There is no
penalty on the vectors. By default, as in the authors' code, the last two stages and the embedding are modulated; on
the `paper` backbone these are the outputs of blocks 3 and 4 (128 channels each) and the embedding (256): 512 scales
per task.

Deviations: none known in the module. The paper's code scales the mean loss over the batch, so that a vector's gradient
is 1/T of its task's; here, as for every task's own parameters in mtlbench, it is the whole (see `Balancer`).
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, UserError, register_architecture


@register_architecture("modulation", groups=("core",))
class Modulation(Architecture):
    """One network whose channels each task scales by vectors of its own.

    Storage: one network and, per task, one number per modulated channel.

    Args:
        after: the layers to modulate, by number from 1: stages first, then the embedding. `modulation[after=3:4:5]`.
            Default: the last two stages and the embedding.
    """

    def __init__(
        self, backbones: BackboneFactory, tasks: Sequence[str], *, after: int | tuple[int, ...] | None = None
    ) -> None:
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()
        sizes = (*self.net.channels, backbones.embedding_size)
        chosen = tuple(range(len(sizes) - 2, len(sizes) + 1)) if after is None else after
        chosen = (chosen,) if isinstance(chosen, int) else tuple(sorted(set(chosen)))
        if not chosen or not all(isinstance(n, int) and 1 <= n <= len(sizes) for n in chosen):
            raise UserError(
                f"modulation: after={':'.join(map(str, chosen))} must name layers from 1 to {len(sizes)} of this"
                f" backbone (stages 1 to {len(sizes) - 1}; {len(sizes)} is the embedding)."
            )
        # one vector per task and layer, each a parameter of its own: what one task adds can be counted and saved alone
        self.scales = nn.ModuleDict(
            {str(n): nn.ParameterList([torch.ones(sizes[n - 1]) for _ in tasks]) for n in chosen}
        )
        self.first = min(chosen)

    def _modulate(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Scale features whose batch holds equal groups, one for each of `tasks`: (len(tasks) * B, C, ...)."""
        if str(layer) not in self.scales:
            return features
        vectors = list(self.scales[str(layer)].parameters())
        scale = F.relu(torch.stack([vectors[t] for t in tasks])).to(features.dtype)
        scale = scale.repeat_interleave(len(features) // len(tasks), dim=0)
        return features * scale.reshape(*scale.shape, *[1] * (features.dim() - 2))

    def _from(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Run what comes after the first `layer` stages: (len(tasks) * B, ...) -> (len(tasks) * B, D)."""
        features = self._modulate(layer, features, tasks)
        for n, stage in enumerate(self.net.stages, 1):
            if n > layer:
                features = self._modulate(n, stage(features), tasks)
        return self._modulate(len(self.net.stages) + 1, self.net.head(features), tasks)

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        tasks = range(len(self.tasks))
        embeddings: Tensor = self._from(0, images.flatten(0, 1), tasks).unflatten(0, images.shape[:2])
        return embeddings

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): all before the first modulated layer runs once."""
        tasks = range(len(self.tasks))
        if self.first > len(self.net.stages):  # the embedding alone: everything else runs once
            embeddings: Tensor = self.net(images)
            return torch.stack([self._modulate(self.first, embeddings, [t]) for t in tasks])
        features = images
        for stage in self.net.stages[: self.first]:
            features = stage(features)
        each = features.expand(len(tasks), *features.shape).flatten(0, 1)
        embeddings = self._from(self.first, each, tasks).unflatten(0, (len(tasks), len(images)))
        return embeddings

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): one pass of the network."""
        return self._from(0, images, [task])

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its vectors."""
        return tuple(list(vectors.parameters())[task] for vectors in self.scales.values())

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The embedding head's parameters."""
        return tuple(self.net.head.parameters())
