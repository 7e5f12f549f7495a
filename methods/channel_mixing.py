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

By default the matrices learn at the network's rate, as `modulation`'s vectors do in its paper; see there for what a
short run makes of that.

Deviations: of the module as published, the full matrix itself and no ReLU on its entries, which would leave out what
most of the entries are for. No weight decay reaches the matrices, as none reaches `modulation`'s vectors.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlbench import BackboneFactory, Conditioned, Range, register_architecture


@register_architecture(
    "channel-mixing",
    groups=("architectures",),
    cite="zhao2018modulation",
    shares="everything but matrices that mix channels",
)
class ChannelMixing(Conditioned):
    """One network whose channels each task mixes by matrices of its own.

    Storage: one network and, per task, C x C numbers for each mixed layer of C channels.

    Args:
        after: the layers to mix, by number from 1: stages first, then the embedding. `channel-mixing[after=3:4:5]`.
            Or a word: `all`, `stages` (all of them) or `embedding` (alone). Default: the last two stages and the
            embedding.
        rate: the matrices' learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.03, 30, log=True)}

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        after: int | tuple[int, ...] | str | None = None,
        rate: float = 1.0,
    ) -> None:
        super().__init__(backbones, tasks, after, method="channel-mixing")
        self.rate = rate
        # one matrix per task and layer, each a parameter of its own: what one task adds can be counted and saved alone
        self.matrices = nn.ModuleDict(
            {str(n): nn.ParameterList([torch.eye(self.sizes[n - 1]) for _ in tasks]) for n in self.chosen}
        )

    def condition(self, layer: int, features: Tensor, tasks: Sequence[int]) -> Tensor:
        """Mix channels of features in equal groups, one for each of `tasks`: (len(tasks) * B, C, ...)."""
        matrices = list(self.matrices[str(layer)].parameters())
        stacked = torch.stack([matrices[t] for t in tasks]).to(features.dtype)
        groups = features.unflatten(0, (len(tasks), -1)).movedim(2, -1)  # channels last, as convolutions like it
        mixed: Tensor = (groups.flatten(1, -2) @ stacked.mT).unflatten(1, groups.shape[1:-1])
        return mixed.movedim(-1, 2).flatten(0, 1)

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its matrices."""
        return tuple(list(matrices.parameters())[task] for matrices in self.matrices.values())

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The matrices' rate."""
        return {"matrices.": self.rate}
