"""MTAN. Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention, CVPR 2019 (arXiv 1803.10704).

A shared network, and for each task an attention network beside it that picks features from every block. With p_j the
features of block j, of C_j channels, task t takes

    a_{t,j} = m_{t,j} * p_j
    m_{t,1} = h_{t,1}(g_{t,1}(u_1)),    m_{t,j} = h_{t,j}(g_{t,j}([u_j; f_{j-1}(a_{t,j-1})]))

* by element, [;] along channels. g is a 1 x 1 convolution to C_j channels with batch norm and ReLU, h one with batch
norm and sigmoid: the mask, from 0 to 1 for every channel and place, is the task's own. f_j is a 3 x 3 convolution with
batch norm and ReLU to the next block's channels, then max-pooling to its size; all tasks share it, as the paper has it
and its code does.

We follow the paper's network for image classification (a wide ResNet, the visual decathlon), which also ends in one
vector per image, in the form that its code has: a block is a stage and u_j = p_j is its output (in the paper's SegNet
u_j is the output of the block's first convolution, in its ResNet that of all but the last residual block); after the
last block f keeps channels and size, and the task's own embedding layer follows.

The authors train attention and network at one rate, and so does `rate=1`.

Deviations: f's batch norm sees the attended features of all tasks together, as every shared norm in mtlbench; in the
code each task passes alone, so that a batch's statistics are the task's own while the running ones are everyone's.
Convolutions before a batch norm have no bias, which the norm would take off. Max-pooling is fitted to stages that don't
halve the resolution exactly. The initial weights of convolutions are He's, uniform; the batch norms hide their scale.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, Range, register_architecture


def _conv(inputs: int, outputs: int, kernel: int, activation: nn.Module) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), activation)


def _pool(features: Tensor, size: Sequence[int]) -> Tensor:
    """Max-pool to a (height, width) no larger: windows of 2 x 2 where that is half."""
    strides = [before // after for before, after in zip(features.shape[2:], size, strict=True)]
    windows = [b - (a - 1) * s for b, a, s in zip(features.shape[2:], size, strides, strict=True)]
    return F.max_pool2d(features, windows, strides)


@register_architecture(
    "mtan", groups=("architectures",), cite="liu2019mtan", shares="one network; each task attends to its features"
)
class MTAN(Architecture):
    """A shared network whose every stage each task masks, by attention of its own.

    Storage: one trunk, one convolution after each stage, and per task two 1 x 1 convolutions a stage and an embedding
    layer.

    Args:
        rate: the attention networks' learning rate as a multiple of the shared network's.
    """

    search = {"rate": Range(0.1, 30, log=True)}

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str], *, rate: float = 1.0) -> None:
        super().__init__(backbones, tasks)
        self.rate = rate
        channels = backbones.channels
        self.trunk = backbones.backbone().stages
        with backbones.seeded():
            self.passing = nn.ModuleList(
                _conv(here, after, 3, nn.ReLU(inplace=True))
                for here, after in zip(channels, (*channels[1:], channels[-1]), strict=True)
            )
        self.attention = nn.ModuleList()
        for task in tasks:
            with backbones.seeded(task):
                self.attention.append(
                    nn.ModuleList(
                        nn.Sequential(
                            *_conv(size if n == 0 else 2 * size, size, 1, nn.ReLU(inplace=True)),
                            *_conv(size, size, 1, nn.Sigmoid()),
                        )
                        for n, size in enumerate(channels)
                    )
                )
        self.heads = nn.ModuleList(backbones.head(task) for task in tasks)

    def _trunk(self, images: Tensor) -> list[Tensor]:
        """Return the output of every stage."""
        outputs = [images]
        for stage in self.trunk:
            outputs.append(stage(outputs[-1]))
        return outputs[1:]

    def _attend(self, stages: Sequence[Tensor], tasks: Sequence[int]) -> Tensor:
        """Run the attention networks of `tasks` on the outputs of the shared network's stages.

        Each output's batch holds equal groups, one for each task: (len(tasks) * B, C, h, w) -> (len(tasks), B, D).
        """
        attention = [list(self.attention[t].children()) for t in tasks]
        seen = stages[0]
        for n, shared in enumerate(stages):
            groups = seen.chunk(len(tasks))
            masks = torch.cat([nets[n](group) for nets, group in zip(attention, groups, strict=True)])
            passed = self.passing[n](masks * shared)
            if n + 1 < len(stages):
                after = stages[n + 1]
                seen = torch.cat([after, _pool(passed, after.shape[2:])], dim=1)
        return torch.stack([self.heads[t](group) for t, group in zip(tasks, passed.chunk(len(tasks)), strict=True)])

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        return self._attend(self._trunk(images.flatten(0, 1)), range(len(self.tasks)))

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): the shared network runs once."""
        tasks = range(len(self.tasks))
        # cat keeps channels last where convolutions have put them
        return self._attend([torch.cat([x] * len(tasks)) for x in self._trunk(images)], tasks)

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): the shared network and one task's attention."""
        return self._attend(self._trunk(images), [task])[0]

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its attention network and its embedding layer."""
        return (self.attention[task], self.heads[task])

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The weights of the last convolution that passes attended features on."""
        last = [m for m in self.passing.modules() if isinstance(m, nn.Conv2d)][-1]
        return tuple(last.parameters())

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The attention networks' rate."""
        return {"attention.": self.rate}
