"""Balancers from torchjd that weigh losses, each against a formula worked by hand or in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import make_dataset, protocol
from torchjd import scalarization
from torchjd_support import LOSSES, Given, close, make, weights_at

from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer


def test_uw_takes_the_step_worked_by_hand():
    """exp(-s) L + s at s = (0, log 2), L = (3, 5): weights (1, 1/2), derivatives of s (1 - 3, 1 - 5/2)."""
    balancer = make("uw")
    (s,) = balancer.parameters()
    with torch.no_grad():
        s[1] = np.log(2)
    close(weights_at(balancer, [3.0, 5.0]), [1, 0.5])
    close(s.grad, [-2, -1.5])


def test_imtl_l_takes_the_step_worked_by_hand():
    """exp(s) L - s at s = (0, log 2), L = (3, 5): weights (1, 2), derivatives of s (3 - 1, 2 * 5 - 1)."""
    balancer = make("imtl-l")
    (s,) = balancer.parameters()
    with torch.no_grad():
        s[1] = np.log(2)
    close(weights_at(balancer, [3.0, 5.0]), [1, 2])
    close(s.grad, [2, 9])


def test_uncertainty_weights_settle_at_one_over_the_loss():
    balancer = make("uw")
    optimiser = torch.optim.SGD(balancer.parameters(), lr=0.1)
    for _ in range(500):
        optimiser.zero_grad()
        weights = weights_at(balancer, [0.5, 4.0])
        optimiser.step()
    close(weights, [2, 0.25], rtol=1e-3, atol=0)


def test_dwa_follows_the_ratios_of_the_two_latest_epochs():
    """Epochs of two steps: means (2, 4), then (1, 4): ratios (1/2, 1) at temperature 2."""
    balancer = make("dwa", every=2)
    for values in ([1.0, 4.0], [3.0, 4.0], [1.5, 5.0], [0.5, 3.0]):
        close(weights_at(balancer, values), [1, 1])
    e = np.exp([0.25, 0.5])
    for _ in range(2):
        close(weights_at(balancer, [9.0, 9.0]), 2 * e / e.sum())
    e = np.exp([9 / 2, 9 / 8])
    close(weights_at(balancer, [9.0, 9.0]), 2 * e / e.sum())


def test_rlw_draws_the_softmax_of_normal_numbers():
    torch.manual_seed(5)
    expected = 3 * torch.softmax(torch.randn(3), 0)
    torch.manual_seed(5)
    balancer = make("rlw", 3)
    close(weights_at(balancer, [1.0, 2.0, 3.0]), expected)
    assert not torch.equal(weights_at(balancer, [1.0, 2.0, 3.0]), expected)


def test_the_geometric_means_weights_are_its_share_of_each_loss():
    close(weights_at(make("geometric-mean"), [0.5, 2.0]), [2, 0.5])


def test_stch_weighs_by_the_softmax_of_losses():
    e = np.exp(np.array([0.1, 0.15, 0.2]) / (3 * 0.05))
    close(weights_at(make("stch", 3, mu=0.05), [0.1, 0.15, 0.2]), 3 * e / e.sum())


def test_famo_takes_the_steps_worked_in_numpy():
    balancer = make("famo", lr=0.1, decay=0.0)
    first, second = np.array([0.5, 0.25]), np.array([0.25, 0.24])
    inverse = 1 / first
    close(weights_at(balancer, first.tolist()), 2 * inverse / inverse.sum())
    balancer.judge(torch.tensor([0.25, 0.24]))
    # the first task fell at the greater rate; Adam's first step is its rate against the gradient's sign
    xi = np.array([-0.1, 0.1])
    z = np.exp(xi) / np.exp(xi).sum()
    close(weights_at(balancer, second.tolist()), 2 * (z / second) / (z / second).sum(), rtol=1e-4, atol=0)


def test_famo_is_torchjds():
    balancer, theirs = make("famo", 3), scalarization.FAMO(3)
    torch.manual_seed(0)
    batches = torch.rand(6, 3) + 0.1
    for values in batches:
        leaf = values.clone().requires_grad_()
        theirs(leaf).backward()
        close(weights_at(balancer, values.tolist()), 3 * leaf.grad)
        after = values * torch.tensor([0.5, 0.9, 1.1])
        theirs.update(after)
        balancer.judge(after)


def test_famo_judges_by_the_same_batch_again():
    """The loop gives it the losses of the batch that the step was taken on, at the weights after the step."""
    trainer = Trainer(parse_method("shared+famo"), protocol("train.sampling='joint'"), make_dataset(), 0, "fp32")
    seen, heard = [], []
    draw, judge = trainer.sampler.draw, trainer.balancer.judge
    trainer.sampler.draw = lambda generators: seen.append(draw(generators)) or seen[-1]
    trainer.balancer.judge = lambda losses: heard.append(losses.clone()) or judge(losses)
    trainer.step()
    assert len(heard) == 1
    assert torch.equal(seen[0].images, seen[-1].images)  # the first batch is drawn twice, to be compared
    assert not heard[0].requires_grad
    with torch.no_grad():
        close(heard[0], trainer.losses(seen[-1]).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", ["csn+famo", "dselect-k[experts=3]+famo"])
@pytest.mark.parametrize("sampling", ["joint", "per-task"])
def test_a_network_that_does_not_move_has_the_same_losses_again(spec, sampling):
    """An architecture's penalty is in the losses before and after the step: once alone, it would count as a gain."""
    benchmark = protocol(f"train.sampling='{sampling}'", "train.lr=1e-12", "train.weight_decay=0")
    trainer = Trainer(parse_method(spec), benchmark, make_dataset(), 0, "fp32")
    before, after = [], []
    backward, judge = trainer.balancer.backward, trainer.balancer.judge
    trainer.balancer.backward = lambda losses, net: before.append(losses.detach().clone()) or backward(losses, net)
    trainer.balancer.judge = lambda losses: after.append(losses.clone()) or judge(losses)
    for _ in range(3):
        trainer.step()
    close(torch.stack(after), torch.stack(before).numpy(), rtol=1e-4, atol=1e-5)


