"""Static weights: their scale, their gradient, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.registry import BALANCERS
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")


def test_weights_are_brought_to_a_sum_of_t(backbones, images):
    net, balancer = parse_method("shared+static[weights=1:2:1]").build(backbones, TASKS)
    weights = balancer.backward(net(images).square().mean(dim=(1, 2)), net)
    assert weights.tolist() == [0.75, 1.5, 0.75]


def test_a_shared_parameter_gets_the_mean_of_weighted_gradients_and_a_tasks_own_its_weighted_one(backbones, images):
    net, balancer = parse_method("shared+static[weights=1:4:1]").build(backbones, TASKS)
    losses = net(images).square().mean(dim=(1, 2))
    shared = [torch.autograd.grad(loss, net.shared_parameters(), retain_graph=True) for loss in losses]
    own = [torch.autograd.grad(loss, net.task_parameters(t), retain_graph=True) for t, loss in enumerate(losses)]
    balancer.backward(losses, net)
    for parameter, *gradients in zip(net.shared_parameters(), *shared, strict=True):
        expected = sum(w * g for w, g in zip((0.5, 2, 0.5), gradients, strict=True)) / 3
        torch.testing.assert_close(parameter.grad, expected)
    for t, weight in enumerate((0.5, 2, 0.5)):
        for parameter, gradient in zip(net.task_parameters(t), own[t], strict=True):
            torch.testing.assert_close(parameter.grad, weight * gradient)


def test_equal_weights_are_the_plain_mean(backbones, images):
    gradients = []
    for make in (
        lambda: BALANCERS.get("mean").target(TASKS),
        lambda: BALANCERS.get("static").target(TASKS, weights=(7.0, 7.0, 7.0)),
    ):
        net, _ = parse_method("shared").build(backbones, TASKS)
        make().backward(net(images).square().mean(dim=(1, 2)), net)
        gradients.append([p.grad for p in net.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_weight_of_0_leaves_a_task_out(backbones, images):
    net, balancer = parse_method("independent+static[weights=1:0:1]").build(backbones, TASKS)
    balancer.backward(net(images).square().mean(dim=(1, 2)), net)
    assert not any(p.grad.any() for p in net.task_parameters(1))
    assert all(p.grad.any() for p in net.task_parameters(0))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("shared+static", r"wants 3 weights, one each for colour, shape, size.*it was given 0"),
        ("shared+static[weights=1:2]", "it was given 2"),
        ("shared+static[weights=1:-2:1]", "0 or more"),
        ("shared+static[weights=0:0:0]", "not all 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(backbones, spec, message):
    with pytest.raises(UserError, match=message):
        parse_method(spec).build(backbones, TASKS)


def test_one_task_takes_a_list_of_one(backbones, images):
    net, balancer = parse_method("shared+static[weights=3:]").build(backbones, ("colour",))
    assert balancer.backward(net(images[:1]).square().mean(dim=(1, 2)), net).tolist() == [1]
