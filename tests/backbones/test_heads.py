"""The heads of several tasks together give what each gives alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mtlbench.backbones import BackboneFactory
from mtlbench.backbones.heads import Heads

OWNERS = ("colour", "shape", "size")
SIZES = {"small": 36, "paper": 64, "resnet18": 48}


def noise(*shape):
    """Normal numbers, the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def compared(heads, features, dtype=torch.float32):
    """Embeddings and gradients of the heads together, and of each alone, on the same (B, C, h, w) features."""
    results = []
    alone = copy.deepcopy(heads)
    for together in (True, False):
        inputs = features.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            if together:
                before = heads.before(inputs)
                found = heads(before.expand(len(heads), *before.shape))
            else:
                found = torch.stack([head(inputs) for head in alone])
        used = heads if together else alone
        gradients = torch.autograd.grad(found.float().square().sum(), [inputs, *used.parameters()])
        results.append([found.float(), *gradients])
    return zip(*results, strict=True)


@pytest.mark.parametrize(("backbone", "size"), SIZES.items())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_together_give_what_each_gives_alone(backbone, size, dtype):
    factory = BackboneFactory(backbone, size, 8, seed=1)
    heads = factory.heads(OWNERS)
    features = noise(7, factory.channels[-1], *factory.feature_size)
    assert heads._linear is not None
    for found, wanted in compared(heads, features, dtype):
        off = (found - wanted).norm() / wanted.norm()
        assert off < (1e-5 if dtype == torch.float32 else 2e-2)


def test_heads_have_the_names_and_values_of_heads_alone():
    factory = BackboneFactory("small", 24, 8, seed=1)
    heads, plain = factory.heads(OWNERS), nn.ModuleList([factory.head(owner) for owner in OWNERS])
    assert list(heads.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(heads.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Conv2d(4, 6, 2), nn.Flatten(), nn.Linear(6, 3)),
        lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(16, 3)),
        lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten()),
        lambda: nn.Conv2d(4, 3, 2),
    ],
)
def test_heads_of_another_form_run_one_after_the_other(build):
    with torch.random.fork_rng():
        heads = Heads([build() for _ in OWNERS])
    features = noise(5, 4, 2, 2)
    assert heads._linear is None
    assert heads.before(features) is features
    torch.testing.assert_close(heads(features.expand(3, 5, 4, 2, 2)), torch.stack([head(features) for head in heads]))


def test_the_features_are_pooled_once():
    heads = BackboneFactory("small", 24, 8).heads(OWNERS)
    seen = []
    for head in heads:
        head[0].register_forward_hook(lambda *_: seen.append(1))
    heads(heads.before(noise(5, 128, 2, 2)).expand(3, 5, 512))
    assert len(seen) == 1


@pytest.mark.parametrize("size", [(3, 4), (5, 7), (1, 1), (6, 2)])
def test_the_small_networks_pooling_has_torchs_values_and_gradient(size):
    with torch.random.fork_rng():
        pool = BackboneFactory("small", 48, 8).kind.head(4, size, 8)[0]
    features = noise(2, 4, *size).double().to(memory_format=torch.channels_last).requires_grad_()
    wanted = nn.functional.avg_pool2d(features, pool.kernel_size, pool.stride)
    assert torch.equal(pool(features), wanted)
    direction = noise(*wanted.shape).double()
    found, theirs = (torch.autograd.grad(y, features, direction)[0] for y in (pool(features), wanted))
    torch.testing.assert_close(found, theirs)
