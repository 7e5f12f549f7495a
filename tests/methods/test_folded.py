"""Scales and shifts of T tasks folded into the next convolution give what scaling first gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtlbench import folded
from mtlbench.backbones import BackboneFactory
from mtlbench.folded import Scaled
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")
GEOMETRIES = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": (2, 1), "dilation": (1, 2)},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": (1, 5), "padding": (0, 2), "bias": False},
]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def folds(monkeypatch):
    """Fold in every type; return the list of convolutions that were."""
    taken, apply = [], folded._ByPatches.apply
    monkeypatch.setattr(folded, "_PAYS", {torch.bfloat16, torch.float32, torch.float64})
    monkeypatch.setattr(folded._ByPatches, "apply", lambda *a: taken.append(a[0].shape) or apply(*a))
    return taken


@pytest.mark.parametrize("options", GEOMETRIES)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)]
)
def test_a_convolution_of_all_tasks_features_and_its_gradients(options, shifted, dtype, tolerance, folds):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 5, **{"kernel_size": 3, **options}).to(dtype)
    x = noise(6, 4, 9, 8, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    scales, shifts = (
        noise(3, 4, seed=1, dtype=dtype).requires_grad_(),
        noise(3, 4, seed=2, dtype=dtype).requires_grad_(),
    )
    about = [x, scales, *layer.parameters(), *([shifts] if shifted else [])]
    results = []
    for fold in (True, False):
        each = x * scales[:, None, :, None, None] + (shifts[:, None, :, None, None] if shifted else 0)
        output = layer(Scaled.of(x, scales, shifts if shifted else None) if fold else each.flatten(0, 1))
        direction = noise(*output.shape, seed=3, dtype=dtype)
        results.append([output, *torch.autograd.grad(output, about, direction)])
    assert folds == [x.shape]
    for found, wanted in zip(*results, strict=True):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        assert (found.double() - wanted.double()).norm() <= tolerance * wanted.double().norm()


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x.mean((2, 3)),
        lambda x: F.relu(x) + x,
        lambda x: torch.cat([x, x], 1),
        lambda x: F.conv2d(x, torch.ones(4, 1, 3, 3).double(), groups=4),
        lambda x: F.conv2d(input=x, weight=torch.ones(2, 4, 3, 3).double()),
        lambda x: F.conv2d(x, torch.ones(2, 4, 3, 3).double(), padding="same"),
        lambda x: x.permute(0, 2, 3, 1) @ torch.ones(4, 2).double(),
        lambda x: torch.add(torch.ones(()).double(), x),
        lambda x: (x * 2).add_(x),
    ],
)
def test_whatever_else_takes_them_finds_them_scaled(use, folds):
    x, scales, shifts = noise(6, 4, 5, 5), noise(3, 4, seed=1), noise(3, 4, seed=2)
    each = (x * scales[:, None, :, None, None] + shifts[:, None, :, None, None]).flatten(0, 1)
    scaled = Scaled.of(x, scales, shifts)
    assert (scaled.shape, scaled.dtype, scaled.dim(), len(scaled)) == (each.shape, each.dtype, 4, 18)
    found = use(scaled)
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, use(each))
    assert not folds


def test_patches_that_would_take_too_much_memory_are_not_made(folds, monkeypatch):
    monkeypatch.setattr(folded, "_PATCHES", 1000)
    x, scales, weight = noise(6, 4, 9, 8), noise(3, 4, seed=1), noise(5, 4, 3, 3)
    found = F.conv2d(Scaled.of(x, scales), weight)
    torch.testing.assert_close(found, F.conv2d((x * scales[:, None, :, None, None]).flatten(0, 1), weight))
    assert not folds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folding"),
    [("modulation", True), ("film", True), ("modulation[after=all]", True), ("modulation[after=2,relu=false]", True),
     ("modulation[place=after-norm]", False), ("modulation[after=embedding]", False), ("channel-mixing", False)],
)  # fmt: skip
@pytest.mark.parametrize(("backbone", "size"), [("small", 24), ("paper", 64), ("resnet18", 48)])
def test_a_network_gives_the_embeddings_and_gradients_of_one_pass_a_task(name, folding, backbone, size, folds):
    net = parse_method(name).build(BackboneFactory(backbone, size, 8, seed=3), TASKS)[0].double()
    with torch.no_grad():
        for t in range(len(TASKS)):
            for number, parameter in enumerate(net.task_parameters(t)):
                parameter.add_(0.3 * noise(*parameter.shape, seed=10 * t + number))
    images = noise(4, 3, size, size)
    results = []
    for passes in (net.embed, lambda x: net(x.expand(len(TASKS), *x.shape))):
        net.train().zero_grad()
        embeddings = passes(images)
        (embeddings * noise(*embeddings.shape, seed=5)).sum().backward()
        results.append({"embeddings": embeddings.detach()} | {n: p.grad.clone() for n, p in net.named_parameters()})
    assert bool(folds) == folding
    for key, wanted in results[1].items():
        torch.testing.assert_close(results[0][key], wanted, rtol=1e-7, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}")


def test_in_bfloat16_on_a_cpu_it_is_what_training_takes(monkeypatch):
    taken, apply = [], folded._ByPatches.apply
    monkeypatch.setattr(folded._ByPatches, "apply", lambda *a: taken.append(a[0].dtype) or apply(*a))
    net = parse_method("modulation").build(BackboneFactory("small", 24, 8, seed=3), TASKS)[0].train()
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            net.embed(noise(4, 3, 24, 24, dtype=torch.float32)).sum().backward()
    assert taken == [torch.bfloat16]
    assert net.net.stages[3].reduce[0].weight.grad.dtype == torch.float32
