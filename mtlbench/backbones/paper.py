"""The network that Zhao et al. released with the modulation module."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from mtlbench.backbones.contract import BackboneKind, register_backbone

_CITE = """
@inproceedings{zhao2018modulation,
  author = {Zhao, Xiangyun and Li, Haoxiang and Shen, Xiaohui and Liang, Xiaodan and Wu, Ying},
  title = {A Modulation Module for Multi-task Learning with Applications in Image Retrieval},
  booktitle = {Proceedings of the European Conference on Computer Vision (ECCV)},
  year = {2018},
  eprint = {1807.06708},
  archivePrefix = {arXiv},
}
"""


@register_backbone("paper", cite=_CITE)
class Paper(BackboneKind):
    """The modulation paper's own network (3.0 M parameters at 150 px).

    Stages: blocks 1 to 4 (64, 128, 128, 128), the first with the stem (32 channels) before it: every stage ends where
    the resolution has halved. The paper modulates the outputs of the last two stages and the embedding.

    The released trunk has 2,953,664 parameters at 150 px with 256-d embeddings. That is exactly: no bias in any
    convolution nor in the FC, no batch-norm scale, one batch-norm bias a channel. Convolutions: 1,346,400 weights +
    1,376 batch-norm biases = 1,347,776. FC: 7*7*128*256 = 1,605,632 weights + 256 biases = 1,605,888. The 7 x 7 map
    needs pooling that rounds down.

    The batch norms hide the scale of the weights from the output, but not from training: a gradient is as much smaller
    as its weights are larger, and a step that is no larger turns them less.

    Args:
        start: `he`: He's uniform start, whose spread falls with a layer's inputs (a standard deviation of 0.27 in the
            stem, 0.018 in the FC at 150 px). `truncated`: the released code's start, in every layer a normal
            distribution of standard deviation 0.1 cut off at two of them, which leaves 0.088.
    """

    def __init__(self, *, start: Literal["he", "truncated"] = "he") -> None:
        self.start = start

    def stages(self, pretrained: bool) -> nn.ModuleList:
        """Return the four blocks."""
        blocks = [_Block(inputs, outputs) for inputs, outputs in pairwise((32, 64, 128, 128, 128))]
        stages = nn.ModuleList([nn.Sequential(_convolution(3, 32, padding=0), blocks[0]), *blocks[1:]])
        self._restart(stages)
        return stages

    def head(self, channels: int, feature_size: tuple[int, int], embedding_size: int) -> nn.Module:
        """Flatten, FC, batch norm, ReLU: the embedding is never negative."""
        fc = nn.Linear(channels * feature_size[0] * feature_size[1], embedding_size, bias=False)
        nn.init.kaiming_uniform_(fc.weight, nonlinearity="relu")
        norm = _without_scale(nn.BatchNorm1d(embedding_size, eps=1e-3, momentum=0.005))
        head = nn.Sequential(nn.Flatten(), fc, norm, nn.ReLU(inplace=True))
        self._restart(head)
        return head

    def _restart(self, part: nn.Module) -> None:
        """Redraw the weights where they don't start as they were built."""
        if self.start == "truncated":
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)  # TensorFlow cuts at two deviations


def _without_scale(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    """Fix a batch norm's scale at 1 and leave its bias to be learned."""
    del norm.weight
    # Ones rather than None: cuDNN's batch norm takes no missing scale.
    norm.register_buffer("weight", torch.ones_like(norm.bias, requires_grad=False), persistent=False)
    return norm


def _convolution(inputs: int, outputs: int, padding: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, _without_scale(nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.005)), nn.ReLU(inplace=True))


class _Block(nn.Module):
    """Valid convolution, max-pool 2, then two same convolutions added to the pooled map (no ReLU after the sum)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(_convolution(inputs, outputs, padding=0), nn.MaxPool2d(2))
        self.residual = nn.Sequential(_convolution(outputs, outputs, padding=1), _convolution(outputs, outputs, 1))

    def forward(self, features: Tensor) -> Tensor:
        pooled = self.reduce(features)
        summed: Tensor = pooled + self.residual(pooled)
        return summed
