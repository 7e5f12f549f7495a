"""`modulate` against the hand, the plain network and the modulation method."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support_modulated import TASKS, ChannelsLast, spread, tiny
from torch import nn

from mtlbench import BackboneFactory, modulate
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method


def test_two_channels_by_hand():
    net = modulate(nn.Conv2d(1, 2, 1, bias=False), ("a", "b"), [""], example=torch.zeros(1, 1, 2, 2))
    with torch.no_grad():
        net.network.weight.copy_(torch.tensor([1.0, 10.0]).reshape(2, 1, 1, 1))
        net.scales[":b"].copy_(torch.tensor([0.5, -3.0]))
        images = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
        assert net(images, "a").tolist() == [[[[1, 2]], [[10, 20]]], [[[3, 4]], [[30, 40]]]]
        assert net(images, "b").tolist() == [[[[0.5, 1]], [[0, 0]]], [[[1.5, 2]], [[0, 0]]]]
        assert net(images, [1, 0]).tolist() == [[[[0.5, 1]], [[0, 0]]], [[[3, 4]], [[30, 40]]]]


@pytest.mark.parametrize("relu", [True, False])
def test_it_is_scaling_after_each_module(images, relu):
    net = spread(tiny(relu=relu))
    plain = net.network
    with torch.no_grad():
        for task in TASKS:
            first, second, last = (v.clamp(min=0) if relu else v for v in net.task_parameters(task).values())
            features = plain.relu(plain.conv1(images) * first[:, None, None])
            features = plain.relu(plain.conv2(features) * second[:, None, None])
            torch.testing.assert_close(net(images, task), plain.fc(features.mean((2, 3))) * last)


@pytest.mark.parametrize("mode", [True, False])
def test_at_the_start_every_task_is_the_plain_network_bit_for_bit(images, mode):
    net = tiny().train(mode)
    plain = copy.deepcopy(net.network)
    mixed = copy.deepcopy(net)(images, [0, 1, 2, 0, 1, 2])
    for task in TASKS:
        assert torch.equal(copy.deepcopy(net)(images, task), copy.deepcopy(plain)(images))
        assert torch.equal(mixed, copy.deepcopy(plain)(images))


def test_names_indices_and_numbers_in_a_tensor_are_the_same_task(images):
    net = spread(tiny())
    expected = net(images, "heel")
    assert not torch.allclose(expected, net(images, "closure"))
    assert torch.equal(net(images, 1), expected)
    assert torch.equal(net(images, np.int64(1)), expected)
    torch.testing.assert_close(net(images, torch.tensor(1)), expected)
    assert list(net.task_parameters(1)) == list(net.task_parameters("heel"))
    for many in (
        ["heel"] * 6,
        [1] * 6,
        (1,) * 6,
        np.ones(6, dtype=int),
        torch.ones(6, dtype=torch.long),
        torch.ones(6, dtype=torch.int32),
    ):
        torch.testing.assert_close(net(images, many), expected)


def test_a_mixed_batch_is_each_image_under_its_task(images):
    net = spread(tiny())
    mixed = net(images, torch.tensor([2, 0, 1, 1, 0, 2]))
    for i, task in enumerate([2, 0, 1, 1, 0, 2]):
        torch.testing.assert_close(mixed[i : i + 1], net(images[i : i + 1], task))


def test_a_tasks_loss_moves_its_own_vectors_and_the_network_alone(images):
    net = tiny()
    net(images, "heel").square().sum().backward()
    for task in TASKS:
        gradients = [vector.grad for vector in net.task_parameters(task).values()]
        assert all(g.any() for g in gradients) if task == "heel" else gradients == [None] * 3
    assert net.network.conv1[0].weight.grad.any()


def test_of_a_mixed_batch_too(images):
    net = tiny()
    net(images, [0, 1, 0, 1, 0, 1])[1::2].square().sum().backward()
    for task in TASKS:
        assert [bool(v.grad.any()) for v in net.task_parameters(task).values()] == [task == "heel"] * 3


def test_the_small_backbone_is_the_modulation_method(images):
    load_plugins()
    backbones = BackboneFactory("small", 24, 8, seed=3)
    method = parse_method("modulation").build(backbones, TASKS)[0].eval()
    plain = backbones.backbone()
    net = modulate(plain, TASKS, ["stages.2", "stages.3", "head"], example=torch.zeros(1, 3, 24, 24)).eval()
    spread(net)
    with torch.no_grad():
        for t, task in enumerate(TASKS):
            for vector, mine in zip(method.task_parameters(t), net.task_parameters(task).values(), strict=True):
                vector.copy_(mine)
        images = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(4))
        embeddings = method.embed(images)
        for t, task in enumerate(TASKS):
            assert torch.equal(net(images, task), method.embed_task(images, t))
            torch.testing.assert_close(net(images, task), embeddings[t])
        rows = torch.arange(3).repeat_interleave(4)
        torch.testing.assert_close(net(images.repeat(3, 1, 1, 1), rows).unflatten(0, (3, 4)), embeddings)


def test_channels_last_outputs_are_scaled_along_the_axis_that_is_named(images):
    net = spread(modulate(ChannelsLast(), TASKS, "linear", channel_axis=-1, example=images))
    (vector,) = net.task_parameters("toe").values()
    expected = (net.network.linear(images.movedim(1, -1)) * vector.clamp(min=0)).mean((1, 2))
    torch.testing.assert_close(net(images, "toe"), expected)
    torch.testing.assert_close(net(images, [2] * 6), expected)
