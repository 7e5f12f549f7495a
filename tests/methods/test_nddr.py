"""NDDR against its formula in NumPy, its start, and its limiting case: no fusion makes independent nets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtlbench import Architecture, BackboneFactory, UserError
from mtlbench.cost import operations
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


def take_norms_out(net: Architecture) -> None:
    """Make the fusing layers' batch norms the identity in evaluation."""
    for layers in net.layers:
        for _, norm, _ in layers:
            norm.running_var.fill_(1 - norm.eps)


def test_without_fusion_it_is_independent_nets(backbones, images):
    fused, alone = build("nddr[same=1]", backbones).eval(), build("independent", backbones).eval()
    take_norms_out(fused)
    torch.testing.assert_close(fused.embed(images[0]), alone.embed(images[0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fused(images), alone(images), rtol=1e-4, atol=1e-4)
    for net in (fused, alone):
        net(images).square().sum().backward()
    for t in range(3):
        mine = [*fused.columns[t].parameters(), *fused.heads[t].parameters()]
        for a, b in zip(mine, alone.task_parameters(t), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_one_task_has_nothing_to_fuse(backbones, images):
    net, alone = build("nddr", backbones, ("shape",)), build("independent", backbones, ("shape",))
    assert torch.equal(net(images[:1]), alone(images[:1]))
    assert list(net.layers) == []


@pytest.mark.parametrize("tasks", [2, 3, 7])
def test_layers_start_diagonal_with_nine_tenths_of_their_own(backbones, tasks):
    net = build("nddr", backbones, tuple(f"task {t}" for t in range(tasks)))
    assert len(net.layers) == tasks
    for t, layers in enumerate(net.layers):
        assert len(layers) == len(backbones.channels)
        for channels, (conv, _, _) in zip(backbones.channels, layers, strict=True):
            for s, block in enumerate(conv.weight[:, :, 0, 0].split(channels, dim=1)):
                share = 0.9 if s == t else 0.1 / (tasks - 1)
                torch.testing.assert_close(block.detach(), share * torch.eye(channels))


def test_a_layer_projects_all_columns_by_the_papers_formula(backbones, images):
    net = build("nddr", backbones).eval()

    def fuse(features: list[torch.Tensor], layer: torch.nn.Sequential) -> torch.Tensor:
        conv, norm, _ = layer
        weight, mean, var, gain, bias = (
            x.detach().double().numpy()
            for x in (conv.weight, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        together = np.concatenate([x.double().numpy() for x in features], axis=1)
        projected = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], together)
        normed = (projected - mean[:, None, None]) / np.sqrt(var + 1e-3)[:, None, None]
        return torch.from_numpy(np.maximum(normed * gain[:, None, None] + bias[:, None, None], 0)).float()

    with torch.no_grad():
        for layers in net.layers:
            for conv, norm, _ in layers:
                conv.weight += 0.05 * torch.randn_like(conv.weight)
                norm.running_mean.uniform_(-0.2, 0.2)
                norm.running_var.uniform_(0.5, 2)
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.2, 0.2)
        features = [images[0]] * 3
        for n in range(len(backbones.channels)):
            features = [net.columns[t][n](features[t]) for t in range(3)]
            features = [fuse(features, net.layers[t][n]) for t in range(3)]
        expected = torch.stack([net.heads[t](features[t]) for t in range(3)])
        torch.testing.assert_close(net.embed(images[0]), expected, rtol=1e-3, atol=1e-4)


def test_another_columns_features_reach_a_task_up_to_the_last_stage(backbones, images):
    net = build("nddr", backbones).eval()
    with torch.no_grad():
        before = net(images)
        net.columns[2][-1].residual[1].bias += 1.0
        after = net(images)
        assert not torch.allclose(before[0], after[0], atol=1e-4)


def test_one_task_spares_the_others_last_projections_and_heads(backbones, images):
    counts = operations(build("nddr", backbones), images[0, :1])
    (height, width), channels = backbones.feature_size, backbones.channels[-1]
    projection = 2 * height * width * 3 * channels * channels
    head = 2 * sum(p.numel() for p in backbones.head().parameters() if p.dim() > 1)
    assert counts["flops_all_tasks"] - counts["flops_one_task"] == 2 * (projection + head)


def test_layers_learn_a_hundred_times_faster_by_gradient_descent(backbones):
    net = build("nddr", backbones)
    assert net.learning_rate_scales(adaptive=False) == {"layers.": 100.0}
    assert net.learning_rate_scales(adaptive=True) == {"layers.": 1.0}
    assert build("nddr[rate=1000]", backbones).learning_rate_scales(adaptive=True) == {"layers.": 1000.0}
    scaled = [name for name, _ in net.named_parameters() if name.startswith("layers.")]
    assert len(scaled) == 3 * 4 * 3  # tasks, stages; projection, and the norm's weight and bias


@pytest.mark.parametrize("options", ["same=1.5", "same=-0.1"])
def test_options_out_of_range_are_refused(backbones, options):
    with pytest.raises(UserError, match=f"nddr: {options.replace('.', '[.]')}.* must"):
        build(f"nddr[{options}]", backbones)
