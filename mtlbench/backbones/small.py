"""A small network for CPUs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.backbones.contract import BackboneKind, register_backbone
from mtlbench.errors import UserError


@register_backbone("small")
class Small(BackboneKind):
    """Our own small network for CPUs and images of 24 to 64 px.

    It is from no paper. A stem (32 channels) and three residual blocks (64, 128, 128), each halving the resolution by a
    strided convolution: on CPUs, maps at full resolution and max-pooling are what costs time. 573,600 parameters
    without the head.

    Args:
        width: a factor on the channels of every stage, which are rounded to whole numbers.

    Raises:
        UserError: the width isn't above 0.
    """

    def __init__(self, *, width: float = 1.0) -> None:
        if width <= 0:
            raise UserError(f"The backbone 'small' can't take width={width}: it must be above 0, such as 0.5.")
        self.width = width

    def stages(self, pretrained: bool) -> nn.ModuleList:
        """Return the stem and the three blocks."""
        stem, *blocks = (max(round(channels * self.width), 1) for channels in (32, 64, 128, 128))
        built = [_Block(inputs, outputs) for inputs, outputs in pairwise((stem, *blocks))]
        return nn.ModuleList([_convolution(3, stem, stride=2), *built])

    def head(self, channels: int, feature_size: tuple[int, int], embedding_size: int) -> nn.Module:
        """Return the mean of each quarter of the map, then one linear layer.

        A global mean forgets where on a face or shoe it was. The quarters are AdaptiveAvgPool2d(2)'s, which has no
        deterministic gradient on CUDA. They overlap at odd sizes.
        """
        height, width = feature_size
        pool = _Pool((height - height // 2, width - width // 2), (max(height // 2, 1), max(width // 2, 1)))
        quarters = min(height, 2) * min(width, 2)
        return nn.Sequential(pool, nn.Flatten(), nn.Linear(quarters * channels, embedding_size))


class _Pool(nn.AvgPool2d):
    """Average pooling whose gradient on CPUs is a product: torch's own takes three to seven times as long there."""

    def forward(self, features: Tensor) -> Tensor:
        if features.is_cpu and features.requires_grad and torch.is_grad_enabled():
            means: Tensor = _Means.apply(features, self.kernel_size, self.stride)
            return means
        return super().forward(features)


class _Means(torch.autograd.Function):
    """(B, C, h, w) -> means over rectangles, (B, C, h', w')."""

    @staticmethod
    def forward(features: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        return torch.nn.functional.avg_pool2d(features, size, stride)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        features, ctx.size, ctx.stride = inputs
        ctx.shape = features.shape[2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        height, width = ctx.shape
        rows, columns = (
            torch.tensor([[i * step <= at < i * step + size for i in range(number)] for at in range(whole)])
            for whole, size, step, number in zip(ctx.shape, ctx.size, ctx.stride, gradient.shape[2:], strict=True)
        )
        spread = torch.kron(rows, columns).to(gradient.dtype)  # (h w, h' w')
        shares = gradient.flatten(2).mT / (ctx.size[0] * ctx.size[1])
        back = (spread @ shares).unflatten(1, (height, width)).movedim(-1, 1)  # channels last
        return back, None, None


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _Block(nn.Module):
    """Convolution of stride 2, then one more, added to its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = _convolution(inputs, outputs, stride=2)
        self.residual = _convolution(outputs, outputs, stride=1)

    def forward(self, features: Tensor) -> Tensor:
        reduced = self.reduce(features)
        summed: Tensor = reduced + self.residual(reduced)
        return summed
