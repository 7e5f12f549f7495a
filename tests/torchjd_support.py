"""What the tests of torchjd's balancers share: their names, architectures with known gradients, one backward."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench import Architecture, Balancer
from mtlbench.registry import BALANCERS

LOSSES = ("uw", "imtl-l", "dwa", "rlw", "geometric-mean", "stch", "famo")
WITH_MEMORY = ("gradvac", "nash-mtl", "sdmgrad", "modo", "excess-mtl", "cr-mogm")
GRADIENTS = (
    "mgda", "imtl-g", "pcgrad", "cagrad", "aligned-mtl", "config", "dualproj", "upgrad", "graddrop", "fairgrad",
    *WITH_MEMORY,
)  # fmt: skip
OWN_SCALE = {"cagrad", "nash-mtl", "fairgrad"}
WITHOUT_PLACE = ("sdmgrad", "modo", "excess-mtl")  # which take gradients at the shared parameters alone
PACKAGES = {"cagrad": ("cvxpy", "clarabel")}


def lacks(name: str) -> list[str]:
    return [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]


class Given(Architecture):
    """Shared numbers z = p and one number per task, all 1, with losses own_t (J z)_t: the gradients on z are J."""

    def __init__(self, gradients: Sequence[Sequence[float]] | Tensor, start: float = 1.0) -> None:
        nn.Module.__init__(self)
        self.gradients = torch.as_tensor(gradients, dtype=torch.float32)
        self.tasks = tuple(f"task {t}" for t in range(len(self.gradients)))
        self.p = nn.Parameter(torch.full((self.gradients.shape[1],), start))
        self.own = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in self.tasks])

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images)

    def embed(self, images: Tensor) -> Tensor:
        self.representation = self.p * 1.0
        return torch.stack(list(self.own)) * (self.gradients @ self.representation)

    def task_state(self, task: int) -> tuple[nn.Parameter]:
        return (self.own[task],)


def make(name: str, tasks: int = 2, **options: Any) -> Balancer:
    return BALANCERS.get(name).target([f"task {t}" for t in range(tasks)], **options)


def update(balancer: Balancer, gradients: Any, start: float = 1.0) -> tuple[Tensor, Tensor, Given]:
    """Return the shared update, the weights, and the architecture after one backward of losses with these gradients."""
    net = Given(gradients, start)
    balancer.check(net)
    weights = balancer.backward(net.embed(torch.empty(0)), net)
    assert net.p.grad is not None
    return net.p.grad, weights, net


def close(found: Tensor, expected: Any, **tolerance: float) -> None:
    torch.testing.assert_close(found, torch.as_tensor(np.asarray(expected), dtype=found.dtype), **tolerance)


class Losses(Architecture):
    """Losses set from outside: one parameter per task, and nothing else."""

    def __init__(self, values: Sequence[float]) -> None:
        nn.Module.__init__(self)
        self.tasks = tuple(f"task {t}" for t in range(len(values)))
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, images: Tensor) -> Tensor:
        return self.values * 1.0


def weights_at(balancer: Balancer, values: Sequence[float]) -> Tensor:
    net = Losses(values)
    weights = balancer.backward(net(torch.empty(0)), net)
    close(net.values.grad, weights / len(values))  # what is shared gets the mean of the weighted gradients
    return weights


def random_gradients(tasks: int, size: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(tasks, size, generator=torch.Generator().manual_seed(seed))
