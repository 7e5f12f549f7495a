"""MTAN against its formula in NumPy, and its limiting case: open gates make a shared trunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


def randomise_norms(net: nn.Module) -> None:
    """Give every batch norm statistics, a weight and a bias of its own."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.2, 0.2)


def convolve(x: np.ndarray, layer: nn.Sequential) -> np.ndarray:
    """(B, C, h, w): convolution with zero padding, then batch norm with its running statistics."""
    conv, norm = (layer[n] for n in (0, 1))
    weight = conv.weight.detach().double().numpy()
    size = weight.shape[-1]
    edge = size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    out = np.einsum("bchwij,ocij->bohw", windows, weight)
    mean, var, gain, bias = (
        t.detach().double().numpy()[:, None, None]
        for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (out - mean) / np.sqrt(var + norm.eps) * gain + bias


def halve(x: np.ndarray) -> np.ndarray:
    """The maximum of every 2 x 2 window, of even maps."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))


def test_masks_follow_the_papers_formula(images):
    backbones = BackboneFactory("small", 32, 8, seed=3)  # 16, 8, 4 and 2 px
    images = nn.functional.pad(images, (4, 4, 4, 4))
    net = build("mtan", backbones).eval()
    randomise_norms(net)
    with torch.no_grad():
        outputs, x = [], images[1]
        for stage in net.trunk:
            x = stage(x)
            outputs.append(x.double().numpy())
        passed: np.ndarray | None = None
        for n, p in enumerate(outputs):
            attention = net.attention[1][n]
            seen = p if passed is None else np.concatenate([p, passed], axis=1)
            hidden = np.maximum(convolve(seen, attention[:3]), 0)
            mask = 1 / (1 + np.exp(-convolve(hidden, attention[3:])))
            passed = np.maximum(convolve(mask * p, net.passing[n]), 0)
            passed = halve(passed) if n < 3 else passed
        expected = net.heads[1](torch.from_numpy(passed).float())
        torch.testing.assert_close(net(images)[1], expected, rtol=1e-4, atol=1e-5)


def open_the_gates(net: Architecture) -> None:
    """Masks of 1, and output convolutions that pass each channel on, the first ones where there is room for fewer."""
    with torch.no_grad():
        for task in net.attention:
            for stage in task:
                stage[4].weight.zero_()
                stage[4].bias.fill_(100)
        for conv, norm, _ in net.passing:
            nn.init.dirac_(conv.weight)
            norm.running_var.fill_(1 - norm.eps)


def test_open_gates_make_it_a_shared_trunk(backbones, images):
    net, shared = build("mtan", backbones).eval(), build("shared", backbones).eval()
    with torch.no_grad():
        assert not torch.allclose(net(images), shared(images), atol=1e-3)
        open_the_gates(net)
        torch.testing.assert_close(net(images), shared(images))
        torch.testing.assert_close(net.embed(images[0]), shared.embed(images[0]))
        torch.testing.assert_close(net.embed_task(images[0], 2), shared.embed_task(images[0], 2))


def test_open_gates_train_the_trunk_as_a_shared_one(backbones, images):
    net, shared = build("mtan", backbones).eval(), build("shared", backbones).eval()
    open_the_gates(net)
    for each in (net, shared):
        each(images).square().sum().backward()
    for (name, mine), theirs in zip(net.trunk.named_parameters(), shared.trunk.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_a_closed_gate_hides_its_channel_from_its_task_alone(backbones, images):
    net = build("mtan", backbones).eval()
    open_the_gates(net)
    with torch.no_grad():
        open_ = net(images)
        net.attention[1][3][4].bias[5] = -100
        closed = net(images)
        features = images[1]
        for stage in net.trunk:
            features = stage(features)
        features[:, 5] = 0
        torch.testing.assert_close(closed[1], net.heads[1](features))
    assert torch.equal(closed[[0, 2]], open_[[0, 2]])


def test_what_passes_on_attended_features_is_shared_and_the_masks_are_not(backbones):
    net = build("mtan", backbones)
    shared = {id(p) for p in net.shared_parameters()}
    assert {id(p) for p in [*net.trunk.parameters(), *net.passing.parameters()]} == shared
    assert [p.shape for p in net.last_shared_layer()] == [(128, 128, 3, 3)]
    assert {id(p) for p in net.last_shared_layer()} < shared
    # two 1 x 1 convolutions and four vectors of the norms a stage, from C channels first and 2 C then, and the head
    channels = backbones.channels
    masks = sum((1 + (n > 0)) * c * c + c * c + 4 * c for n, c in enumerate(channels))
    head = sum(p.numel() for p in backbones.head().parameters())
    assert [sum(p.numel() for p in net.task_parameters(t)) for t in range(3)] == [masks + head] * 3


@pytest.mark.parametrize("name", ["paper", "resnet18", "resnet18-csn"])
@pytest.mark.parametrize("size", [96, 101, 113])
def test_pooling_fits_any_backbone_and_size(name, size):
    with torch.device("meta"):
        net = build("mtan", BackboneFactory(name, size, 8))
        seen: dict[int, Tensor] = {}
        for n, attention in enumerate(net.attention[0]):
            attention.register_forward_hook(lambda module, args, output, n=n: seen.__setitem__(n, output))
        outputs = net._trunk(torch.empty(2, 3, size, size))
        assert net.embed(torch.empty(2, 3, size, size)).shape == (3, 2, 8)
    assert [seen[n].shape for n in range(len(outputs))] == [x.shape for x in outputs]
