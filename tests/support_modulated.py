"""Networks of one's own, for tests of `modulate`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtlbench import Modulated, modulate

TASKS = ("closure", "heel", "toe")


class Tiny(nn.Module):
    """A network of one's own: a module that is called twice, one that never is, one that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.relu = nn.ReLU()
        self.unused = nn.Conv2d(6, 6, 1)
        self.pair = Pair()
        self.mean = Mean()
        self.fc = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.conv2(self.relu(self.conv1(images))))
        self.mean(features)
        return self.fc(self.pair(features)[0].mean((2, 3)))


class Pair(nn.Module):
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features, features


class Mean(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean()


class ChannelsLast(nn.Module):
    """(B, 3, H, W) -> (B, H, W, 4) -> (B, 4), like the stages of a Swin; `only` is the one size of images it takes."""

    def __init__(self, only: int | None = None) -> None:
        super().__init__()
        self.linear, self.only = nn.Linear(3, 4), only

    def forward(self, images: Tensor) -> Tensor:
        assert self.only in (None, images.shape[-1])
        return self.linear(images.movedim(1, -1)).mean((1, 2))


def tiny(**options: object) -> Modulated:
    torch.manual_seed(2)
    return modulate(Tiny(), TASKS, ["conv1", "conv2", "fc"], example=torch.zeros(1, 3, 12, 12), **options).eval()


def spread(net: Modulated, seed: int = 5) -> Modulated:
    """Draw all vectors from -1 to 2, so that the ReLU closes some channels."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for vector in net.scales.values():
            vector.copy_(torch.rand(vector.shape, generator=generator) * 3 - 1)
    return net
