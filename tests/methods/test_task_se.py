"""Squeeze-and-excitation per task: against torchvision's module, plain NumPy, and `single` (open gates)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import SqueezeExcitation

from mtlbench import Architecture, BackboneFactory, UserError
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


def test_open_gates_are_single(backbones, images):
    gated, single = build("task-se", backbones).eval(), build("single", backbones).eval()
    with torch.no_grad():
        for t in range(3):
            for module in gated.gates[t].values():
                module[2].bias.fill_(1000)  # the sigmoid of which is 1
        assert torch.equal(gated(images), single(images))
        torch.testing.assert_close(gated.embed(images[0]), single.embed(images[0]))


def test_a_module_is_torchvisions_squeeze_and_excitation(backbones, images):
    net = build("task-se[after=2:4,reduction=4]", backbones).eval()
    stages = net.net.stages

    def theirs(task: int, layer: int) -> SqueezeExcitation:
        squeeze, _, excite, _ = net.gates[task][str(layer)]
        module = SqueezeExcitation(squeeze.in_features, squeeze.out_features)
        for ours, conv in ((squeeze, module.fc1), (excite, module.fc2)):
            conv.weight.copy_(ours.weight[:, :, None, None])
            conv.bias.copy_(ours.bias)
        return module

    with torch.no_grad():
        for parameter in net.gates.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
        for t in range(3):
            features = theirs(t, 2)(stages[1](stages[0](images[t])))
            expected = net.net.head(theirs(t, 4)(stages[3](stages[2](features))))
            torch.testing.assert_close(net(images)[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed(images[t])[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed_task(images[t], t), expected, rtol=1e-4, atol=1e-5)


def test_gates_follow_the_formula_in_numpy(backbones, images):
    net = build("task-se[after=3]", backbones)
    features = torch.randn(3 * 4, 128, 3, 3, generator=torch.Generator().manual_seed(5))
    gated = net._gate(3, features, range(3)).detach().numpy()
    for t in range(3):
        w1, b1, w2, b2 = (p.detach().numpy() for p in net.task_parameters(t))
        for i in range(4):
            x = features[4 * t + i].numpy()
            hidden = np.maximum(w1 @ x.mean((1, 2)) + b1, 0)
            scale = 1 / (1 + np.exp(-(w2 @ hidden + b2)))
            np.testing.assert_allclose(gated[4 * t + i], x * scale[:, None, None], rtol=1e-5, atol=1e-6)


def test_two_images_of_a_task_are_gated_differently(backbones, images):
    net = build("task-se[after=3]", backbones)
    features = torch.rand(2, 128, 3, 3, generator=torch.Generator().manual_seed(5))
    scales = (net._gate(3, features, [0]) / features).mean((2, 3))
    assert not torch.allclose(scales[0], scales[1], atol=1e-4)


def test_the_hidden_layer_has_a_sixteenth_of_the_channels_but_no_fewer_than_eight_units():
    with torch.device("meta"):
        resnet = build("task-se", BackboneFactory("resnet18", 112, 64))
        small = build("task-se[reduction=64]", BackboneFactory("small", 24, 8))
    units = {n: module[0].out_features for n, module in resnet.gates[0].items()}
    assert units == {"2": 8, "3": 8, "4": 16, "5": 32}
    assert {module[0].out_features for module in small.gates[0].values()} == {8}


def test_a_modules_biases_start_at_zero_and_its_weights_by_hes_rule():
    net = build("task-se[after=4,reduction=1]", BackboneFactory("resnet18-csn", 64, 16))
    squeeze, _, excite, _ = net.gates[1]["4"]
    for layer in (squeeze, excite):
        assert not layer.bias.any()
        assert layer.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)


def test_every_task_has_modules_of_its_own(backbones):
    net = build("task-se", backbones)
    owners = [{p.data_ptr() for p in net.task_parameters(t)} for t in range(3)]
    assert [len(owner) for owner in owners] == [12, 12, 12]
    assert len(set.union(*owners)) == 36
    assert not torch.equal(net.task_parameters(0)[0], net.task_parameters(1)[0])


@pytest.mark.parametrize("after", ["0", "5", "2:9"])
def test_it_refuses_stages_that_are_not_there(after, backbones):
    with pytest.raises(UserError, match=rf"task-se: after={after} must name stages from 1 to 4"):
        build(f"task-se[after={after}]", backbones)


def test_it_refuses_a_reduction_below_one(backbones):
    with pytest.raises(UserError, match="reduction=0"):
        build("task-se[reduction=0]", backbones)
