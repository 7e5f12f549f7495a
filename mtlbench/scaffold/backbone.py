"""My-method: a plain convolutional network of four stages.

<Authors: Title, Venue Year (arXiv number).>

<Say here what the network is. A backbone is a list of stages and a head: architectures share, copy or
modulate the stages one by one. This file runs unchanged.>
"""

from itertools import pairwise

from torch import nn

from mtlbench import BackboneKind, register_backbone


def _stage(channels_in: int, channels: int) -> nn.Sequential:
    """(B, channels_in, H, W) -> (B, channels, H/2, W/2)."""
    convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))


# The name is what users write: --set model.backbone=my-method.
@register_backbone("my-method")
class MyMethod(BackboneKind):
    """Four stages of one convolution each, then the mean over places and a linear layer.

    <The line above is what `mtlbench list backbones` shows.>

    Args:
        width: channels of the first stage; each further one has twice as many.
    """

    # Options are keyword-only arguments with a type and a default; users set one by
    # --set 'model.backbone=my-method[width=32]'.
    def __init__(self, *, width: int = 16) -> None:
        self.width = width

    # Draw weights with torch alone; mtlbench seeds them.
    def stages(self, pretrained: bool) -> nn.ModuleList:
        """Return fresh stages; each maps (B, C, H, W) to (B, C', H', W')."""
        channels = [3, *(self.width * 2**i for i in range(4))]
        return nn.ModuleList([_stage(a, b) for a, b in pairwise(channels)])

    # Leave this one out if yours is the default, as here.
    def head(self, channels: int, feature_size: tuple[int, int], embedding_size: int) -> nn.Module:
        """Return what makes (B, D) embeddings of the last stage's (B, channels, *feature_size)."""
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, embedding_size))
