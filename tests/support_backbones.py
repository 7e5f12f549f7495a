"""What tests of backbones share: networks without memory, images, and comparisons of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.backbones import Backbone, BackboneFactory


def on_meta(name: str, size: tuple[int, int] | int, embedding_size: int = 64, **options: Any) -> Backbone:
    with torch.device("meta"):
        return BackboneFactory(name, size, embedding_size, **options).backbone()


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def images(size: tuple[int, int], batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def same(left: nn.Module, right: nn.Module) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def shake_batch_norms(net: nn.Module) -> None:
    """Move the running statistics off their initial 0 and 1, so that a test notices when one is not used."""
    generator = torch.Generator().manual_seed(1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
