"""Optimisers and schedules by name."""

from __future__ import annotations

import pytest
import torch
from support import make_dataset, protocol

from mtlbench.benchmark import load_benchmark
from mtlbench.errors import UserError
from mtlbench.optimisers import find_optimiser
from mtlbench.plugins import load_plugins
from mtlbench.registry import OPTIMISERS
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer
from mtlbench.training.schedules import schedule_factor

load_plugins()


def trainer(*settings: str) -> Trainer:
    return Trainer(parse_method("shared"), protocol(*settings), make_dataset(), 0, "fp32")


def test_momentum_is_a_setting():
    assert trainer("train.optimiser=sgd").optimiser.param_groups[0]["momentum"] == 0.9
    assert trainer("train.optimiser=sgd", "train.momentum=0.5").optimiser.param_groups[0]["momentum"] == 0.5


def test_any_optimiser_of_torch_goes_by_its_name_with_its_options():
    made = trainer("train.optimiser=RMSprop", "train.optimiser_options={alpha=0.9, centered=true}").optimiser
    assert isinstance(made, torch.optim.RMSprop)
    assert (made.param_groups[0]["alpha"], made.param_groups[0]["centered"]) == (0.9, True)


def test_the_first_step_of_the_modulation_paper_is_that_of_tensorflow():
    """0.01 g / sqrt(0.1 + g^2): 3.2e-6 at a gradient of 1e-4, where torch's own start would step by 0.01."""
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1e-4, 1.0])
    find_optimiser("adagrad")([{"params": [weight]}], load_benchmark("celeba").train).step()
    assert (1 - weight.detach()).tolist() == pytest.approx([3.162e-6, 0.01 / 1.1**0.5], rel=0.03)
    assert load_benchmark("celeba", quick=True).train.optimiser_options == {}  # adamw has no such option


@pytest.mark.parametrize("name", ["adamax", "nadam", "radam", "adadelta", "asgd", "rmsprop", "adafactor"])
def test_they_train(name):
    run = trainer(f"train.optimiser={name}", "train.weight_decay=0", "train.lr=0.001")
    before = [p.detach().clone() for p in run.architecture.parameters()]
    run.step()
    assert any(not torch.equal(p, q) for p, q in zip(run.architecture.parameters(), before, strict=True))


def test_an_option_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"optimiser 'rmsprop' has no option 'alpa'. Did you mean: alpha\?"):
        trainer("train.optimiser=rmsprop", "train.optimiser_options={alpa=0.9}")


def test_only_gradient_descent_is_not_adaptive():
    assert {name for name in OPTIMISERS if not find_optimiser(name).adaptive} == {"sgd", "asgd"}


def test_a_linear_schedule_falls_to_0():
    train = protocol("train.schedule=linear", "train.steps=10").train
    assert [schedule_factor(train, step) for step in (0, 5, 9)] == pytest.approx([1.0, 0.5, 0.1])


def test_a_resumed_adagrad_counts_its_steps_where_it_counted_them():
    begun, resumed = (trainer("train.optimiser=adagrad") for _ in range(2))
    begun.step()
    held = {name: v["step"].device for name, v in enumerate(begun.optimiser.state.values())}
    resumed.restore(begun.tensors(), begun.state)
    assert {name: v["step"].device for name, v in enumerate(resumed.optimiser.state.values())} == held