def test_famo_counts_losses_as_at_least_a_thousandth_after_the_step_too():
    """A loss that falls to 0 fell to 0.001: its rate is log(1000 L), not infinite."""
    fallen, least = make("famo", decay=0.0), make("famo", decay=0.0)
    for balancer, after in ((fallen, 0.0), (least, 1e-3)):
        weights_at(balancer, [0.2, 0.2])
        balancer.judge(torch.tensor([after, 0.1]))
    close(weights_at(fallen, [0.2, 0.2]), weights_at(least, [0.2, 0.2]))


def test_a_task_at_0_leaves_famos_weight_to_the_others():
    close(weights_at(make("famo", 3), [0.0, 0.1, 0.1]), [1, 1, 1])


@pytest.mark.parametrize("name", LOSSES)
def test_equal_losses_weigh_1_on_average_at_the_start(name):
    torch.manual_seed(0)
    weights = weights_at(make(name, 3), [0.15, 0.15, 0.15])
    close(weights.sum(), 3.0)
    if name != "rlw":
        close(weights, [1, 1, 1])


@pytest.mark.parametrize("name", LOSSES)
def test_a_tasks_own_parameter_gets_its_weighted_gradient(name):
    torch.manual_seed(0)
    balancer, net = make(name, 2), Given([[1.0, 2.0], [0.5, 0.25]])
    losses = net.embed(torch.empty(0))
    weights = balancer.backward(losses, net)
    close(torch.stack([p.grad for p in net.own]), weights * losses.detach())
    close(net.p.grad, (weights[:, None] * net.gradients).mean(0))


@pytest.mark.parametrize("name", LOSSES)
def test_weighing_losses_takes_one_backward_pass(backbones, images, name):
    net, balancer = parse_method(f"shared+{name}").build(backbones, ("colour", "shape", "size"))
    passes = []
    features = net._trunk(images[0])
    features.register_hook(lambda gradient: passes.append(1))
    losses = torch.stack([head(features) for head in net.heads]).square().mean(dim=(1, 2))
    balancer.backward(losses, net)
    assert len(passes) == 1
