"""Optimisers by name: torch's own classes with their options, and what of a protocol they get."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from support import make_dataset, protocol

from mtlbench.cli.listing import make_listing
from mtlbench.errors import UserError
from mtlbench.optimisers import find_optimiser
from mtlbench.options import described, options_of
from mtlbench.plugins import load_plugins
from mtlbench.registry import OPTIMISERS
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

load_plugins()


def trainer(*settings: str, method: str = "shared") -> Trainer:
    return Trainer(parse_method(method), protocol(*settings), make_dataset(), 0, "fp32")


@pytest.mark.parametrize("spelling", ["RMSprop", "rmsprop"])
def test_a_class_of_torch_takes_its_options(spelling):
    made = trainer(f"train.optimiser={spelling}", "train.optimiser_options={alpha=0.9, centered=true}").optimiser
    assert type(made) is torch.optim.RMSprop
    assert {(g["alpha"], g["centered"]) for g in made.param_groups} == {(0.9, True)}


def test_an_option_that_the_class_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"The optimiser 'rmsprop' has no option 'alpa'\. Did you mean: alpha\?"):
        trainer("train.optimiser=rmsprop", "train.optimiser_options={alpa=0.9}")
    with pytest.raises(UserError, match=r"The optimiser 'rmsprop' can't be used this way: Invalid alpha value: -1"):
        trainer("train.optimiser=rmsprop", "train.optimiser_options={alpha=-1.0}")


def test_weight_decay_is_set_in_one_place():
    """As an option of the class it would do nothing: every group of parameters has the protocol's."""
    with pytest.raises(UserError, match=r"can't set weight_decay: set train\.weight_decay\."):
        trainer("train.optimiser=adamw", "train.optimiser_options={weight_decay=0.1}")


def test_momentum_is_a_setting_of_sgd_with_todays_constant():
    assert {g["momentum"] for g in trainer("train.optimiser=sgd").optimiser.param_groups} == {0.9}
    changed = trainer("train.optimiser=sgd", "train.momentum=0.5").optimiser
    assert {g["momentum"] for g in changed.param_groups} == {0.5}


def test_what_an_optimiser_can_t_do_is_said():
    with pytest.raises(UserError, match="evaluates a step several times"):
        find_optimiser("LBFGS")
    with pytest.raises(UserError, match="Unknown optimiser 'sparseadam'"):
        find_optimiser("SparseAdam")


@pytest.mark.parametrize(("name", "scale"), [("rmsprop", 1.0), ("adamw", 1.0), ("sgd", None)])
def test_learning_rate_scales_are_asked_for_the_kind_of_optimiser(name, scale, monkeypatch):
    asked: list[bool] = []
    made = trainer(method="cross-stitch").architecture
    before = type(made).learning_rate_scales

    def scales(self: object, *, adaptive: bool) -> dict[str, float]:
        asked.append(adaptive)
        return before(self, adaptive=adaptive)

    monkeypatch.setattr(type(made), "learning_rate_scales", scales)
    trainer(f"train.optimiser={name}", method="cross-stitch")
    assert asked[-1] is (scale is not None)  # building it asks too, whether rates are above 0


@pytest.mark.parametrize("name", [name for name in OPTIMISERS if name != "muon"])
def test_each_trains_and_goes_on_bit_for_bit(name):
    settings = (f"train.optimiser={name}", "train.steps=4", "train.weight_decay=0")
    first, second = trainer(*settings), trainer(*settings)
    begun = {k: v.clone() for k, v in first.architecture.state_dict().items()}
    for trained in (first, first):
        trained.step()
    kept, state = {k: v.clone() for k, v in first.tensors().items()}, replace(first.state)
    second.restore(kept, state)
    for trained in (first, first, second, second):
        trained.step()
    mine, theirs = first.architecture.state_dict(), second.architecture.state_dict()
    assert first.state.step == second.state.step == 4
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert not all(torch.equal(mine[k], begun[k]) for k in mine)


def test_the_list_shows_the_options_that_each_takes_by_the_settings_name():
    shown = {line[0]: line[1] for line in make_listing("optimisers", "shoes", []).lines}
    assert shown["sgd"] == "dampening=0, nesterov=false, maximize=false"  # momentum is train.momentum
    assert shown["adamw"] == "betas=0.9:0.999, eps=1e-08, amsgrad=false, maximize=false"
    for name in OPTIMISERS:
        kind = find_optimiser(name)
        assert shown[name] == described(kind) != ""
        assert set(options_of(kind)) <= set(inspect.signature(kind.make).parameters) - {"params", "lr", "weight_decay"}


def test_an_optimiser_that_the_network_does_not_suit_says_so():
    with pytest.raises(
        UserError, match="The optimiser 'muon' can't be used this way: Muon only supports 2D parameters"
    ):
        trainer("train.optimiser=muon")


def test_what_has_another_shape_than_its_parameter_goes_to_the_parameters_device():
    checkpoint = trainer("train.optimiser=adafactor").checkpoint
    rows, parameter = torch.ones(3, 1), torch.empty(3, 4, device="meta")  # Adafactor keeps means of rows and columns
    assert checkpoint._placed("row_var", rows, parameter, None).device.type == "meta"
    assert checkpoint._placed("step", torch.tensor(2.0), parameter, None).device.type == "cpu"


def test_a_step_counter_stays_where_the_optimiser_keeps_it():
    first, second = trainer("train.optimiser=adagrad"), trainer("train.optimiser=adagrad")
    first.step()
    second.restore(first.tensors(), first.state)
    for parameter, state in second.optimiser.state.items():
        assert state["step"].device.type == "cpu"
        assert state["sum"].device == parameter.device
        assert state["step"].item() == 1
