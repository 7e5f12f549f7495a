"""Balancers from torchjd: where gradients are taken and where they are put."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchjd_support import GRADIENTS, WITHOUT_PLACE, Given, close, make, random_gradients, update

from mtlbench import UserError
from mtlbench.specs import parse_method
from mtlbench.torchjd import shortest_in_hull


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in WITHOUT_PLACE])
def test_behind_an_identity_the_representation_is_the_shared_parameters(solvers, name):
    found = []
    for at in ("shared", "representation"):
        torch.manual_seed(0)
        balancer = make(name, 3, at=at)
        for seed in range(2):
            combined, weights, net = update(balancer, random_gradients(3, seed=seed))
        found.append((combined, weights, torch.stack([p.grad for p in net.own])))
    for one, other in zip(*found, strict=True):
        close(one, other, rtol=1e-4, atol=1e-5)


def test_at_the_representation_the_trunk_gets_the_combination_in_one_pass(backbones, images):
    tasks = ("colour", "shape", "size")
    net, balancer = parse_method("shared+mgda").build(backbones, tasks)
    losses = net.embed(images[0]).square().mean(dim=(1, 2))
    features = net.representation
    rows = torch.stack([torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses])
    products = (rows @ rows.T).double().numpy()
    expected = torch.from_numpy(shortest_in_hull(products / products.diagonal().mean())).float()
    trunk = torch.autograd.grad((losses * expected).sum(), net.shared_parameters(), retain_graph=True)
    heads = [torch.autograd.grad(loss, net.task_parameters(t), retain_graph=True) for t, loss in enumerate(losses)]
    passes = []
    net.trunk[0].register_full_backward_hook(lambda *_: passes.append(1))
    weights = balancer.backward(losses, net)
    close(weights, 3 * expected, rtol=1e-3, atol=1e-4)
    for parameter, gradient in zip(net.shared_parameters(), trunk, strict=True):
        close(parameter.grad, gradient.numpy(), rtol=1e-3, atol=1e-6)
    for t in range(3):
        for parameter, gradient in zip(net.task_parameters(t), heads[t], strict=True):
            close(parameter.grad, gradient.numpy())


@pytest.mark.parametrize(("at", "expected"), [("shared", 3), ("representation", 1)])
def test_the_trunk_is_passed_once_at_the_representation_and_once_a_task_at_the_parameters(
    backbones, images, at, expected
):
    net, balancer = parse_method(f"shared+pcgrad[at={at}]").build(backbones, ("colour", "shape", "size"))
    passes = []
    first = net.trunk[0]
    first.register_forward_hook(lambda module, _, out: out.register_hook(lambda gradient: passes.append(1)) and None)
    balancer.backward(net.embed(images[0]).square().mean(dim=(1, 2)), net)
    assert len(passes) == expected


def test_shared_parameters_behind_the_representation_are_not_silently_left_untrained():
    class Behind(Given):
        def __init__(self) -> None:
            super().__init__([[1.0, 0.0], [0.0, 1.0]])
            self.late = nn.Parameter(torch.ones(()))

        def embed(self, images: Tensor) -> Tensor:
            return super().embed(images) * self.late

    net = Behind()
    with pytest.raises(UserError, match="come after the representation of Behind; set at=shared"):
        make("mgda").backward(net.embed(torch.empty(0)), net)


def test_gradients_lie_in_memory_as_their_parameters(backbones, images):
    net, balancer = parse_method("shared+pcgrad").build(backbones, ("colour", "shape", "size"))
    net = net.to(memory_format=torch.channels_last)
    losses = net.embed(images[0]).square().mean(dim=(1, 2))
    plain = torch.autograd.grad(losses.mean(), net.shared_parameters(), retain_graph=True)
    balancer.part.forward = lambda gramian: torch.ones(3)  # every gradient as it is
    balancer.backward(losses, net)
    assert any(not p.is_contiguous() for p in net.shared_parameters())
    for parameter, gradient in zip(net.shared_parameters(), plain, strict=True):
        assert parameter.grad.stride() == parameter.stride()
        close(parameter.grad, gradient.numpy(), rtol=1e-4, atol=1e-7)


def test_frozen_parameters_get_no_gradient():
    net = Given([[1.0, 0.0], [0.0, 1.0]])
    net.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    make("pcgrad").backward(net.embed(torch.empty(0)), net)
    assert net.frozen.grad is None
    close(net.p.grad, [0.5, 0.5])


@pytest.mark.parametrize("at", ["shared", "representation"])
def test_a_gradient_that_is_there_already_is_added_to(at):
    net = Given([[1.0, 0.0], [0.0, 1.0]])
    net.p.grad = torch.tensor([10.0, 10.0])
    make("pcgrad", at=at).backward(net.embed(torch.empty(0)), net)
    close(net.p.grad, [10.5, 10.5])
