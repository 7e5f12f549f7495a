"""Channel mixing: modulation by a full matrix per task and layer. After Zhao, Li, Shen, Liang, Wu: A Modulation Module
for Multi-task Learning with Applications in Image Retrieval, ECCV 2018 (arXiv 1807.06708).

One network for all tasks. After chosen layers l each task mixes the channels by a matrix of its own:

    x_l <- M_{t,l} x_l,    M_{t,l} in R^{C x C}, initialised to the identity, the same at every place of the map

a 1 x 1 convolution without bias. The scales of `modulation[relu=false]` are the diagonal of such a matrix: this is the
general linear form, here to show what C scales give away against C^2 numbers. A matrix that starts at the identity is
also the series residual adapter x + A x of Rebuffi, Bilen, Vedaldi: Efficient Parametrization of Multi-domain Deep
Neural Networks, CVPR 2018 (arXiv 1803.10082), without its batch norm, A = M - 1 starting at 0.

The default layers are `modulation`'s: the last two stages and the embedding. After the embedding the matrix is a
Mahalanobis metric per task. Before a linear head W, that after the last stage makes W M_t, the task's own head.

Deviations: of the module as published, the full matrix itself and no ReLU on its entries, which would leave out what
most of the entries are for. No weight decay reaches the matrices, as none reaches `modulation`'s vectors.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, UserError, register_architecture

BIBTEX = """
@inproceedings{zhao2018modulation,
  author = {Zhao, Xiangyun and Li, Haoxiang and Shen, Xiaohui and Liang, Xiaodan and Wu, Ying},
  title = {A Modulation Module for Multi-task Learning with Applications in Image Retrieval},
  booktitle = {Proceedings of the European Conference on Computer Vision (ECCV)},
  year = {2018},
  eprint = {1807.06708},
  archivePrefix = {arXiv},
}
"""


@register_architecture(
    "channel-mixing", groups=("architectures",), cite=BIBTEX, shares="everything but matrices that mix channels"
)
class ChannelMixing(Architecture):
    """One network whose channels each task mixes by matrices of its own.

    Storage: one network and, per task, C x C numbers for each mixed layer of C channels.

    Args:
        after: the layers to mix, by number from 1: stages first, then the embedding. `channel-mixing[after=3:4:5]`.
            Default: the last two stages and the embedding.
    """

    def __init__(
        self, backbones: BackboneFactory, tasks: Sequence[str], *, after: int | tuple[int, ...] | None = None
    ) -> None:
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()
        sizes = (*self.net.channels, backbones.embedding_size)
        chosen = tuple(range(max(len(sizes) - 2, 1), len(sizes) + 1)) if after is None else after
        chosen = (chosen,) if isinstance(chosen, int) else tuple(sorted(set(chosen)))
        if not chosen or not all(1 <= n <= len(sizes) for n in chosen):
            raise UserError(
                f"channel-mixing: after={':'.join(map(str, chosen))} must name layers from 1 to {len(sizes)} of this"
                f" backbone (stages 1 to {len(sizes) - 1}; {len(sizes)} is the embedding)."
            )
        # one matrix per task and layer, each a parameter of its own: what one task adds can be counted and saved alone
        self.matrices = nn.ModuleDict(
            {str(n): nn.ParameterList([torch.eye(sizes[n - 1]) for _ in tasks]) for n in chosen}
        )
        self.first = min(chosen)

    def _mix(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Mix channels of features in equal groups, one for each of `tasks`: (len(tasks) * B, C, ...)."""
        if str(layer) not in self.matrices:
            return features
        matrices = list(self.matrices[str(layer)].parameters())
        stacked = torch.stack([matrices[t] for t in tasks]).to(features.dtype)
        groups = features.unflatten(0, (len(tasks), -1)).movedim(2, -1)  # channels last, as convolutions like it
        mixed: Tensor = (groups.flatten(1, -2) @ stacked.mT).unflatten(1, groups.shape[1:-1])
        return mixed.movedim(-1, 2).flatten(0, 1)

    def _from(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Run what comes after the first `layer` stages: (len(tasks) * B, ...) -> (len(tasks) * B, D)."""
        features = self._mix(layer, features, tasks)
        for n, stage in enumerate(self.net.stages, 1):
            if n > layer:
                features = self._mix(n, stage(features), tasks)
        return self._mix(len(self.net.stages) + 1, self.net.head(features), tasks)

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        tasks = range(len(self.tasks))
        embeddings: Tensor = self._from(0, images.flatten(0, 1), tasks).unflatten(0, images.shape[:2])
        return embeddings

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): all before the first mixed layer runs once."""
        tasks = range(len(self.tasks))
        if self.first > len(self.net.stages):  # the embedding alone: everything else runs once
            embeddings: Tensor = self.net(images)
            return torch.stack([self._mix(self.first, embeddings, [t]) for t in tasks])
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
        """Its matrices."""
        return tuple(list(matrices.parameters())[task] for matrices in self.matrices.values())

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The embedding head's parameters."""
        return tuple(self.net.head.parameters())
