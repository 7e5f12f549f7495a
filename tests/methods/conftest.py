"""What the tests of methods share: every registered architecture, small networks, images."""

from __future__ import annotations

import pytest
import torch

from mtlbench.backbones import BackboneFactory
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES

TASKS = ("colour", "shape", "size")
SIZE = 24


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for `method` once for each architecture; balancers change nothing of what it checks."""
    if "method" in metafunc.fixturenames:
        assert load_plugins() == []
        metafunc.parametrize("method", sorted(ARCHITECTURES))


@pytest.fixture
def backbones() -> BackboneFactory:
    """Small networks for 24 px images, 8-dimensional embeddings."""
    return BackboneFactory("small", SIZE, 8, seed=3)


@pytest.fixture
def images() -> torch.Tensor:
    """(T, B, 3, H, W) images, different for every task."""
    return torch.randn(len(TASKS), 4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
