"""A small network for CPUs."""

from __future__ import annotations

from itertools import pairwise

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
        pool = nn.AvgPool2d((height - height // 2, width - width // 2), (max(height // 2, 1), max(width // 2, 1)))
        quarters = min(height, 2) * min(width, 2)
        return nn.Sequential(pool, nn.Flatten(), nn.Linear(quarters * channels, embedding_size))


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
