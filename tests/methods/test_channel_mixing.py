"""Channel mixing: against `single` (identity), `modulation` (diagonal), a 1 x 1 convolution, and the hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mtlbench import Architecture, BackboneFactory, UserError
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


def test_the_identity_is_single(backbones, images):
    mixing, single = build("channel-mixing", backbones).eval(), build("single", backbones).eval()
    with torch.no_grad():
        torch.testing.assert_close(mixing(images), single(images))
        torch.testing.assert_close(mixing.embed(images[0]), single.embed(images[0]))
        torch.testing.assert_close(mixing.embed_task(images[0], 1), single.embed_task(images[0], 1))


def test_a_diagonal_is_modulation(backbones, images):
    mixing, modulated = build("channel-mixing", backbones).eval(), build("modulation[relu=false]", backbones).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for t in range(3):
            for matrix, vector in zip(mixing.task_parameters(t), modulated.task_parameters(t), strict=True):
                vector.copy_(torch.randn(len(vector), generator=generator))
                matrix.copy_(torch.diag(vector))
        torch.testing.assert_close(mixing(images), modulated(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mixing.embed(images[0]), modulated.embed(images[0]), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_diagonal_is_modulations(backbones, images):
    mixing, modulated = build("channel-mixing", backbones).eval(), build("modulation", backbones).eval()
    for net in (mixing, modulated):
        net(images).square().sum().backward()
    for t in range(3):
        for matrix, vector in zip(mixing.task_parameters(t), modulated.task_parameters(t), strict=True):
            torch.testing.assert_close(matrix.grad.diagonal(), vector.grad, rtol=1e-3, atol=1e-4)
            assert (matrix.grad - matrix.grad.diagonal().diag()).any()


def test_a_matrix_is_a_1_x_1_convolution_after_its_stage(backbones, images):
    net = build("channel-mixing[after=2:4]", backbones).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for t in range(3):
            for matrix in net.task_parameters(t):
                matrix.copy_(torch.randn(matrix.shape, generator=generator) / len(matrix) ** 0.5)
        for t in range(3):
            second, fourth = net.task_parameters(t)
            stages = net.net.stages
            features = F.conv2d(stages[1](stages[0](images[t])), second[:, :, None, None])
            features = F.conv2d(stages[3](stages[2](features)), fourth[:, :, None, None])
            expected = net.net.head(features)
            torch.testing.assert_close(net(images)[t], expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(net.embed(images[t])[t], expected, rtol=1e-4, atol=1e-4)


def test_rows_of_the_matrix_make_the_new_channels(backbones, images):
    """By hand: channel 0 becomes the sum of channels 1 and 2 of the embedding; the others stay."""
    net, single = build("channel-mixing[after=5]", backbones).eval(), build("single", backbones).eval()
    (matrix,) = net.task_parameters(0)
    with torch.no_grad():
        matrix[0] = torch.tensor([0.0, 1, 1, 0, 0, 0, 0, 0])
        expected = single.embed(images[0])[0]
        expected[:, 0] = expected[:, 1] + expected[:, 2]
        torch.testing.assert_close(net.embed(images[0])[0], expected)


def test_a_task_adds_a_square_number_per_layer():
    with torch.device("meta"):
        net = build("channel-mixing", BackboneFactory("paper", 150, 256))
    assert [p.numel() for p in net.task_parameters(0)] == [128**2, 128**2, 256**2]


@pytest.mark.parametrize("after", ["0", "6", "2:9"])
def test_it_refuses_layers_that_are_not_there(after, backbones):
    with pytest.raises(UserError, match=rf"channel-mixing: after={after} must name layers from 1 to 5"):
        build(f"channel-mixing[after={after}]", backbones)


def test_channels_last_stay_last(backbones, images):
    net = build("channel-mixing[after=2]", backbones)
    features = torch.randn(12, 64, 6, 6).contiguous(memory_format=torch.channels_last)
    mixed = net.condition(2, features, range(3))
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mixed, features)
