"""The subject of the items: an architecture, built as tiny networks and fed with made-up images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.registry import ARCHITECTURES
from mtlbench.specs import Method

TASKS = ("colour", "shape", "size")
BATCH, SIDE, EMBEDDING = 4, 24, 8


class Subject:
    """An architecture under examination: builds it in many ways, and holds one that has taken a few steps.

    Args:
        method: the method that the architecture belongs to.
        thorough: try many tasks and another backbone at the size of real runs; otherwise use a smaller size that
            reveals the same faults.
    """

    def __init__(self, method: Method, *, thorough: bool = True) -> None:
        self.method, self.thorough = method, thorough
        self.images = torch.randn(len(TASKS), BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    def build(
        self,
        tasks: Sequence[str] = TASKS,
        *,
        backbone: str = "small",
        size: tuple[int, int] = (SIDE, SIDE),
        seed: int = 3,
        random: int = 0,
    ) -> Architecture:
        """Build a new one; `random` seeds the global generator, which should make no difference."""
        factory = BackboneFactory(backbone, size, EMBEDDING, seed)
        torch.default_generator.manual_seed(random)
        cls = ARCHITECTURES.get(self.method.architecture).target
        net: Architecture = cls(factory, tuple(tasks), **self.method.architecture_options)
        return net

    @cached_property
    def trained(self) -> Architecture:
        """The architecture after a few steps, in evaluation mode: tasks differ, and no value is still at its start."""
        return train_a_little(self.build(), self.images)

    @cached_property
    def reached(self) -> list[dict[str, Tensor]]:
        """The nonzero gradients of each task's loss alone, by the name of the parameter.

        They are computed in evaluation mode: while training, the statistics of batch norm mix the tasks a little.
        """
        net, found = self.trained, []
        weights = noise(len(TASKS), BATCH, EMBEDDING)
        for t in range(len(TASKS)):
            net.zero_grad(set_to_none=True)
            (net(self.images) * weights)[t].sum().backward()
            gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None and p.grad.any()}
            found.append(gradients)
        net.zero_grad(set_to_none=True)
        return found


def noise(*shape: int, seed: int = 4) -> Tensor:
    """Return normal random numbers, the same on every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def train_a_little(net: Architecture, images: Tensor, steps: int = 3) -> Architecture:
    """Take a few steps with both ways of embedding and return the network in evaluation mode."""
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.05)
    net.train()
    target = noise(*net(images).shape, seed=2)
    for step in range(steps):
        optimiser.zero_grad(set_to_none=True)
        embeddings = net.embed(images[0]) if step == 1 else net(images)
        loss = (embeddings - target).square().sum()
        penalty = net.regulariser()
        (loss if penalty is None else loss + penalty.sum()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    net.forget()
    return net.eval()
