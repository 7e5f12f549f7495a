"""Balancers from torchjd: what they remember, what chance they draw, and one task alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import make_dataset, protocol
from torch import Tensor
from torchjd_support import GRADIENTS, LOSSES, OWN_SCALE, WITH_MEMORY, close, make, random_gradients, update

from mtlbench import Balancer
from mtlbench.networks import load_state, state_of
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

FAST = {"dwa": {"every": 2}, "excess-mtl": {"warmup": 2}, "nash-mtl": {"every": 2}, "cr-mogm": {"alpha": 0.5}}


def one_step(balancer: Balancer, seed: int) -> tuple[Tensor, Tensor]:
    gradients = random_gradients(3, seed=seed)  # in conflict, but with losses above 0
    wanted = 0.2 + torch.rand(3, 1, generator=torch.Generator().manual_seed(seed))
    gradients = gradients + (wanted - gradients.sum(1, keepdim=True)) / 6
    combined, weights, _ = update(balancer, gradients, start=0.5)
    for parameter in balancer.parameters():  # the run's optimiser
        with torch.no_grad():
            parameter -= 0.1 * parameter.grad
        parameter.grad = None
    if balancer.judges_again:
        balancer.judge(0.1 + torch.rand(3, generator=torch.Generator().manual_seed(100 + seed)))
    return combined, weights


@pytest.mark.parametrize("name", [*LOSSES, *GRADIENTS])
@pytest.mark.parametrize("before", [0, 1, 2, 3, 5])
def test_a_restored_balancer_goes_on_exactly(solvers, tmp_path: Path, name, before):
    balancer, restored = make(name, 3, **FAST.get(name, {})), make(name, 3, **FAST.get(name, {}))
    assert state_of(balancer).keys() == state_of(restored).keys()
    torch.manual_seed(0)
    for seed in range(before):
        one_step(balancer, seed)
    save_file(state_of(balancer), tmp_path / "state.safetensors")
    generator = torch.get_rng_state()
    expected = [one_step(balancer, seed) for seed in range(before, before + 4)]
    load_state(restored, load_file(tmp_path / "state.safetensors"))
    load_state(restored, state_of(restored))  # saved again before it took a step
    torch.set_rng_state(generator)
    for seed, (combined, weights) in enumerate(expected, before):
        again = one_step(restored, seed)
        assert torch.equal(again[0], combined)
        assert torch.equal(again[1], weights)


@pytest.mark.parametrize("name", sorted({*WITH_MEMORY, "dwa", "famo"}))
def test_without_its_memory_a_balancer_would_go_on_otherwise(solvers, name):
    """So that the test above can fail: a new balancer's next weights differ from those of one that has worked."""
    balancer = make(name, 3, **FAST.get(name, {}))
    torch.manual_seed(0)
    for seed in range(5):
        one_step(balancer, seed)
    torch.manual_seed(1)
    used = one_step(balancer, 5)[1]
    torch.manual_seed(1)
    assert not torch.equal(one_step(make(name, 3, **FAST.get(name, {})), 5)[1], used)


@pytest.mark.parametrize(
    "spec", ["uw", "dwa[every=1]", "famo", "rlw", "pcgrad", "gradvac", "mgda", "sdmgrad", "excess-mtl"]
)
def test_an_interrupted_run_ends_where_it_would_have(spec):
    benchmark, method = protocol("train.sampling='joint'"), parse_method(f"shared+{spec}")
    whole = Trainer(method, benchmark, make_dataset(), 0, "fp32")
    for step in range(5):
        if step == 3:
            tensors, state = {k: v.clone() for k, v in whole.tensors().items()}, whole.state
        whole.step()
    resumed = Trainer(method, benchmark, make_dataset(), 0, "fp32")
    state.step = 3
    resumed.restore(tensors, state)
    for _ in range(2):
        resumed.step()
    for name, expected in state_of(whole.architecture).items():
        assert torch.equal(state_of(resumed.architecture)[name], expected), name
    assert torch.equal(torch.stack(resumed.curve._pending), torch.stack(whole.curve._pending[3:]))


@pytest.mark.parametrize("name", ["rlw", "graddrop", "pcgrad", "gradvac"])
def test_chance_comes_from_the_global_generator(name):
    gradients = random_gradients(6, 8)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(update(make(name, 6), gradients, start=0.1)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_learned_weights_are_trained_by_the_runs_optimiser_and_famos_are_not():
    assert [p.shape for p in make("uw", 3).parameters()] == [(3,)]
    assert [p.shape for p in make("imtl-l", 3).parameters()] == [(3,)]
    assert list(make("famo", 3).parameters()) == []


@pytest.mark.parametrize("name", [*LOSSES, *GRADIENTS])
def test_one_task_is_trained_as_by_the_plain_mean(solvers, name):
    torch.manual_seed(0)
    balancer = make(name, 1)
    for _ in range(2):
        combined, weights, net = update(balancer, [[0.3, 0.4]])
    if name not in OWN_SCALE:
        close(combined, [0.3, 0.4], rtol=1e-4, atol=0)
        close(weights, [1], rtol=1e-4, atol=0)
    assert combined.isfinite().all()
    close(net.own[0].grad, 0.7)
