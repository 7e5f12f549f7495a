"""The option `rate`: a multiple of the learning rate for the parameters of a method's own kind, under any optimiser."""

from __future__ import annotations

import inspect

import pytest
import torch
from support import TASKS, make_dataset, protocol

from mtlbench.checks import BalancerSubject, Subject
from mtlbench.checks.architecture.devices import a_rate_acts
from mtlbench.checks.balancer import a_rate_acts as a_balancers_rate_acts
from mtlbench.checks.items import NotApplicable
from mtlbench.errors import UserError
from mtlbench.networks import build
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES, BALANCERS
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

load_plugins()
OWN_KIND = {  # method -> how the names of its own kind of parameters begin
    "modulation": "scales.",
    "film": "rows.",
    "channel-mixing": "matrices.",
    "csn": "masks.",
    "embedding-mask": "masks.",
    "task-se": "gates.",
    "cross-stitch": "units.",
    "nddr": "layers.",
    "mtan": "attention.",
    "mmoe": "gates.",
    "cgc": "levels.0.gates.",
    "dselect-k": "gates.",
}


def trainer(method: str, *settings: str) -> Trainer:
    return Trainer(parse_method(method), protocol(*settings), make_dataset(), 0, "fp32")


@pytest.mark.parametrize("method", OWN_KIND)
@pytest.mark.parametrize("optimiser", ["adamw", "adagrad", "sgd"])
def test_it_multiplies_the_learning_rate_of_these_alone(method, optimiser):
    made = trainer(f"{method}[rate=7]", f"train.optimiser={optimiser}", "train.lr=0.01", "train.schedule=cosine")
    names = {id(p): n for n, p in made.architecture.named_parameters()}
    for step in range(2):
        made.step()
        factor = 1.0 if step == 0 else 0.5 * (1 + torch.cos(torch.tensor(torch.pi / 6)).item())
        for group in made.optimiser.param_groups:
            of = {names[id(p)].startswith(OWN_KIND[method]) for p in group["params"] if id(p) in names}
            assert len(of) == 1
            assert group["lr"] == pytest.approx(0.01 * (7 if of == {True} else 1) * factor)


@pytest.mark.parametrize("method", OWN_KIND)
def test_it_is_1_by_default_with_adaptive_optimisers(method):
    architecture, _ = build(parse_method(method), protocol(), TASKS, 0)
    assert set(architecture.learning_rate_scales(adaptive=True).values()) == {1.0}
    assert set(ARCHITECTURES.get(method).target.search) >= {"rate"}


def test_gates_of_every_level_have_it():
    architecture, _ = build(parse_method("ple[rate=5]"), protocol(), TASKS, 0)
    scales = architecture.learning_rate_scales(adaptive=True)
    gates = {n for n, _ in architecture.named_parameters() if "gates." in n}
    assert gates
    assert gates == {n for n, _ in architecture.named_parameters() if n.startswith(tuple(scales))}


@pytest.mark.parametrize("balancer", ["uw", "imtl-l"])
def test_loss_weights_that_are_learned_have_one(balancer):
    made = trainer(f"{balancer}[rate=50]")
    before = made.balancer.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    slow = trainer(balancer)
    for one in (made, slow):
        one.step()
    own = {id(p) for p in made.balancer.parameters()}
    scales = {g["scale"] for g in made.optimiser.param_groups if {id(p) for p in g["params"]} & own}
    assert scales == {50.0}
    for name, tensor in before.items():
        far = (made.balancer.state_dict()[name] - tensor).abs()
        assert torch.allclose(far, 50 * (slow.balancer.state_dict()[name] - tensor).abs(), rtol=1e-3)
        assert far.all()


def test_one_that_is_not_above_0_is_refused():
    for spec in ("modulation[rate=0]", "cross-stitch[rate=-1]", "nddr[rate=0]", "uw[rate=0]"):
        with pytest.raises(UserError, match="a rate, a multiple of the learning rate, must be above 0"):
            trainer(spec)


def test_fixed_masks_have_none():
    architecture, _ = build(parse_method("csn[masks=fixed,rate=9]"), protocol(), TASKS, 0)
    assert architecture.learning_rate_scales(adaptive=True) == {}


@pytest.mark.parametrize("optimiser", ["adamw", "adagrad", "sgd"])
def test_an_interrupted_run_goes_on_bit_for_bit(optimiser):
    settings = (f"train.optimiser={optimiser}", "train.lr=0.01")
    whole, first, second = (trainer("modulation+uw[rate=20]", *settings) for _ in range(3))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        first.step()
    kept = {k: v.clone() for k, v in first.tensors().items()}
    second.restore(kept, first.state)
    for _ in range(2):
        second.step()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name


def test_a_larger_one_lets_vectors_go_further():
    near, far = trainer("modulation"), trainer("modulation[rate=30]")
    for made in (near, far):
        for _ in range(6):
            made.step()
    gone = [
        max((p - 1).abs().max().item() for n, p in made.architecture.named_parameters() if n.startswith("scales."))
        for made in (near, far)
    ]
    assert gone[1] > 10 * gone[0]


def test_check_proves_it_of_all_that_have_one():
    """Each class with the option, bundled ones all."""
    acted = set()
    for registry, wrap, item in (
        (ARCHITECTURES, "{}", lambda method: a_rate_acts(Subject(method))),
        (BALANCERS, "shared+{}", lambda method: a_balancers_rate_acts(BalancerSubject(method))),
    ):
        for name in registry:
            if "rate" in inspect.signature(registry.get(name).target).parameters:
                assert item(parse_method(wrap.format(name))).startswith("on ")
                acted.add(name)
    assert acted >= {*OWN_KIND, "ple", "uw", "imtl-l"}
    with pytest.raises(NotApplicable):
        a_rate_acts(Subject(parse_method("shared")))
