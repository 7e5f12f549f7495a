"""Balancers from torchjd: the scale of their updates, and what they do where losses are zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchjd_support import GRADIENTS, LOSSES, OWN_SCALE, WITH_MEMORY, close, make, random_gradients, update, weights_at


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in OWN_SCALE])
@pytest.mark.parametrize("length", [10.0, 1e-4])
def test_gradients_that_agree_give_the_plain_means_step(solvers, name, length):
    gradients = length * torch.tensor([[1.0, -2.0, 0.5]]).repeat(3, 1)
    combined, weights, net = update(make(name, 3), gradients)
    close(combined, gradients.mean(0), rtol=1e-3, atol=0)
    close(weights.sum(), 3.0, rtol=1e-3, atol=0)
    close(torch.stack([p.grad for p in net.own]), gradients.sum(1))


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in OWN_SCALE])
@pytest.mark.parametrize("length", [10.0, 1e-4])
def test_gradients_at_right_angles_give_the_plain_means_step(solvers, name, length):
    combined, weights, _ = update(make(name, 3), length * torch.eye(3, 4))
    close(combined, length * np.array([1, 1, 1, 0]) / 3, rtol=1e-3, atol=length * 1e-6)
    close(weights, [1, 1, 1], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "name", ["mgda", "imtl-g", "pcgrad", "gradvac", "aligned-mtl", "upgrad", "dualproj", "cr-mogm"]
)
def test_small_gradients_have_the_weights_of_large_ones(solvers, name):
    gradients = random_gradients(3)
    weights = []
    for length in (1.0, 1e-6):
        torch.manual_seed(0)
        weights.append(update(make(name, 3), length * gradients)[1])
    close(weights[1], weights[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["excess-mtl", "modo", "sdmgrad", "gradvac", "cr-mogm"])
def test_with_memory_too_small_gradients_have_the_weights_of_large_ones(solvers, name):
    """Each task's gradient has its own length, as short as those of a network with very many parameters."""
    torch.manual_seed(0)
    batches = [random_gradients(3) * torch.tensor([[1.0], [3.0], [0.3]]) for _ in range(30)]
    weights = []
    for length in (1.0, 1e-4):
        torch.manual_seed(0)
        balancer = make(name, 3)
        weights.append(torch.stack([update(balancer, length * gradients)[1] for gradients in batches]))
    close(weights[1], weights[0], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_stay_finite_when_losses_are_zero(name):
    balancer = make(name, 3, **({"every": 1} if name == "dwa" else {}))
    for values in ([0.0, 0.0, 0.0], [0.1, 0.0, 0.2], [0.0, 0.1, 0.1], [0.0, 0.0, 0.0], [0.2, 1e-9, 0.1], [0.1] * 3):
        weights = weights_at(balancer, values)
        assert weights.isfinite().all()
        assert (weights >= 0).all()
    assert all(p.grad.isfinite().all() for p in balancer.parameters())


@pytest.mark.parametrize("name", GRADIENTS)
def test_updates_stay_finite_when_gradients_are_zero(solvers, name):
    balancer = make(name, 3)
    for active in ([0, 0, 0], [1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]):
        gradients = torch.tensor(active)[:, None] * random_gradients(3)
        combined, weights, _ = update(balancer, gradients)
        assert combined.isfinite().all()
        assert weights.isfinite().all()
        assert weights[torch.tensor(active) == 0].tolist() == [1] * active.count(0)
        if not any(active):
            assert not combined.any()


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in WITH_MEMORY and n != "fairgrad"])
def test_a_task_without_a_gradient_leaves_the_others_as_if_alone(solvers, name):
    gradients = random_gradients(3)
    gradients[1] = 0
    torch.manual_seed(0)
    with_it = update(make(name, 3), gradients)[0]
    torch.manual_seed(0)
    alone = update(make(name, 2), gradients[[0, 2]])[0]
    close(with_it, alone * 2 / 3, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_that_are_not_finite_reach_the_run(solvers, name):
    gradients = random_gradients(2)
    gradients[0, 0] = float("nan")
    assert not update(make(name), gradients)[0].isfinite().all()
