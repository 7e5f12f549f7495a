"""The item on speed: an architecture is timed against plain sharing, and fails only if it is absurdly slow."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.checks.architecture import devices
from mtlbench.checks.architecture.subject import TASKS, Subject, noise
from mtlbench.checks.items import Fault, Items
from mtlbench.cost import seconds_each
from mtlbench.registry import ARCHITECTURES

ABSURD = 100.0  # times as slow as a shared trunk
check = Items[Subject](devices.ITEMS)


class SharedTrunk(Architecture):
    """One trunk and an embedding layer per task: the plainest sharing, and the baseline for speed."""

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str]) -> None:
        super().__init__(backbones, tasks)
        self.trunk = nn.Sequential(*backbones.backbone().stages)
        self.heads = nn.ModuleList(backbones.head(task) for task in tasks)

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        features = self.trunk(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return torch.stack([head(group) for head, group in zip(self.heads, features, strict=True)])

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): the trunk runs once."""
        features = self.trunk(images)
        return torch.stack([head(features) for head in self.heads])


@check("speed beside a shared trunk", "it takes training steps")
def speed(subject: Subject) -> str:
    """Time both in the same process on the same images; fail only if the architecture is absurdly slow."""
    side = 48
    images = noise(12, 3, side, side, seed=6)
    factory = BackboneFactory("small", side, 64, 3)
    cls = ARCHITECTURES.get(subject.method.architecture).target
    nets: list[Architecture] = [
        SharedTrunk(factory, TASKS),
        cls(factory, TASKS, **subject.method.architecture_options),
    ]
    ratios = []
    gc.collect()
    for training in (True, False):
        times = []
        for net in nets:
            net.train(training)

            def step(net: Architecture = net, training: bool = training) -> None:
                net.zero_grad(set_to_none=True)
                with torch.set_grad_enabled(training):
                    embeddings = net.embed(images)
                if training:
                    embeddings.square().mean().backward()

            times.append(median(seconds_each(step, images.device, enough=0.1)))
        ratios.append(times[1] / times[0])
    words = f"training takes {ratios[0]:.1f} times as long, embedding under all tasks {ratios[1]:.1f} times"
    if max(ratios) > ABSURD:
        raise Fault(f"less than {ABSURD:.0f} times the time of a shared trunk", words, "no loop over images or pixels")
    return words


ITEMS: Items[Subject] = check
